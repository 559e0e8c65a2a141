"""A real camera: one thread that opens it whenever it is plugged in, keeps its newest frame, and tells of its button.

Nothing of a camera that is gone is ever given out: with the plug, the newest frame goes too.
Source: V4L2 API; `reliability.md` F7 and D1 for what must not happen.
"""

import errno
import itertools
import logging
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from appliance.camera.button import ButtonWatch
from appliance.camera.by_id import button_of
from appliance.camera.controls import HeldSeries
from appliance.camera.frame_check import Buffer, FrameCheck, PictureFormat
from appliance.camera.newest import NewestFrame
from appliance.camera.video_device import VideoDevice, sentence_of
from appliance.clock import Clock, SystemClock
from appliance.errors import CameraError
from appliance.types import Frame, Modality

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""How often an absent camera is looked for."""
STALLED_S: Final = 2.0
"""A stream without a new picture for so long is closed and opened again."""
FIRST_FRAME_S: Final = 5.0
"""Likewise, while it starts: some cameras find their exposure first."""
_POLL_MS: Final = 100
_GONE: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL
_ASLEEP_S: Final = 0.5
"""If the box's clocks drift apart by more, it slept, and what the driver holds is from before."""
_JOIN_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """What is asked of a camera."""

    name: str = "camera"
    """What sentences call it, without article; also its thread's name."""
    wanted: tuple[int, int] = (1920, 1080)
    """Width and height in pixels at most."""
    frames_per_s: float = 30.0
    modality: Modality = "XC"


@dataclass(slots=True, kw_only=True)
class CameraCounters:
    """What happened since the start, for a technician."""

    frames: int = 0
    lost: int = 0
    """Frames that the driver counted and never handed over."""
    refused: Counter[str]
    """Buffers that were no frame, by reason (`frame_check.Refusal`)."""
    opened: int = 0
    stalled: int = 0


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
        self._find = find
        self.options = options or CameraOptions()
        self._on_press = on_press
        self._clock = clock or SystemClock()
        self._numbers = numbers or itertools.count()
        self._newest = NewestFrame(f"The {self.options.name} is starting.")
        self.counters = CameraCounters(refused=Counter())
        self.format: PictureFormat | None = None
        """What was agreed on with the camera that is open; None while none is."""
        self._is_hold_wanted = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{self.options.name}", daemon=True)

    def __enter__(self) -> Self:
        """Start looking for the camera."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and let go of the device."""
        self.close()

    def close(self) -> None:
        """Stop, and let go of the device; waiting calls return."""
        self._stop.set()
        self._newest.drop(self._absent)
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame newer than `after`, as `Camera.frame` says."""
        return self._newest.wait(after, timeout_s)

    def hold_series(self, *, is_held: bool) -> None:
        """Hold exposure, focus and white balance from the next frame on, or let them go."""
        self._is_hold_wanted = is_held

    @property
    def _absent(self) -> str:
        name = self.options.name
        return f"No {name} is connected. Plug the {name} in."

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                path = self._find()
                sentence = self._absent if path is None else self._stream(path)
            except CameraError as error:
                sentence = str(error)
            except OSError as error:
                sentence = sentence_of(error)
                logger.info("camera closed: name=%s errno=%s", self.options.name, error.errno)
            except Exception:
                # A thread's edge: a camera that does something unheard of must not end the clinic's day.
                logger.exception("camera failed: name=%s", self.options.name)
                sentence = "The camera cannot be used; unplug it and plug it in again."
            self.format = None
            self._newest.drop(sentence)
            self._stop.wait(LOOK_S)

    def _stream(self, path: Path) -> str:
        """Read frames until the camera is gone, hangs or is not wanted any more; return what the screen says then."""
        with ExitStack() as stack:
            device = stack.enter_context(VideoDevice(path, self.options.wanted, self.options.frames_per_s))
            if device.format is None:
                raise CameraError("The camera did not say what it sends.")
            poll = select.poll()
            poll.register(device, select.POLLIN)
            button = stack.enter_context(ButtonWatch(lambda: button_of(path.resolve()), poll))
            held = HeldSeries(device.fileno())
            stack.callback(held.release)
            self.format = device.format
            self.counters.opened += 1
            logger.info("camera opened: name=%s format=%s", self.options.name, device.format)
            return self._read(device, FrameCheck(device.format), poll, button, held)

    def _read(
        self, device: VideoDevice, check: FrameCheck, poll: select.poll, button: ButtonWatch, held: HeldSeries
    ) -> str:
        offset_s, last_s, patience_s = self._clock_offset_s(), time.monotonic(), FIRST_FRAME_S
        while not self._stop.is_set():
            events = dict(poll.poll(_POLL_MS))
            if abs(self._clock_offset_s() - offset_s) > _ASLEEP_S:
                return "The camera is starting."
            if self._take(device, check, offset_s):
                last_s, patience_s = time.monotonic(), STALLED_S
            elif events.get(device.fileno(), 0) & _GONE:
                raise OSError(errno.ENODEV, "the driver has let go of the camera")
            elif time.monotonic() - last_s > patience_s:
                self.counters.stalled += 1
                logger.warning("camera stalled: name=%s counters=%s", self.options.name, self.counters)
                return "The camera sends no new picture. Unplug it and plug it in again."
            for press_s in button.presses():
                self._on_press(press_s + offset_s)
            if self._is_hold_wanted != held.is_held:
                held.hold() if self._is_hold_wanted else held.release()
        return self._absent

    def _take(self, device: VideoDevice, check: FrameCheck, offset_s: float) -> bool:
        """Empty the driver's queue, so that a late thread gives out what is new; tell whether there was a new frame."""
        newest: Buffer | None = None
        while (buffer := device.read()) is not None:
            if (reason := check.refuse(buffer)) is not None:
                self.counters.refused[reason] += 1
                continue
            self.counters.frames += 1
            newest = buffer
        if newest is None:
            return False
        self.counters.lost += check.lost
        check.lost = 0
        captured_s = min(newest.taken_s + offset_s, self._clock.monotonic_s())
        self._newest.put(newest, check.format, next(self._numbers), captured_s, self.options.modality)
        return True

    def _clock_offset_s(self) -> float:
        """Return what turns the kernel's CLOCK_MONOTONIC into the station's clock, which does not stop in sleep."""
        return self._clock.monotonic_s() - time.monotonic()
