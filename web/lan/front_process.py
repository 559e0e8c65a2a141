"""The station's side of the front: starts it, tells it its certificate and whom to cut, starts it anew when it dies.

The listener belongs to the station, so that a front that died leaves nobody refused: the next takes those who wait.
"""

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final, Self

from web.lan.control import READY, CutDevice, Message, Settings, line_of

logger = logging.getLogger(__name__)
_BACKLOG: Final = 128
_START_S: Final = 30.0
_END_S: Final = 3.0
_RETRIES_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
_LIVED_S: Final = 60.0
"""A front that lived so long did not die of its start."""


class FrontProcess:
    """Keeps one front running while entered; every method may be called from any thread."""

    def __init__(self, listeners: Sequence[socket.socket], settings: Settings) -> None:
        self._listeners = listeners
        self._settings = settings
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._done = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lan-front", daemon=True)

    def __enter__(self) -> Self:
        """Start it; whoever connects meanwhile waits some tenths of a second."""
        for listener in self._listeners:
            listener.listen(_BACKLOG)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._done.set()
        self._end()
        self._thread.join(_END_S + 2)

    @property
    def pid(self) -> int | None:
        """Its process number while there is one."""
        process = self._process
        return process.pid if process is not None else None

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it takes connections."""
        return self._ready.wait(timeout_s)

    def update(self, settings: Settings) -> None:
        """Have it use another certificate, now and after every new start."""
        with self._lock:
            self._settings = settings
            self._tell(settings)

    def cut(self, device_id: str) -> None:
        """Have it end every connection of a device."""
        with self._lock:
            self._tell(CutDevice(device_id=device_id))

    def _tell(self, message: Message) -> None:
        if self._control is not None:
            # One that died hears the settings at its next start, and its connections are gone already.
            with contextlib.suppress(OSError):
                self._control.sendall(line_of(message))

    def _keep(self) -> None:
        failures = 0
        while not self._done.is_set():
            started_s = time.monotonic()
            try:
                status = self._run()
            except OSError as error:
                status = error.strerror or "no process"
            if self._done.is_set():
                return
            failures = 0 if time.monotonic() - started_s > _LIVED_S else failures + 1
            retry_s = _RETRIES_S[min(failures, len(_RETRIES_S) - 1)]
            logger.error("lan front ended early: status=%s retry_s=%s", status, retry_s)
            self._done.wait(retry_s)

    def _run(self) -> int | str:
        """Run one front to its end."""
        near, far = socket.socketpair()
        with near:
            with far:
                numbers = [far.fileno(), *(listener.fileno() for listener in self._listeners)]
                process = subprocess.Popen(
                    # -I: neither the working directory nor the environment decides what is imported.
                    [sys.executable, "-I", "-m", "web.lan.front", *map(str, numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=numbers,
                    cwd="/",
                    env={"LC_ALL": "C.UTF-8"},
                    process_group=0,
                )
            with self._lock:
                self._process, self._control = process, near
                near.settimeout(_END_S)
                self._tell(self._settings)
                near.settimeout(_START_S)
            if self._done.is_set():
                self._end()
            try:
                if near.recv(len(READY)) == READY:
                    self._ready.set()
            except OSError:
                process.kill()
            near.settimeout(_END_S)
            status = process.wait()
            with self._lock:
                self._process = self._control = None
            return status

    def _end(self) -> None:
        with self._lock:
            process, control = self._process, self._control
            if control is not None:
                with contextlib.suppress(OSError):
                    control.shutdown(socket.SHUT_RDWR)
        if process is not None:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
