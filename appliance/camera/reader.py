"""One thread's life with a camera: it opens the camera whenever it is plugged in and keeps its newest frame.

What it keeps is its own: a thread that is given up, because the driver does not come back to it, can give out nothing.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.camera.button import ButtonWatch
from appliance.camera.by_id import button_of
from appliance.camera.controls import HeldSeries
from appliance.camera.frame_check import Buffer, FrameCheck, PictureFormat
from appliance.camera.newest import NewestFrame
from appliance.camera.video_device import LET_GO_S, VideoDevice, sentence_of
from appliance.clock import Clock, SystemClock
from appliance.errors import CameraError
from appliance.types import Modality

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
    refused: Counter[str] = field(default_factory=Counter)
    """Buffers that were no frame, by reason (`frame_check.Refusal`)."""
    opened: int = 0
    stalled: int = 0
    hung: int = 0
    """Threads that were given up."""


@dataclass(slots=True, kw_only=True)
class CameraShared:
    """What the threads of one camera share: the one that reads it, and those before it that were given up."""

    find: Callable[[], Path | None]
    options: CameraOptions
    on_press: Callable[[float], None] = lambda _: None
    clock: Clock = field(default_factory=SystemClock)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    counters: CameraCounters = field(default_factory=CameraCounters)
    is_hold_wanted: bool = False

    @property
    def absent(self) -> str:
        """What the screen says when it is not plugged in."""
        return f"No {self.options.name} is connected. Plug the {self.options.name} in."


class CameraReader:
    """The thread, from `start` to `stop`."""

    def __init__(self, shared: CameraShared) -> None:
        self._shared = shared
        self.newest = NewestFrame(f"The {shared.options.name} is starting.")
        self.format: PictureFormat | None = None
        """What was agreed on with the camera that is open; None while none is."""
        self.alive_s = time.monotonic()
        """When the thread last said that it goes on, on CLOCK_MONOTONIC."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{shared.options.name}", daemon=True)

    def start(self) -> None:
        """Start looking for the camera."""
        self._thread.start()

    def stop(self, sentence: str) -> None:
        """Give out nothing more, let waiting calls return with a sentence, and let the thread end when it can."""
        self._stop.set()
        self.newest.drop(sentence)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        if self.is_running:
            self._thread.join(timeout_s)

    @property
    def is_running(self) -> bool:
        """Whether there is a thread, however it does."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.alive_s = time.monotonic()
            try:
                path = self._shared.find()
                sentence = self._shared.absent if path is None else self._stream(path)
            except CameraError as error:
                sentence = str(error)
            except OSError as error:
                sentence = sentence_of(error)
                logger.info("camera closed: name=%s errno=%s", self._shared.options.name, error.errno)
            except Exception:
                # A thread's edge: a camera that does something unheard of must not end the clinic's day.
                logger.exception("camera failed: name=%s", self._shared.options.name)
                sentence = "The camera cannot be used; unplug it and plug it in again."
            self.format = None
            self.newest.drop(sentence)
            self._stop.wait(LOOK_S)

    def _stream(self, path: Path) -> str:
        """Read frames until the camera is gone, hangs or is not wanted any more; return what the screen says then."""
        with ExitStack() as stack:
            options = self._shared.options
            device = stack.enter_context(VideoDevice(path, options.wanted, options.frames_per_s, pause=self._stop.wait))
            if device.format is None:
                raise CameraError("The camera did not say what it sends.")
            poll = select.poll()
            poll.register(device, select.POLLIN)
            button = stack.enter_context(ButtonWatch(lambda: button_of(path.resolve()), poll))
            held = HeldSeries(device.fileno())
            stack.callback(held.release)
            self.format = device.format
            self._shared.counters.opened += 1
            logger.info("camera opened: name=%s format=%s", self._shared.options.name, device.format)
            try:
                return self._read(device, FrameCheck(device.format), poll, button, held)
            except OSError as error:
                self.newest.drop(sentence_of(error))
                self._stop.wait(LET_GO_S)
                raise
            finally:
                # Letting go may keep the driver busy for seconds, and the last picture must not be seen meanwhile.
                self.newest.drop(f"The {self._shared.options.name} is starting.")

    def _read(
        self, device: VideoDevice, check: FrameCheck, poll: select.poll, button: ButtonWatch, held: HeldSeries
    ) -> str:
        offset_s, last_s, patience_s = self._clock_offset_s(), time.monotonic(), FIRST_FRAME_S
        while not self._stop.is_set():
            self.alive_s = time.monotonic()
            events = dict(poll.poll(_POLL_MS))
            if abs(self._clock_offset_s() - offset_s) > _ASLEEP_S:
                return "The camera is starting."
            if self._take(device, check, offset_s):
                last_s, patience_s = time.monotonic(), STALLED_S
            elif events.get(device.fileno(), 0) & _GONE:
                raise OSError(errno.ENODEV, "the driver has let go of the camera")
            elif time.monotonic() - last_s > patience_s:
                self._shared.counters.stalled += 1
                logger.warning("camera stalled: name=%s counters=%s", self._shared.options.name, self._shared.counters)
                return "The camera sends no new picture. Unplug it and plug it in again."
            for press_s in button.presses():
                self._press(press_s + offset_s)
            if self._shared.is_hold_wanted != held.is_held:
                held.hold() if self._shared.is_hold_wanted else held.release()
        return self._shared.absent

    def _take(self, device: VideoDevice, check: FrameCheck, offset_s: float) -> bool:
        """Empty the driver's queue, so that a late thread gives out what is new; tell whether there was a new frame."""
        newest: Buffer | None = None
        while (buffer := device.read()) is not None:
            if (reason := check.refuse(buffer)) is not None:
                self._shared.counters.refused[reason] += 1
                continue
            self._shared.counters.frames += 1
            newest = buffer
        if newest is None:
            return False
        self._shared.counters.lost += check.lost
        check.lost = 0
        captured_s = min(newest.taken_s + offset_s, self._shared.clock.monotonic_s())
        self.newest.put(newest, check.format, next(self._shared.numbers), captured_s, self._shared.options.modality)
        return True

    def _press(self, pressed_s: float) -> None:
        if not self._stop.is_set():  # the shutter belongs to the thread that is there now
            self._shared.on_press(pressed_s)

    def _clock_offset_s(self) -> float:
        """Return what turns the kernel's CLOCK_MONOTONIC into the station's clock, which does not stop in sleep."""
        return self._shared.clock.monotonic_s() - time.monotonic()
