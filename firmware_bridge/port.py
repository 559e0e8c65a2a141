"""The serial port: opening by stable name, reading, writing, and saying when it is gone. No protocol here.

pyserial has no reconnect, and reports an unplugged device as "readiness to read but returned no data"; here both become
one `PortError`, and `pump.LinkPump` opens again.
Source: pyserial issues 341 and 558.
"""

import errno
import logging
import termios
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Protocol

import serial

from .errors import PortError

logger = logging.getLogger(__name__)

BAUD_HZ = 115_200
READ_MAX_BYTES = 4096
"""At most this many bytes between two looks at the clock: a flood cannot starve the timers."""
STABLE_NAMES = ("/dev/dermstation/microcontroller", "/dev/serial/by-id")
KNOWN_ADAPTERS = ("dermstation", "Arduino", "FTDI_FT232R", "1a86_")
"""Parts of by-id names: our own, Arduino Uno, and the FTDI and CH340 adapters (1a86) of Nanos."""


class Port(Protocol):
    """What the pump needs of a port. All raise `PortError` once it is gone."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, waiting at most `timeout_s` for the first byte; empty when nothing came."""

    def write(self, data: bytes) -> None:
        """Send `data`, or lose it when the line does not move."""

    def wake(self) -> None:
        """End a waiting `read` early; from any thread."""

    def close(self) -> None:
        """Give the port up; harmless when it is gone."""


class SerialPort:
    """A tty by path, opened exclusively, 115,200 8N1.

    Raises:
        PortError: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            self._serial = serial.Serial(path, BAUD_HZ, timeout=0, write_timeout=0.2, exclusive=True)
        except (OSError, ValueError, termios.error) as error:
            # serial.SerialException is an OSError.
            raise PortError(f"The port {path} cannot be opened ({_cause(error)}).") from error

    def read(self, timeout_s: float) -> bytes:
        """Return up to 4096 bytes; see `Port.read`."""
        try:
            if self._serial.timeout != timeout_s:
                self._serial.timeout = timeout_s  # sets the line up anew, so callers keep to one value
            first: bytes = self._serial.read(1)
            waiting = self._serial.in_waiting if first else 0
            return first + self._serial.read(min(waiting, READ_MAX_BYTES - 1)) if waiting else first
        except (OSError, TypeError, termios.error) as error:
            # TypeError: pyserial's descriptor is None after a close from another thread.
            raise PortError(f"The port is gone ({_cause(error)}).") from error

    def write(self, data: bytes) -> None:
        """Send `data`; bytes that the line does not take within 0.2 s are thrown away, and the CRC notices."""
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            logger.warning("serial line does not move bytes=%d", len(data))
            self._discard()
        except (OSError, TypeError, termios.error) as error:
            raise PortError(f"The port is gone ({_cause(error)}).") from error

    def wake(self) -> None:
        """End a waiting `read` early."""
        try:
            self._serial.cancel_read()
        except (OSError, TypeError, AttributeError):
            return  # closed meanwhile: the read has ended

    def close(self) -> None:
        """Give the port up."""
        try:
            self._serial.close()
        except (OSError, termios.error):
            return

    def _discard(self) -> None:
        try:
            self._serial.reset_output_buffer()
        except (OSError, termios.error) as error:
            raise PortError(f"The port is gone ({_cause(error)}).") from error


def find_ports() -> list[str]:
    """Return the paths of ports that may be a dermatoscope, the udev rule's own name first; by-id, never ttyACM0.

    Numbers of ttyACM and ttyUSB swap between boots; names by id do not. Other serial devices are left alone: to open a
    port can reset what is behind it.
    """
    found = []
    for name in STABLE_NAMES:
        path = Path(name)
        if path.is_dir():
            entries = sorted(path.iterdir())
            found += [str(entry) for entry in entries if any(known in entry.name for known in KNOWN_ADAPTERS)]
        elif path.exists():
            found.append(name)
    return found


def opener(path: str | None) -> Callable[[], Port]:
    """Return what opens the port at `path`, or one that `find_ports` knows at that moment, each in its turn."""
    turns = count()

    def open_port() -> Port:
        candidates = [path] if path else find_ports()
        if not candidates:
            raise PortError("No dermatoscope is plugged in.")
        return SerialPort(candidates[next(turns) % len(candidates)])

    return open_port


def _cause(error: Exception) -> str:
    """Return a name for the cause that holds no text of a device: the errno's, or the exception's class."""
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, type(error).__name__) if isinstance(number, int) else type(error).__name__
