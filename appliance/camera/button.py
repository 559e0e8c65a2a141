"""The button on a camera's body: presses of KEY_CAMERA on the input device that uvcvideo makes for it.

It only comes while the camera's video device is open. Source: Linux input API, `struct input_event`, EVIOCSCLOCKID.
"""

import fcntl
import logging
import os
import select
import struct
import time
from collections.abc import Callable
from ctypes import sizeof
from pathlib import Path
from typing import Final, Self

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often a button that is not there is looked for."""
_SET_CLOCK: Final = 0x400445A0
"""EVIOCSCLOCKID, _IOW('E', 0xa0, int)."""
_CLOCK_MONOTONIC: Final = 1
_PRESSED: Final = 1
"""0 is let go, 2 is the repeat of a key that is held down."""
_EVENTS_AT_ONCE: Final = 64


class SnapshotButton:
    """An opened button, from `__enter__` to `__exit__`; every method may raise OSError once it is unplugged."""

    def __init__(self, path: Path) -> None:
        from linuxpy.input import raw

        self._path = path
        self._event = raw.input_event
        self._key_event, self._key = int(raw.EventType.KEY), int(raw.Key.KEY_CAMERA)
        self._fd = -1

    def __enter__(self) -> Self:
        """Open it, and have its events dated by CLOCK_MONOTONIC."""
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._fd, _SET_CLOCK, struct.pack("i", _CLOCK_MONOTONIC))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def fileno(self) -> int:
        """Return the descriptor: readable when something happened."""
        return self._fd

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def presses(self) -> list[float]:
        """Take the presses that wait: when each was, on CLOCK_MONOTONIC."""
        size = sizeof(self._event)
        try:
            read = os.read(self._fd, size * _EVENTS_AT_ONCE)
        except BlockingIOError:
            return []
        events = [self._event.from_buffer_copy(read, offset) for offset in range(0, len(read) - size + 1, size)]
        return [
            event.time.secs + event.time.usecs / 1e6
            for event in events
            if event.type == self._key_event and event.code == self._key and event.value == _PRESSED
        ]


class ButtonWatch:
    """The button of an opened camera, opened as soon as it can be: kernel and udev make it after the picture's node.

    Args:
        find: Says where the button is now, or None when there is none.
        poll: Is told of the button's descriptor, so that a press ends the wait for a frame.
    """

    def __init__(self, find: Callable[[], Path | None], poll: select.poll) -> None:
        self._find = find
        self._poll = poll
        self._button: SnapshotButton | None = None
        self._look_s = 0.0

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the button."""
        if self._button is not None:
            self._button.close()

    def presses(self) -> list[float]:
        """Take the presses that wait, as `SnapshotButton.presses`; none while there is no button."""
        if self._button is None and time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + LOOK_S
            self._open()
        return self._button.presses() if self._button is not None else []

    def _open(self) -> None:
        path = self._find()
        if path is None:
            return
        try:
            self._button = SnapshotButton(path).__enter__()
        except OSError as error:
            # The camera is worth more than its button, which udev may still be giving to the station.
            logger.info("button not opened yet: errno=%s", error.errno)
            return
        self._poll.register(self._button, select.POLLIN)
