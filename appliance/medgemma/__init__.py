"""MedGemma on ONNX Runtime: from photos and a prompt to streamed text; no records, no network, no torch."""
