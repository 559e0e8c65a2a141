"""The front's process: meets the station, loads the certificate, shuts itself in, and serves until it is told to go.

Run as: python -m web.lan.front_main STATION, the number of an inherited socket or the path of the station's.
"""

import array  # noqa: F401 - socket.send_fds wants it, when no file can be opened any more
import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
import time
from typing import Final

import msgspec

from appliance.confinement import confine_server
from web.lan.control import DESCRIPTORS, LINE_MAX_BYTES, READY, CutDevice, Leave, Settings, message_of
from web.lan.front import Front

logger = logging.getLogger("web.lan.front")
_NICE: Final = 10
_MEMORY_BYTES: Final = 768 << 20
_FILES: Final = 512
_STATION_S: Final = 1.0
"""How often the station is looked for."""
_DESCRIPTORS_MAX: Final = 8


async def _obey(front: Front, control: asyncio.StreamReader) -> bool:
    """Do what the station says until it is gone, or wants this process to leave; tell whether it wants that."""
    while line := await control.readline():
        message = message_of(line)
        if isinstance(message, CutDevice):
            front.cut(message.device_id)
        elif isinstance(message, Leave):
            return True
    return False


async def _main(control: socket.socket, upstream: socket.socket, listeners: list[socket.socket]) -> None:
    reader, writer = await asyncio.open_connection(sock=control, limit=LINE_MAX_BYTES)
    settings = message_of(await reader.readline())
    if not isinstance(settings, Settings):
        raise msgspec.ValidationError("settings come first")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logger.debug("connection failed: %s", context.get("message")))
    front = Front(settings, upstream)
    if not confine_server(memory_bytes=_MEMORY_BYTES, descriptors=_FILES):
        logger.warning("system calls of the lan front are not filtered: unknown processor")
    tasks = [loop.create_task(front.serve(listener)) for listener in listeners]
    writer.write(READY)
    is_to_finish = await _obey(front, reader)
    for task in tasks:
        task.cancel()
    if is_to_finish:
        await front.finish()


def _station(where: str) -> socket.socket:
    """Return the socket to the station: an inherited one, or the one at a path once the station is there."""
    if where.isdecimal():
        return socket.socket(fileno=int(where))
    while True:
        station = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            station.connect(where)
        except OSError:  # it is starting, or phones may not come in
            station.close()
            time.sleep(_STATION_S)
        else:
            return station


def main(arguments: list[str]) -> None:
    """Serve until the station is gone."""
    (where,) = arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with contextlib.suppress(OSError):  # a service manager may forbid even that
        os.nice(_NICE)
    control = _station(where)
    _, numbers, _, _ = socket.recv_fds(control, len(DESCRIPTORS), _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
    if not numbers:  # the station is gone already
        return
    upstream, *listeners = (socket.socket(fileno=number) for number in numbers)
    for listener in listeners:
        listener.settimeout(0)
    gc.freeze()
    with contextlib.suppress(ConnectionError):  # the station is gone already
        asyncio.run(_main(control, upstream, listeners))


if __name__ == "__main__":
    main(sys.argv[1:])
