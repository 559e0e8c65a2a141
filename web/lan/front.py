"""The front: a process of its own that faces the network, ends TLS, keeps the limits, and passes on what is left.

Floods, half-open handshakes and slow clients cost this process time, and the kernel gives it less than the station's.
It holds the box's certificate and nothing else: no records, no keys of theirs, no files.
Run by `front_process.py`: python -m web.lan.front CONTROL LISTENER..., numbers of inherited descriptors.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import ssl
import struct
import sys
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import msgspec

from web.lan.control import LINE_MAX_BYTES, READY, CutDevice, Settings, message_of
from web.lan.http import READ_BYTES, RefusedError, Request, read_request, refused, whole_answer
from web.lan.limits import Counts
from web.lan.relay import Relay

logger = logging.getLogger("web.lan.front")
_TLS_HANDSHAKE: Final = b"\x16"
"""First byte of a TLS connection (RFC 8446, 5.1: content type handshake)."""
_NICE: Final = 10
_MEMORY_BYTES: Final = 768 << 20
_FILES: Final = 512
_REQUESTS_A_CONNECTION: Final = 200
_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of nothing: a refused connection leaves no trace in the kernel."""
_WRITE_BUFFER_BYTES: Final = 256 << 10
_RETRY_S: Final = 0.05


class Front:
    """Takes connections from the listeners until the station closes the control socket."""

    def __init__(self, settings: Settings) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self._tls.set_alpn_protocols(["http/1.1"])
        self.settings = settings
        self._load(settings)
        self._loop = asyncio.get_running_loop()
        self.counts = Counts(limits=settings.limits, now_s=self._loop.time())
        self._relay = Relay(settings.upstream, settings.limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: dict[asyncio.StreamWriter, str] = {}
        """Connections whose device is known, by its id."""

    def update(self, settings: Settings) -> None:
        """Go on with another certificate; connections that are open keep theirs."""
        self._load(settings)
        self.settings = settings

    def cut(self, device_id: str) -> None:
        """End every connection of a device."""
        for writer, owner in list(self._writers.items()):
            if owner == device_id:
                writer.transport.abort()

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
            if not self.counts.open(address, self._loop.time()):
                _abort(connection)
                continue
            task = self._loop.create_task(self._attend(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
        try:
            await self._converse(reader, writer, address)
            writer.close()
            async with asyncio.timeout(self.settings.limits.header_s):
                await writer.wait_closed()
        finally:
            self._writers.pop(writer, None)
            transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        limits = self.settings.limits
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_max_bytes)
        for number in range(_REQUESTS_A_CONNECTION):
            request = None
            try:
                request = await read_request(http, reader, limits, is_first=number == 0)
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
        try:
            await self._relay.answer(http, writer, request, address, partial(self._own, writer))
        finally:
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


async def _obey(front: Front, control: asyncio.StreamReader) -> None:
    """Do what the station says, until it is gone."""
    while line := await control.readline():
        message = message_of(line)
        if isinstance(message, CutDevice):
            front.cut(message.device_id)
        else:
            front.update(message)


async def _main(control: socket.socket, listeners: list[socket.socket]) -> None:
    reader, writer = await asyncio.open_connection(sock=control, limit=LINE_MAX_BYTES)
    settings = message_of(await reader.readline())
    if not isinstance(settings, Settings):
        raise msgspec.ValidationError("settings come first")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logger.debug("connection failed: %s", context.get("message")))
    front = Front(settings)
    tasks = [loop.create_task(front.serve(listener)) for listener in listeners]
    writer.write(READY)
    await _obey(front, reader)
    for task in tasks:
        task.cancel()


def _shut_in() -> None:
    """Give up what is not needed: priority, large memory, files, and core dumps with a key in them."""
    with contextlib.suppress(OSError):  # a service manager may forbid even that
        os.nice(_NICE)
    for limit, value in {
        resource.RLIMIT_AS: _MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_NOFILE: _FILES,
    }.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def main(arguments: list[str]) -> None:
    """Serve until the station is gone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _shut_in()
    control, *listeners = (socket.socket(fileno=int(number)) for number in arguments)
    for listener in listeners:
        listener.settimeout(0)
    gc.freeze()
    with contextlib.suppress(ConnectionError):  # the station is gone already
        asyncio.run(_main(control, listeners))


if __name__ == "__main__":
    main(sys.argv[1:])
