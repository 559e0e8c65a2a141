"""The WSGI server around both faces: waitress, made to answer its own refusals in JSON and to wait for nobody.

Bodies stay in memory, whatever their size: waitress would write a large one, a patient's photo, to a temporary file.
Source: waitress 3.0, "Arguments to waitress.serve".
"""

import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask
from waitress.utilities import Error

MAX_CONNECTIONS: Final = 64
MAX_HEADER_BYTES: Final = 16 << 10
IDLE_CONNECTION_S: Final = 30
REQUEST_S: Final = 60.0
"""Longest time for a request's head and body to arrive: 64 MiB at 1 MiB/s."""
_LOOP_S: Final = 1.0
_MIB: Final = 1 << 20


def _plain_refusal(status: HTTPStatus, sentence: str) -> dict[str, str]:  # noqa: ARG001 - others say the status too
    return {"error": sentence}


class _JsonErrorTask(ErrorTask):  # type: ignore[misc] # waitress has no types
    """Answers a request that never reaches the application."""

    def execute(self) -> None:
        error = self.request.error
        status = HTTPStatus(error.code)
        body = msgspec.json.encode(self.channel.server.refusal(status, f"{status.phrase}: {error.body}."))
        self.status = f"{status.value} {status.phrase}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.response_headers.append(("Connection", "close"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _SlowRequestError(Error):  # type: ignore[misc] # waitress has no types
    """The request took too long to arrive."""

    code = HTTPStatus.REQUEST_TIMEOUT.value
    reason = "Request Timeout"


class _Channel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    """A connection that must send its request in time and whose errors are JSON."""

    error_task_class = _JsonErrorTask
    request: Any
    request_began_at_s: float | None = None

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.request_began_at_s = time.monotonic()
        return bool(super().received(data))

    def readable(self) -> bool:
        # waitress asks this of every connection on each turn of its loop; its own idea of an idle connection is one
        # that sends nothing, so that a byte now and then would hold it for ever.
        self._refuse_slow_request()
        return bool(super().readable())

    def _refuse_slow_request(self) -> None:
        began_at_s = self.request_began_at_s
        if began_at_s is None or time.monotonic() - began_at_s < REQUEST_S:
            return
        with self.requests_lock:
            slow = self.request
            if slow is None or self.requests:
                return
            slow.error = _SlowRequestError(f"the request did not arrive within {REQUEST_S:.0f} seconds")
            self.request, self.request_began_at_s = None, None
            self.requests.append(slow)
            self.server.add_task(self)


class HttpServer:
    """Serves one application on one listening socket until it is told to stop.

    Args:
        app: What to serve.
        listener: A bound socket.
        threads: Requests that are answered at the same time; a stream holds one for as long as it lasts.
        max_body_bytes: The application refuses a larger body in its own words; what never reaches it is refused here.
        refusal: Turns a status and a sentence into the JSON of the application's errors.
        is_behind_tls: Whether another process ends TLS before it, so that its addresses begin with https.
    """

    def __init__(
        self,
        app: Flask,
        listener: socket.socket,
        *,
        threads: int,
        max_body_bytes: int,
        refusal: Callable[[HTTPStatus, str], Any] = _plain_refusal,
        is_behind_tls: bool = False,
    ) -> None:
        self._connections: dict[int, Any] = {}
        self._stop = threading.Event()
        self._server = create_server(
            app,
            map=self._connections,
            _start=False,
            sockets=[listener],
            threads=threads,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=IDLE_CONNECTION_S,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=max_body_bytes + 1,
            inbuf_overflow=max_body_bytes + _MIB,
            outbuf_overflow=64 * _MIB,
            # Lets waitress go on reading while it answers, which is how it notices that a client has left.
            channel_request_lookahead=1,
            asyncore_use_poll=True,
            log_socket_errors=False,
            ident="dermstation",
            url_scheme="https" if is_behind_tls else "http",
            clear_untrusted_proxy_headers=True,
        )
        self._server.channel_class = _Channel
        self._server.refusal = refusal
        self._server.accept_connections()

    def run(self) -> None:
        """Serve until `stop` is called."""
        while not self._stop.is_set():
            wasyncore.loop(timeout=_LOOP_S, use_poll=True, map=self._connections, count=1)

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler or another thread."""
        if not self._stop.is_set():
            # Only once: the second signal of an impatient service manager may find the loop closed.
            self._stop.set()
            self._server.pull_trigger()

    def close(self, drain_s: float = 2.0) -> None:
        """Accept nothing more, let answers that are ending be sent, and close every connection."""
        self._server.accepting = False
        self._server.socket.close()
        self._connections.pop(self._server._fileno, None)  # noqa: SLF001 - waitress has no way to stop accepting only
        deadline_s = time.monotonic() + drain_s
        while self._is_answering() and time.monotonic() < deadline_s:
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._connections, count=1)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._connections)

    def _is_answering(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)
