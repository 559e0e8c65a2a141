"""Workstation side: a Hugging Face checkpoint becomes a quantized ONNX bundle; never imported on the box."""
