"""HTTP/1.1 at the front: one request read whole within its limits, one answer passed on.

The station sees a request only when all of it is here, so nobody slow ever holds one of its threads.
Source: RFC 9112; `h11`, which does the grammar.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11

from web.lan.control import OWN_HEADERS
from web.lan.limits import Limits

READ_BYTES: Final = 64 << 10
STRICT_HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
"""Of what the front says by itself; the station's answers bring their own."""
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_FORWARDED: Final = ("forwarded", "x-forwarded-", "x-real-ip", "x-client-ip", "via")


class RefusedError(Exception):
    """The request is not answered by the station; the connection ends with this status."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        self.status, self.sentence = status, sentence
        super().__init__(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, all of it."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def read_request(
    connection: h11.Connection, reader: asyncio.StreamReader, limits: Limits, *, is_first: bool
) -> Request | None:
    """Read the next request of a connection; None when the other side has nothing more to say.

    Raises:
        RefusedError: It is no HTTP, too large, or too slow.
    """
    try:
        async with asyncio.timeout(limits.header_s if is_first else limits.idle_s) as deadline:
            head = await _head(connection, reader, limits, deadline, is_first=is_first)
        if head is None:
            return None
        names = [name for name, _ in head.headers]
        # Two lengths are how one request is made to look like two.
        if not head.target.startswith(b"/") or {b"content-length", b"transfer-encoding"} <= set(names):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "This is not a request that the box understands.")
        # h11 bounds what is incomplete; a head that came in one piece is measured here.
        if len(head.target) + sum(len(name) + len(value) for name, value in head.headers) > limits.header_max_bytes:
            raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "That is more than this box takes at once.")
        length = _declared_length(head, limits)
        slowest_s = limits.header_s + (length or limits.body_max_bytes) / limits.body_min_bytes_per_s
        async with asyncio.timeout(min(limits.body_s, slowest_s)):
            body = await _body(connection, reader, limits)
    except TimeoutError as error:
        if not is_first and connection.their_state is h11.IDLE and not connection.trailing_data[0]:
            return None
        raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive.") from error
    except h11.RemoteProtocolError as error:
        status = HTTPStatus(error.error_status_hint or HTTPStatus.BAD_REQUEST)
        raise RefusedError(status, "This is not a request that the box understands.") from error
    return Request(
        method=head.method.decode("ascii"), target=head.target, headers=tuple(_passed_on(head.headers)), body=body
    )


async def _head(
    connection: h11.Connection,
    reader: asyncio.StreamReader,
    limits: Limits,
    deadline: asyncio.Timeout,
    *,
    is_first: bool,
) -> h11.Request | None:
    has_begun = is_first
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if isinstance(event, h11.ConnectionClosed):
            return None
        if event is not h11.NEED_DATA:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "This is not a request that the box understands.")
        received = await reader.read(READ_BYTES)
        if not has_begun:
            # Between two requests a connection may rest; once one has begun it must hurry like the first.
            has_begun = True
            deadline.reschedule(asyncio.get_running_loop().time() + limits.header_s)
        connection.receive_data(received)


def _declared_length(head: h11.Request, limits: Limits) -> int | None:
    declared = [value for name, value in head.headers if name == b"content-length"]
    if declared and int(declared[0]) > limits.body_max_bytes:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is more than this box takes at once.")
    return int(declared[0]) if declared else None


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, limits: Limits) -> bytes:
    body = bytearray()
    while True:
        event = connection.next_event()
        if isinstance(event, h11.EndOfMessage):
            return bytes(body)
        if isinstance(event, h11.Data):
            body += event.data
            if len(body) > limits.body_max_bytes:
                raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is more than this box takes at once.")
        elif event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        else:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "This is not a request that the box understands.")


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out what holds for one connection only, and everything with which somebody could pose as the front."""
    kept = []
    for name, value in headers:
        word = name.decode("ascii").lower()
        # WSGI reads X_Name and X-Name as one.
        if word in _HOP_BY_HOP or word == "content-length" or "_" in word:
            continue
        if not word.startswith((OWN_HEADERS, *_FORWARDED)):
            kept.append((name, value))
    return kept


def answer_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of the station's answer that a device gets."""
    return [
        (name, value)
        for name, value in headers
        if name.decode("ascii") not in _HOP_BY_HOP and not name.startswith(OWN_HEADERS.encode())
    ]


def whole_answer(
    connection: h11.Connection, status: HTTPStatus, body: bytes, media_type: str, *, is_head: bool = False
) -> bytes:
    """Write an answer of the front's own, after which the connection ends."""
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        *STRICT_HEADERS,
    ]
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        headers.append(("Retry-After", "5"))
    if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return b""
    content = connection.send(h11.Response(status_code=status, headers=headers, reason=status.phrase))
    if not is_head:
        content += connection.send(h11.Data(data=body))
    return (content or b"") + (connection.send(h11.EndOfMessage()) or b"")


def refused(connection: h11.Connection, refusal: RefusedError, *, is_head: bool = False) -> bytes:
    """Write why the front does not pass a request on."""
    return whole_answer(
        connection, refusal.status, f"{refusal.sentence}\n".encode(), "text/plain; charset=utf-8", is_head=is_head
    )
