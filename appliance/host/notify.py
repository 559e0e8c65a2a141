"""Tell systemd how the service is doing: ready, alive, stopping, and one line for `systemctl status`.

It opens no thread and decides nothing: the caller knows when the service is ready and when it is alive.
Source: sd_notify(3), "Well-known assignments"; sd_watchdog_enabled(3); systemd.exec(5), `$NOTIFY_SOCKET`.
"""

import logging
import os
import socket
from collections.abc import Mapping
from typing import Self

logger = logging.getLogger(__name__)

STATUS_MAX_BYTES = 256
"""More than a terminal line; a datagram of systemd takes 4 KiB for all its assignments."""
_SEND_TIMEOUT_S = 1.0
_MICROSECONDS_PER_S = 1_000_000


class Notifier:
    """The service manager's notification socket; every call does nothing where there is none."""

    def __init__(self, address: str | None, watchdog_interval_s: float | None = None) -> None:
        self._address = address
        self.watchdog_interval_s = watchdog_interval_s
        """How often to call `watchdog`: half of what systemd waits; None when it does not watch this process."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read what systemd put into the environment, `os.environ` at the time of the call when none is given."""
        environ = os.environ if environ is None else environ
        return cls(environ.get("NOTIFY_SOCKET"), _watchdog_interval_s(environ))

    def ready(self, status: str) -> None:
        """Say that start-up is finished: systemd then starts what waits for this service."""
        self._send("READY=1", _status_line(status))

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows; never a subject's data."""
        self._send(_status_line(text))

    def watchdog(self) -> None:
        """Say that the service still works; systemd restarts it when this stays away for WatchdogSec."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that shutdown has begun."""
        self._send("STOPPING=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte that opens an abstract socket's name.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
                peer.settimeout(_SEND_TIMEOUT_S)
                peer.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            # The clinic goes on without its service manager; a missed watchdog call shows there by itself.
            logger.warning("notify failed: assignment=%s error=%s", assignments[0], error)


def _status_line(text: str) -> str:
    """Return one `STATUS=` line: a line break in the text would start an assignment of its own."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return "STATUS=" + line.encode()[:STATUS_MAX_BYTES].decode(errors="ignore")


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Halve WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends; None unless WATCHDOG_PID is this process or absent."""
    timeout_us = environ.get("WATCHDOG_USEC", "")
    watched_pid = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not timeout_us.isdecimal() or int(timeout_us) == 0 or watched_pid != str(os.getpid()):
        return None
    return int(timeout_us) / _MICROSECONDS_PER_S / 2
