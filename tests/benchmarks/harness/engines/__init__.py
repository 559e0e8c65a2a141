"""One file an engine: how it is loaded, how it reads a photo, how it writes tokens."""
