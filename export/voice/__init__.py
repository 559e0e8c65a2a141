"""The speech model: a Whisper checkpoint to ONNX graphs, through optimum, in a virtual environment of its own."""
