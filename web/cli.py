"""The commands of the HTTP faces; each one's body is in its own package."""

from web.engine.command import engine

__all__ = ["engine"]
