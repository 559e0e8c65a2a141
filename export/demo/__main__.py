"""Entry point of `python -m export.demo`."""

from export.demo.cli import main

main()
