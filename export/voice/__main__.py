"""`python -m export.voice`: the same as `dermstation export-voice`."""

from export.voice.cli import main

main()
