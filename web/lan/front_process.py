"""The station's side of the front: starts or meets it, tells it its certificate and whom to cut, and begins anew.

The listener belongs to the station, so that a front that died leaves nobody refused: the next takes those who wait.
"""

import contextlib
import logging
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from web.lan.control import DESCRIPTORS, READY, CutDevice, Leave, Message, Settings, line_of

logger = logging.getLogger(__name__)
_BACKLOG: Final = 128
_START_S: Final = 30.0
_END_S: Final = 3.0
_LOOK_S: Final = 0.5
_RETRIES_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0)
_LIVED_S: Final = 60.0
"""A front that lived so long did not die of its start."""
_CREDENTIALS: Final = struct.Struct("3i")
"""`struct ucred`: process, user, group (unix(7), SO_PEERCRED)."""
_GROUP_MAY_CONNECT: Final = 0o660


class FrontProcess:
    """Keeps one front at work while entered; every method may be called from any thread."""

    def __init__(
        self, listeners: Sequence[socket.socket], upstream: socket.socket, settings: Settings, meeting: Path | None
    ) -> None:
        """Name what a front gets.

        Args:
            listeners: Bound sockets, on which phones come in.
            upstream: Where it passes the station connections.
            settings: What it is told first.
            meeting: Where to wait for a front that the service manager starts, under its own user; None starts a child.
        """
        self._listeners = listeners
        self._upstream = upstream
        self._settings = settings
        self._meeting = meeting
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._control: socket.socket | None = None
        self._is_leaving = False
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
        with self._lock:
            if self._control is not None:
                with contextlib.suppress(OSError):
                    self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join(_END_S + 2)

    @property
    def pid(self) -> int | None:
        """Its process number while there is one."""
        return self._pid

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self._ready.is_set()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until it takes connections."""
        return self._ready.wait(timeout_s)

    def update(self, settings: Settings) -> None:
        """Have another certificate used: this front answers what it is being asked, and another takes its place."""
        with self._lock:
            self._settings = settings
            self._is_leaving = True
            self._tell(Leave())

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
            if self._is_leaving:
                self._is_leaving = False
                continue
            failures = 0 if time.monotonic() - started_s > _LIVED_S else failures + 1
            retry_s = _RETRIES_S[min(failures, len(_RETRIES_S) - 1)]
            logger.error("lan front ended early: status=%s retry_s=%s", status, retry_s)
            self._done.wait(retry_s)

    def _run(self) -> int | str:
        """See one front to its end."""
        if self._meeting is not None:
            control = self._met(self._meeting)
            if control is None:
                return "none came"
            with control:
                self._attend(control, _peer(control))
            return "it left"
        control, process = self._started()
        try:
            with control:
                self._attend(control, process.pid)
        finally:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def _attend(self, control: socket.socket, pid: int) -> None:
        """Tell a front what it needs, and return when it has left."""
        control.settimeout(_START_S)
        try:
            with self._lock:
                self._pid, self._is_leaving = pid, False
                numbers = [one.fileno() for one in (self._upstream, *self._listeners)]
                socket.send_fds(control, [DESCRIPTORS], numbers)
                self._control = control
                self._tell(self._settings)
            if not self._done.is_set() and control.recv(len(READY)) == READY:
                self._ready.set()
                control.settimeout(_END_S)
                _wait_for_end(control)
        finally:
            self._ready.clear()
            with self._lock:
                self._pid = self._control = None

    def _started(self) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
        """Start a child."""
        near, far = socket.socketpair()
        with far:
            process = subprocess.Popen(
                # -I: neither the working directory nor the environment decides what is imported.
                [sys.executable, "-I", "-m", "web.lan.front_main", str(far.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                process_group=0,
            )
        return near, process

    def _met(self, meeting: Path) -> socket.socket | None:
        """Wait for the service at its meeting place; None when the station ends first."""
        meeting.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as place:
            place.bind(str(meeting))
            # Who may come is the folder's business: it is of the front's group (systemd/tmpfiles.d).
            meeting.chmod(_GROUP_MAY_CONNECT)
            place.listen(1)
            place.settimeout(_LOOK_S)
            while not self._done.is_set():
                with contextlib.suppress(TimeoutError):
                    return place.accept()[0]
        return None


def _wait_for_end(control: socket.socket) -> None:
    """Return when the other side has closed; a front says nothing more, and what it says is not listened to."""
    while True:
        try:
            if not control.recv(1):
                return
        except TimeoutError:
            continue


def _peer(control: socket.socket) -> int:
    pid, _, _ = _CREDENTIALS.unpack(control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid)
