"""The front: a process of its own that faces the network, ends TLS, keeps the limits, and passes on what is left.

Floods, half-open handshakes and slow clients cost this process time, and the kernel gives it less than the station's.
It holds the box's certificate and nothing else: no records, no keys of theirs, no files. Before the first connection it
shuts itself in (`front_main.py`): whoever takes it over can answer phones and ask the station what a phone may ask, and
do nothing else.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import h11

from web.lan.control import Settings
from web.lan.http import READ_BYTES, RefusedError, Request, read_request, refused, whole_answer
from web.lan.limits import Counts
from web.lan.relay import Relay

logger = logging.getLogger("web.lan.front")
_TLS_HANDSHAKE: Final = b"\x16"
"""First byte of a TLS connection (RFC 8446, 5.1: content type handshake)."""
_REQUESTS_A_CONNECTION: Final = 200
_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of nothing: a refused connection leaves no trace in the kernel."""
_WRITE_BUFFER_BYTES: Final = 256 << 10
_RETRY_S: Final = 0.05
_LEAVE_S: Final = 3.0
_TURNS: Final = 20
"""Of the loop, until a connection that was aborted has gone from the counts."""


class Front:
    """Takes connections from the listeners until the station closes the control socket."""

    def __init__(self, settings: Settings, upstream: socket.socket) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self._tls.set_alpn_protocols(["http/1.1"])
        self.settings = settings
        self._load(settings)
        self._loop = asyncio.get_running_loop()
        self.counts = Counts(limits=settings.limits, now_s=self._loop.time())
        self._relay = Relay(upstream, settings.limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._new: set[asyncio.Task[Any] | None] = set()
        """Those whose first request has no answer yet."""
        self._writers: dict[asyncio.StreamWriter, str] = {}
        """Connections whose device is known, by its id."""
        self._conversing: set[asyncio.StreamWriter] = set()
        self._resting: dict[asyncio.StreamWriter, None] = {}
        """Those that wait for their next request, the longest first."""
        self._answering = 0

    def cut(self, device_id: str) -> None:
        """End every connection of a device."""
        for writer, owner in list(self._writers.items()):
            if owner == device_id:
                writer.transport.abort()

    async def finish(self) -> None:
        """Wait until what is being answered has its answer, within reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                while self._is_engaged():
                    await asyncio.sleep(_RETRY_S)

    def _is_engaged(self) -> bool:
        is_sending = any(one.transport.get_write_buffer_size() for one in self._conversing)
        return bool(self._answering or self._new) or is_sending

    async def serve(self, listener: socket.socket) -> None:
        """Accept for ever."""
        while True:
            while not self.counts.may_accept(self._loop.time()):
                await asyncio.sleep(_RETRY_S)
            try:
                connection, peer = await self._loop.sock_accept(listener)
            except OSError:  # it left again, or there are no descriptors
                await asyncio.sleep(_RETRY_S)
                continue
            address = str(peer[0])
            await self._make_room()
            if not self.counts.open(address, self._loop.time()):
                _abort(connection)
                continue
            task = self._loop.create_task(self._attend(connection, address))
            for tasks in (self._tasks, self._new):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _make_room(self) -> None:
        """End the connection that has rested longest between two requests, if there are as many as there may be.

        A browser keeps its connections and opens another when one has ended; so a dozen phones that rest do not shut
        out the next. Who has not sent a whole request yet rests nowhere here: that would be a way in for a flood.
        """
        limit = self.settings.limits.connections
        while self.counts.connections >= limit and self._resting:
            writer = next(iter(self._resting))
            del self._resting[writer]
            writer.transport.abort()
            for _ in range(_TURNS):
                if self.counts.connections < limit:
                    break
                await asyncio.sleep(0)

    async def _attend(self, connection: socket.socket, address: str) -> None:
        try:
            if await self._is_tls(connection):
                await self._encrypted(connection, address)
            else:
                await self._plain(connection)
        except (OSError, TimeoutError, ssl.SSLError, h11.ProtocolError, EOFError):
            pass  # the other side is slow, broken or gone; each is every day's
        except Exception:  # a connection's edge: the others go on
            logger.exception("connection failed")
        finally:
            connection.close()
            self.counts.close(address, self._loop.time())

    async def _is_tls(self, connection: socket.socket) -> bool:
        """Look at the first byte, and leave it there."""
        connection.settimeout(0)
        readable = asyncio.Event()
        self._loop.add_reader(connection, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), self.settings.limits.handshake_s)
        finally:
            self._loop.remove_reader(connection)
        first = connection.recv(1, socket.MSG_PEEK)
        if not first:
            raise EOFError
        return first == _TLS_HANDSHAKE

    async def _encrypted(self, connection: socket.socket, address: str) -> None:
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._tls,
            ssl_handshake_timeout=self.settings.limits.handshake_s,
            ssl_shutdown_timeout=1.0,
        )
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        self._conversing.add(writer)
        try:
            await self._converse(reader, writer, address)
            writer.close()
            async with asyncio.timeout(self.settings.limits.header_s):
                await writer.wait_closed()
        finally:
            self._writers.pop(writer, None)
            self._conversing.discard(writer)
            self._resting.pop(writer, None)
            transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        limits = self.settings.limits
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_max_bytes)
        for number in range(_REQUESTS_A_CONNECTION):
            request = None
            try:
                if number:
                    self._resting[writer] = None
                request = await read_request(http, reader, limits, is_first=number == 0)
                self._resting.pop(writer, None)
                if request is None:
                    return
                await self._answer(http, writer, request, address)
            except RefusedError as refusal:
                writer.write(refused(http, refusal, is_head=request is not None and request.method == "HEAD"))
                await self._drained(writer)
                return
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _answer(self, http: h11.Connection, writer: asyncio.StreamWriter, request: Request, address: str) -> None:
        if not self.counts.request(address, self._loop.time()):
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "The box has too much to do. Wait a moment.")
        self._answering += 1
        try:
            await self._relay.answer(http, writer, request, address, partial(self._own, writer))
        finally:
            self._answering -= 1
            self._new.discard(asyncio.current_task())
            self.counts.answered(address, self._loop.time())

    def _own(self, writer: asyncio.StreamWriter, device_id: str) -> None:
        if device_id:
            self._writers[writer] = device_id

    async def _plain(self, connection: socket.socket) -> None:
        """Answer without TLS: how to come in, and the authority's certificate; to everybody the same."""
        limits = self.settings.limits
        reader, writer = await asyncio.open_connection(sock=connection, limit=READ_BYTES)
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_max_bytes)
        try:
            request = await read_request(http, reader, limits, is_first=True)
            answer = b"" if request is None else self._guidance(http, request)
        except RefusedError as refusal:
            answer = refused(http, refusal)
        try:
            writer.write(answer)
            await self._drained(writer)
            writer.close()
            async with asyncio.timeout(limits.header_s):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    def _guidance(self, http: h11.Connection, request: Request) -> bytes:
        is_head = request.method == "HEAD"
        if request.method not in {"GET", "HEAD"}:
            refusal = RefusedError(HTTPStatus.FORBIDDEN, "Without encryption there is only one page here.")
            return refused(http, refusal, is_head=is_head)
        path = request.target.partition(b"?")[0]
        if path == b"/ca.crt":
            media_type = "application/x-x509-ca-cert"
            return whole_answer(http, HTTPStatus.OK, self.settings.authority_der, media_type, is_head=is_head)
        status = HTTPStatus.OK if path == b"/" else HTTPStatus.NOT_FOUND
        page = self.settings.guide_html.encode()
        return whole_answer(http, status, page, "text/html; charset=utf-8", is_head=is_head)

    async def _drained(self, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self.settings.limits.header_s):
            await writer.drain()

    def _load(self, settings: Settings) -> None:
        # OpenSSL reads keys from files only; this one is in memory and has no name.
        content = (settings.key_pem + settings.chain_pem).encode()
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            self._tls.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def _abort(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    connection.close()
