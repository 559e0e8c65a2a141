"""The simulated dermatoscope where a real one would be: behind a `Port`, on a pty, on a socket for a virtual machine.

`SimulatorServer` is the loop that both kinds of line share; the device itself is in `simulated_device`.
"""

import os
import pty
import random
import select
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import PortError
from .faults import FaultRates, FaultyLine
from .simulated_device import SimulatedDevice

STEP_S = 0.005
"""How often a served device looks at its clock and switches."""
CATCH_UP_MAX_MS = 2000
"""A process that slept longer than this does not live through all the missed milliseconds."""


def quiet_lines() -> tuple[FaultyLine, FaultyLine]:
    """Return two directions without faults."""
    return FaultyLine(FaultRates(), random.Random(0)), FaultyLine(FaultRates(), random.Random(0))  # noqa: S311


class _Clocked:
    """Keeps a device's milliseconds in step with the clock, and carries bytes through the faulty lines."""

    def __init__(
        self, device: SimulatedDevice, lines: tuple[FaultyLine, FaultyLine] | None, clock: Callable[[], float]
    ) -> None:
        self.device = device
        self.to_device, self.to_host = lines if lines is not None else quiet_lines()
        self._clock = clock
        self._seen_s = clock()

    def step(self, data: bytes) -> bytes:
        now_s = self._clock()
        due_ms = min(int((now_s - self._seen_s) * 1000), CATCH_UP_MAX_MS)
        if due_ms:
            self.device.advance(due_ms)
            self._seen_s = now_s if due_ms == CATCH_UP_MAX_MS else self._seen_s + due_ms / 1000
        self.device.receive(self.to_device.carry(data))
        return self.to_host.carry(self.device.take_outgoing())


class SimulatedPort:
    """A `port.Port` with the device behind it, in this process; for tests and the demonstration."""

    def __init__(
        self,
        device: SimulatedDevice,
        *,
        lines: tuple[FaultyLine, FaultyLine] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clocked = _Clocked(device, lines, clock)
        self._lock = threading.Lock()
        self._arrived = bytearray()
        self._wakeup = threading.Event()
        self.is_unplugged = False
        """Set it to make every call raise, as a pulled plug does."""

    def read(self, timeout_s: float) -> bytes:
        """Return what the device has sent; see `port.Port.read`."""
        self._exchange(b"")
        if not self._arrived:
            self._wakeup.wait(min(timeout_s, STEP_S))
            self._wakeup.clear()
            self._exchange(b"")
        taken = bytes(self._arrived)
        self._arrived.clear()
        return taken

    def write(self, data: bytes) -> None:
        """Give the device `data`."""
        self._exchange(data)

    def wake(self) -> None:
        """End a waiting `read` early."""
        self._wakeup.set()

    def close(self) -> None:
        """Do nothing: the device lives on."""

    def _exchange(self, data: bytes) -> None:
        if self.is_unplugged:
            raise PortError("The port is gone (unplugged).")
        with self._lock:
            self._arrived += self._clocked.step(data)


class SimulatorServer:
    """A thread that serves one device on a file descriptor at a time, from enter to exit.

    `PtyServer` and `SocketServer` say which descriptor.
    """

    def __init__(
        self,
        device: SimulatedDevice,
        *,
        lines: tuple[FaultyLine, FaultyLine] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self._clocked = _Clocked(device, lines, clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)
        self._close()

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._clocked.step(self._read())
            if answer:
                self._write(answer)

    def _read(self) -> bytes:
        """Return what has come within a step; nothing when nobody is there."""
        descriptor = self._descriptor()
        if descriptor is None:
            self._stop.wait(STEP_S)
            return b""
        if not select.select([descriptor], [], [], STEP_S)[0]:
            return b""
        try:
            data = os.read(descriptor, 4096)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._hung_up()
        return data

    def _write(self, answer: bytes) -> None:
        descriptor = self._descriptor()
        if descriptor is None:
            return
        try:
            os.write(descriptor, answer)
        except BlockingIOError:
            return  # nobody reads and the buffer is full: a UART would lose it too
        except OSError:
            self._hung_up()

    def _descriptor(self) -> int | None:
        raise NotImplementedError

    def _hung_up(self) -> None:
        """Let go of a line whose other end has gone."""

    def _close(self) -> None:
        raise NotImplementedError


class PtyServer(SimulatorServer):
    """A device on a pseudo-terminal; open `path` as if it were a serial port."""

    def __init__(self, device: SimulatedDevice, *, lines: tuple[FaultyLine, FaultyLine] | None = None) -> None:
        super().__init__(device, lines=lines)
        # The host's end stays open here too, so that the line lives on while no host has it open.
        self._device_end, self._host_end = pty.openpty()
        tty.setraw(self._host_end)
        os.set_blocking(self._device_end, False)
        self.path = os.ttyname(self._host_end)

    def _descriptor(self) -> int | None:
        return self._device_end

    def _close(self) -> None:
        os.close(self._device_end)
        os.close(self._host_end)


class SocketServer(SimulatorServer):
    """A device on a Unix socket, one connection at a time; QEMU's `-chardev socket,path=…` connects to it.

    Dropping the connection is what the guest sees as a pulled plug: `hang_up`.
    """

    def __init__(
        self, device: SimulatedDevice, path: Path, *, lines: tuple[FaultyLine, FaultyLine] | None = None
    ) -> None:
        super().__init__(device, lines=lines)
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(0)
        self._connection: socket.socket | None = None

    def hang_up(self) -> None:
        """Pull the plug; the next connection is the plug going in again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _descriptor(self) -> int | None:
        if self._connection is None:
            try:
                self._connection, _ = self._listener.accept()
            except BlockingIOError:
                return None
            self._connection.settimeout(0)
        return self._connection.fileno()

    def _hung_up(self) -> None:
        self.hang_up()

    def _close(self) -> None:
        self.hang_up()
        self._listener.close()
        self.path.unlink(missing_ok=True)
