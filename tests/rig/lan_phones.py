"""Honest phones, each in a network namespace of its own, and one that is not; counts as JSON when the input ends.

python lan_phones.py BOX PORT FACTS PHONES LORIS, with FACTS as `lan_station.py` prints them, and names of namespaces:
of the phones, parted by commas, and of the one that only holds connections open, "" for none.

A phone does as its browser: it keeps up to six connections, asks on all of them at once for a page and what is on it,
polls on one of them between, and asks anew when a connection that rested has been closed.
"""

import asyncio
import collections
import ctypes
import json
import os
import random
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

NAME = "dermstation.local"
AT_ONCE = 6
_POLLS = 4
_PAUSE_S = 3.0
"""Between a page and each poll: 50 phones ask 33 times a second."""
_ANSWER_S = 20.0
_HELD = 20
_CLONE_NEWNET = 0x40000000
counts: collections.Counter[str] = collections.Counter()
took_s: list[float] = []
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Place:
    """A namespace from which connections are made by a process outside."""

    def __init__(self, namespace: str, box: tuple[str, int]) -> None:
        self._descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        self._box = box

    async def connected(self) -> socket.socket:
        """Connect to the box; a socket belongs to where it was made."""
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        _enter(self._descriptor)
        try:
            connection = socket.socket()
        finally:
            _enter(own)
            os.close(own)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await asyncio.get_running_loop().sock_connect(connection, self._box)
        except BaseException:
            connection.close()
            raise
        return connection


class Phone:
    """One telephone with its browser."""

    def __init__(self, place: Place, tls: ssl.SSLContext, cookies: str, facts: dict[str, Any]) -> None:
        self._place, self._tls, self._cookies = place, tls, cookies
        self._page = ["/", facts["visit"], *[facts["photo"]] * (AT_ONCE - 2)]
        self._resting: list[Streams] = []

    async def run(self, begins_within_s: float) -> None:
        """Read and poll, for ever."""
        await asyncio.sleep(random.random() * begins_within_s)
        while True:
            await asyncio.gather(*(self._ask(path) for path in self._page))
            for _ in range(_POLLS):
                await asyncio.sleep(_PAUSE_S * (0.5 + random.random()))
                await self._ask("/")

    async def _ask(self, path: str) -> None:
        started_s = time.monotonic()
        try:
            status = await self._answer(path)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            counts["cut"] += 1
            return
        counts[f"status {status}"] += 1
        if status == "200":
            took_s.append(time.monotonic() - started_s)

    async def _answer(self, path: str) -> str:
        while self._resting:
            streams = self._resting.pop()
            try:
                return await self._on(streams, path)
            except (OSError, asyncio.IncompleteReadError):  # it was closed while it rested
                counts["asked anew"] += 1
        connection = await self._place.connected()
        counts["connections"] += 1
        async with asyncio.timeout(_ANSWER_S):
            streams = await asyncio.open_connection(sock=connection, ssl=self._tls, server_hostname=NAME)
        return await self._on(streams, path)

    async def _on(self, streams: Streams, path: str) -> str:
        reader, writer = streams
        try:
            async with asyncio.timeout(_ANSWER_S):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nCookie: {self._cookies}\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
        except BaseException:
            writer.transport.abort()
            raise
        if b"connection: close" in head:
            writer.transport.abort()
        else:
            self._resting.append(streams)
        return head[9:12].decode()


async def hold(place: Place) -> None:
    """Begin a handshake and never end it, again and again."""
    while True:
        try:
            connection = await place.connected()
            with connection:
                counts["loris"] += 1
                loop = asyncio.get_running_loop()
                for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":
                    await loop.sock_sendall(connection, bytes([byte]))
                    await asyncio.sleep(1.0)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.1)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


async def run(box: tuple[str, int], facts: dict[str, Any], phones: list[str], loris: str) -> None:
    tls = ssl.create_default_context(cadata=bytes.fromhex(facts["authority"]))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    cookies = facts["phones"]
    begins_within_s = _PAUSE_S * (_POLLS + 1) if len(phones) > 1 else 0.0
    tasks = [
        loop.create_task(Phone(Place(name, box), tls, cookies[number % len(cookies)], facts).run(begins_within_s))
        for number, name in enumerate(phones)
    ]
    if loris:
        tasks += [loop.create_task(hold(Place(loris, box))) for _ in range(_HELD)]
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    failed = [str(task.exception()) for task in tasks if task.done()]
    sys.stdout.write(json.dumps({"took_s": took_s, "counts": counts, "failed": failed}) + "\n")
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    box, port, facts, phones, loris = sys.argv[1:]
    asyncio.run(run((box, int(port)), json.loads(Path(facts).read_text()), phones.split(","), loris))


if __name__ == "__main__":
    main()
