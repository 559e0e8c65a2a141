"""The engine's HTTP face: an OpenAI-compatible chat API over one model, on a Unix socket or on loopback."""
