"""One request passed on to the station, and its answer passed back as fast as the device takes it.

The station answers into its own memory and is free again; only this process waits for a slow reader.
"""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11

from web.lan.control import DEVICE_HEADER, PEER_HEADER
from web.lan.http import READ_BYTES, RefusedError, Request, answer_headers
from web.lan.limits import Limits
from web.lan.passing import pass_connection

_AWAY: Final = "The box is starting. Try again in a moment."
_BUSY: Final = "The box has too much to do. Wait a moment."
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """The way to the station, for a few requests at a time."""

    def __init__(self, upstream: socket.socket, limits: Limits) -> None:
        self._upstream, self._limits = upstream, limits
        self._slots = asyncio.Semaphore(limits.answering)

    async def answer(
        self,
        http: h11.Connection,
        writer: asyncio.StreamWriter,
        request: Request,
        address: str,
        on_device: Callable[[str], None],
    ) -> None:
        """Have the station answer one request.

        Args:
            http: The device's connection.
            writer: Where its answer goes.
            request: All of it.
            address: Who asks.
            on_device: Told the id of a paired device, before its answer is sent.

        Raises:
            RefusedError: The station is too busy, or away; nothing was sent yet.
            OSError, TimeoutError, h11.RemoteProtocolError: The answer broke off.
        """
        try:
            async with asyncio.timeout(self._limits.slot_wait_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, _BUSY) from error
        try:
            station, streams, head = await self._asked(request, address)
            try:
                device_id = [value for name, value in head.headers if name == DEVICE_HEADER.lower().encode()]
                on_device(device_id[0].decode("ascii") if device_id else "")
                await self._pass_back(http, writer, (station, streams[0]), head)
            finally:
                streams[1].transport.abort()
        finally:
            self._slots.release()

    async def _asked(self, request: Request, address: str) -> tuple[h11.Connection, _Streams, h11.Response]:
        """Send the request; return the connection and the head of the station's answer."""
        station = h11.Connection(h11.CLIENT)
        headers = [*request.headers, (PEER_HEADER.encode(), address.encode()), (b"Connection", b"close")]
        if request.body:
            headers.append((b"Content-Length", str(len(request.body)).encode()))
        content = station.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
        if request.body:
            content += station.send(h11.Data(data=request.body)) or b""
        content += station.send(h11.EndOfMessage()) or b""
        try:
            async with asyncio.timeout(self._limits.answer_s):
                connection = pass_connection(self._upstream)
                reader, writer = await asyncio.open_connection(sock=connection, limit=READ_BYTES)
                try:
                    writer.write(content)
                    head = await _next(station, reader)
                except BaseException:
                    writer.transport.abort()
                    raise
        except (TimeoutError, OSError, h11.RemoteProtocolError) as error:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _AWAY) from error
        if not isinstance(head, h11.Response):
            writer.transport.abort()
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, _AWAY)
        return station, (reader, writer), head

    async def _pass_back(
        self,
        http: h11.Connection,
        writer: asyncio.StreamWriter,
        upstream: tuple[h11.Connection, asyncio.StreamReader],
        head: h11.Response,
    ) -> None:
        answer = h11.Response(status_code=head.status_code, headers=answer_headers(head.headers), reason=head.reason)
        writer.write(http.send(answer) or b"")
        length = sum(int(value) for name, value in head.headers if name == b"content-length")
        async with asyncio.timeout(self._limits.answer_s + length / self._limits.send_min_bytes_per_s):
            while isinstance(part := await _next(*upstream), h11.Data):
                writer.write(http.send(part) or b"")
                await writer.drain()
        writer.write(http.send(h11.EndOfMessage()) or b"")


async def _next(station: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | None:
    """Return the station's next event; None when it is told to pause, which nothing here brings about."""
    while (event := station.next_event()) is h11.NEED_DATA:
        station.receive_data(await reader.read(READ_BYTES))
    return event if isinstance(event, h11.Event) else None
