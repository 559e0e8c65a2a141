"""What to do better, while the live picture is on a screen: measures the newest frame, one after the other.

It never holds the preview up: a frame that comes while another is measured takes the place of the one that waits. If
nothing can be measured, nothing is said and nothing is held back.
"""

import logging
import threading
import time
from typing import Final, Self

from appliance.clock import Clock, SystemClock
from appliance.config import QualityConfig
from appliance.errors import ImageError
from appliance.imaging.advice import Advice, Meter, advice_for, meters_for
from appliance.imaging.quality import ImageMeasures
from appliance.imaging.sandbox import DecoderGoneError, Sandbox
from appliance.service.errors import UnreadablePhotoError
from appliance.types import Frame

logger = logging.getLogger(__name__)

_FRAMES_PER_PROCESS: Final = 2_000
"""70 s of a process that may use 100."""
_DEADLINE_S: Final = 1.0
_SAID_S: Final = 2.0
"""An older sentence belongs to a picture that is gone."""
_EVERY_S: Final = 0.09
"""Eleven frames a second: what "moving" was chosen at, and a third of what a core could do."""
_STOP_S: Final = 5.0
UNREADABLE: Final = "The camera's picture cannot be read, so nothing was kept. Press again, or check its cable."


class LiveQuality:
    """Measures frames on a thread of its own, in a confined process; a context manager."""

    def __init__(self, config: QualityConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._sandbox = Sandbox(deadline_s=_DEADLINE_S, jobs_per_process=_FRAMES_PER_PROCESS)
        self._arrival = threading.Condition()
        self._waiting: Frame | None = None
        self._last_sequence = -1
        self._is_over = False
        self._stopped = threading.Event()
        self._said: tuple[Advice, float] | None = None
        self._candidate: Advice | None = None
        self._meters: tuple[dict[Meter, bool], float] = ({}, -_SAID_S)
        self._last_meters: dict[Meter, bool] = {}
        self._thread = threading.Thread(target=self._run, name="live-quality", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stopped.set()
        with self._arrival:
            self._is_over = True
            self._arrival.notify()
        self._sandbox.close()
        self._thread.join(_STOP_S)
        # It may have started another meanwhile.
        self._sandbox.close()

    @property
    def advice(self) -> Advice | None:
        """What is said now; None when nothing was measured in the last two seconds."""
        said = self._said
        return said[0] if said is not None and self._clock.monotonic_s() - said[1] <= _SAID_S else None

    @property
    def meters(self) -> dict[Meter, bool]:
        """What is good enough now and what is not; empty when nothing was measured in the last two seconds."""
        meters, measured_s = self._meters
        return meters if self._clock.monotonic_s() - measured_s <= _SAID_S else {}

    def offer(self, frame: Frame) -> None:
        """Take a frame that is being shown; returns at once."""
        with self._arrival:
            if frame.sequence != self._last_sequence:
                self._waiting = frame
                self._arrival.notify()

    def judge(self, content: bytes) -> Advice | None:
        """Say of one frame by itself what is wrong with it; None when that cannot be measured.

        Raises:
            UnreadablePhotoError: No decoder reads it: whole as it came, it is no picture for anybody.
        """
        try:
            return advice_for(self._sandbox.measure(content, is_preview=False), self._config)
        except DecoderGoneError as error:
            logger.warning("frame not judged: %s", error)
            return None
        except ImageError as error:
            logger.warning("frame unreadable: %s", error)
            raise UnreadablePhotoError(UNREADABLE) from error

    def _run(self) -> None:
        began_s = -_EVERY_S
        while not self._stopped.wait(max(0.0, began_s + _EVERY_S - time.monotonic())):
            with self._arrival:
                while self._waiting is None and not self._is_over:
                    self._arrival.wait()
                frame, self._waiting = self._waiting, None
                if self._is_over or frame is None:
                    return
                self._last_sequence = frame.sequence
            began_s = time.monotonic()
            try:
                measures = self._sandbox.measure(frame.content, is_preview=True)
            except ImageError as error:
                logger.debug("frame not measured: %s", error)
                continue
            self._say(advice_for(measures, self._config))
            self._show(measures)

    def _show(self, measures: ImageMeasures) -> None:
        """Change a meter once two frames agree, as the sentence."""
        found, before = meters_for(measures, self._config), self._last_meters
        shown = {
            meter: is_good if before.get(meter, is_good) == is_good else self.meters.get(meter, is_good)
            for meter, is_good in found.items()
        }
        self._meters, self._last_meters = (shown, self._clock.monotonic_s()), found

    def _say(self, advice: Advice) -> None:
        """Change the sentence once two frames agree: a sentence that flickers is not read."""
        now_s = self._clock.monotonic_s()
        if self.advice in (None, advice) or advice == self._candidate:
            self._said = (advice, now_s)
        elif self._said is not None:
            self._said = (self._said[0], now_s)
        self._candidate = advice
