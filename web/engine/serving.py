"""The server around the engine's application: as many threads as it has jobs, refusals as OpenAI words them."""

import socket
from http import HTTPStatus
from typing import Any, Final

from flask import Flask

from web.engine.api_errors import ApiError
from web.engine.limits import EngineLimits
from web.server import HttpServer

_SPARE_THREADS: Final = 6
"""Beside one for each job that runs or waits: health, cancel, and refusals."""


def engine_server(app: Flask, listener: socket.socket, limits: EngineLimits) -> HttpServer:
    """Put the server together; the caller runs it."""
    threads = limits.queue_limit + 1 + _SPARE_THREADS
    return HttpServer(app, listener, threads=threads, max_body_bytes=limits.max_body_bytes, refusal=_refusal)


def _refusal(status: HTTPStatus, sentence: str) -> dict[str, Any]:
    return ApiError(status, sentence, code=status.name.lower()).to_json()
