"""Everything that a network can do to a box at once, from fifty addresses, until its input ends; then counts as JSON.

python lan_flood.py BOX_ADDRESS PORT tls|plain|polite FACTS, with FACTS as `lan_station.py` prints them. `polite` is no
flood: fifty phones that each open a page a second. It gives way to other processes: on a real network an attacker's
processor is somebody else's.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

ADDRESSES = [f"10.77.0.{number}" for number in range(100, 150)]
NAME = "dermstation.local"
_REST_S = 0.02
"""After an attempt that failed at once, so that the flood is many connections and not one busy loop."""
_CONNECT_S = 5.0
counts: collections.Counter[str] = collections.Counter()
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Flood:
    """One address's share of it."""

    def __init__(self, box: str, port: int, source: str, tls: ssl.SSLContext | None, facts: dict[str, Any]) -> None:
        self._place = (box, port)
        self._source = source
        self._tls = tls
        self._facts = facts

    async def run(self, *, is_polite: bool) -> None:
        """Every kind of attack, for ever; or one page a second."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (self.polite,) if is_polite else (
            self.valid, self.unknown_host, self.garbage, self.handshake, self.half_open, self.slow_header,
            self.slow_body, self.big_body, self.endless_body, self.slow_reader, self.paired_reader,
        )  # fmt: skip
        await asyncio.gather(*(self._forever(kind) for kind in kinds))

    async def _forever(self, kind: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await kind()
                counts[f"{kind.__name__} ended"] += 1
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                counts[f"{kind.__name__} cut"] += 1
            await asyncio.sleep(_REST_S)

    @contextlib.asynccontextmanager
    async def _open(self, *, is_raw: bool = False) -> Any:
        tls = None if is_raw else self._tls
        async with asyncio.timeout(_CONNECT_S):
            streams = await asyncio.open_connection(
                *self._place, local_addr=(self._source, 0), ssl=tls, server_hostname=NAME if tls else None
            )
        counts["connections"] += 1
        try:
            yield streams
        finally:
            streams[1].transport.abort()

    async def _ask(self, path: str, host: str = NAME, cookie: str = "", times: int = 20) -> None:
        async with self._open() as (reader, writer):
            for _ in range(times):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                counts[f"status {head[9:12].decode()}"] += 1
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))

    async def valid(self) -> None:
        await self._ask("/")

    async def polite(self) -> None:
        await asyncio.sleep(random.random() * 2)
        started_s = time.monotonic()
        await self._ask("/", times=1)
        counts["polite answers"] += 1
        counts["polite over 500 ms"] += time.monotonic() - started_s > 0.5

    async def unknown_host(self) -> None:
        await self._ask("/", host="evil.example")

    async def paired_reader(self) -> None:
        for path in (self._facts["visit"], self._facts["photo"]):
            await self._ask(path, cookie=self._facts["phone"])

    async def garbage(self) -> None:
        for is_raw in (True, False):
            async with self._open(is_raw=is_raw) as (reader, writer):
                writer.write(os.urandom(4096))
                await reader.read()

    async def handshake(self) -> None:
        async with self._open():
            return

    async def half_open(self) -> None:
        async with self._open(is_raw=True) as (reader, _):
            await reader.read()

    async def slow_header(self) -> None:
        async with self._open() as (reader, writer):
            await self._dribble(reader, writer, f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX: ")

    async def slow_body(self) -> None:
        async with self._open() as (reader, writer):
            head = f"POST /pair HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 16000\r\n\r\n"
            await self._dribble(reader, writer, head)

    async def _dribble(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: str) -> None:
        writer.write(start.encode())
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    if not await reader.read(4096):
                        return

    async def big_body(self) -> None:
        async with self._open() as (reader, writer):
            writer.write(f"POST /pair HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 10000000000\r\n\r\n".encode())
            for _ in range(100):
                writer.write(bytes(65536))
                await writer.drain()
            await reader.read()

    async def endless_body(self) -> None:
        async with self._open() as (reader, writer):
            writer.write(f"POST /pair HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(1000):
                writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
                await writer.drain()
            await reader.read()

    async def slow_reader(self) -> None:
        async with self._open() as (reader, writer):
            photo = f"GET {self._facts['photo']} HTTP/1.1\r\nHost: {NAME}\r\nCookie: {self._facts['phone']}\r\n\r\n"
            writer.write(photo.encode())
            while await reader.read(100):
                await asyncio.sleep(0.5)


async def flood(box: str, port: int, facts: dict[str, Any], kind: str) -> None:
    tls = ssl.create_default_context(cadata=bytes.fromhex(facts["authority"])) if kind != "plain" else None
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    tasks = [
        loop.create_task(Flood(box, port, source, tls, facts).run(is_polite=kind == "polite")) for source in ADDRESSES
    ]
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    sys.stdout.write(json.dumps(counts) + "\n")
    sys.stdout.flush()
    os._exit(0)  # hundreds of half-closed connections are not waited for


def main() -> None:
    os.nice(10)
    box, port, kind, facts = sys.argv[1:]
    asyncio.run(flood(box, int(port), json.loads(facts), kind))


if __name__ == "__main__":
    main()
