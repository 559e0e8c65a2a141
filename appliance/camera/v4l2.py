"""A real camera: a thread that opens it whenever it is plugged in, and another should the driver keep that one.

Nothing of a camera that is gone is ever given out: with the plug, the newest frame goes too.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, Self

from appliance.camera.frame_check import PictureFormat
from appliance.camera.reader import CameraCounters, CameraOptions, CameraReader, CameraShared
from appliance.clock import Clock, SystemClock
from appliance.types import Frame

logger = logging.getLogger(__name__)

HUNG_S: Final = 10.0
"""A thread that has not come back from the driver for so long is given up: opening takes a second, a control five."""
_GIVEN_UP_MAX: Final = 4
"""Threads at once that the driver may keep, each with its buffers; one that comes back after all does not count."""
_JOIN_S: Final = 5.0


class V4l2Camera:
    """A camera of the kernel's video interface, from `__enter__` to `close`.

    Args:
        find: Says where the camera is now, or None when it is not plugged in; may raise CameraError.
        options: What is asked of it.
        on_press: Called on the camera's thread with the moment of a press on its body, on the clock's monotonic time;
            must return at once.
        clock: Dates the frames.
        numbers: Where sequences come from: cameras that share it never give two frames the same one.
    """

    def __init__(
        self,
        find: Callable[[], Path | None],
        options: CameraOptions | None = None,
        *,
        on_press: Callable[[float], None] = lambda _: None,
        clock: Clock | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.options = options or CameraOptions()
        self._shared = CameraShared(
            find=find, options=self.options, on_press=on_press, clock=clock or SystemClock(), numbers=numbers or count()
        )
        self._reader = CameraReader(self._shared)
        self._given_up: list[CameraReader] = []
        self._is_closed = False
        self._replacing = threading.Lock()

    def __enter__(self) -> Self:
        """Start looking for the camera."""
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and let go of the device."""
        self.close()

    def close(self) -> None:
        """Stop, and let go of the device; waiting calls return."""
        with self._replacing:
            self._is_closed = True
            reader = self._reader
        reader.stop(self._shared.absent)
        reader.join(_JOIN_S)

    @property
    def counters(self) -> CameraCounters:
        """What happened since the start."""
        return self._shared.counters

    @property
    def format(self) -> PictureFormat | None:
        """What was agreed on with the camera that is open; None while none is."""
        return self._reader.format

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame newer than `after`, as `Camera.frame` says."""
        # Whoever wants a frame looks after the thread that brings it: no other thread is needed for that.
        self._replace_if_hung()
        return self._reader.newest.wait(after, timeout_s)

    def hold_series(self, *, is_held: bool) -> None:
        """Hold exposure, focus and white balance from the next frame on, or let them go."""
        self._shared.is_hold_wanted = is_held

    def _replace_if_hung(self) -> None:
        """Give up a thread that the driver has kept for too long, and let a new one look for the camera."""
        if time.monotonic() - self._reader.alive_s < HUNG_S or not self._reader.is_running:
            return
        with self._replacing:
            reader = self._reader
            if self._is_closed or time.monotonic() - reader.alive_s < HUNG_S:
                return
            self._given_up = [one for one in self._given_up if one.is_running]
            if len(self._given_up) >= _GIVEN_UP_MAX:
                reader.newest.drop(f"The {self.options.name} does not answer any more. Turn the box off and on again.")
                return
            logger.error("camera's thread given up: name=%s counters=%s", self.options.name, self.counters)
            self.counters.hung += 1
            self._given_up.append(reader)
            reader.stop(f"The {self.options.name} does not answer. Unplug it and plug it in again.")
            self._reader = CameraReader(self._shared)
            self._reader.start()
