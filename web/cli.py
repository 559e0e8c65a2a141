"""The commands of the HTTP faces; each one's body is in its own package."""

from web.demo import demo
from web.engine.command import engine
from web.serve import serve

__all__ = ["demo", "engine", "serve"]
