"""Runs this project and its peers side by side; `compare.py` is the command, README.md the method."""
