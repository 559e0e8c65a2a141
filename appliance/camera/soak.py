"""Watches one camera for a long while, and counts what must not happen: old frames, gaps, leaks."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from appliance.camera.v4l2 import V4l2Camera
from appliance.clock import Clock
from appliance.errors import CameraError

STALE_S: Final = 0.5
"""Rule 1 of the appliance: an older frame is kept by nobody; here it is counted."""
_GAP_S: Final = 0.5
_TELL_S: Final = 60.0
_SETTLE_S: Final = 1.0
_DESCRIPTORS: Final = "/proc/self/fd"


@dataclass(slots=True, kw_only=True)
class SoakReport:
    """What was seen."""

    seconds: float = 0.0
    frames: int = 0
    stale: int = 0
    """Frames that were given out older than `STALE_S`."""
    repeated: int = 0
    """Frames that were given out twice, by bytes."""
    gaps: int = 0
    """Times without a frame for longer than half a second, the camera being there."""
    losses: int = 0
    """Times that the camera was gone."""
    recovery_s: float = 0.0
    """Longest time from "gone" to the next frame; it holds how long the plug was out."""
    leaked_descriptors: int = 0
    leaked_threads: int = 0
    counters: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether nothing happened that the station answers for."""
        return self.frames > 0 and not (self.repeated or self.leaked_descriptors or self.leaked_threads)

    def lines(self) -> Iterator[str]:
        """Say it in words."""
        yield f"{self.frames} frames in {self.seconds:.0f} s: {self.frames / max(self.seconds, 1e-9):.1f} frames/s"
        yield f"given out late (older than 0.5 s): {self.stale}; given out twice: {self.repeated}"
        yield f"gaps over 0.5 s: {self.gaps}; camera gone: {self.losses}, longest until a frame {self.recovery_s:.1f} s"
        yield f"leaked: {self.leaked_descriptors} descriptors, {self.leaked_threads} threads"
        yield f"driver and camera: {self.counters}"


def watch_camera(camera: V4l2Camera, seconds: float, clock: Clock, tell: Callable[[str], None]) -> SoakReport:
    """Take every frame that a started camera gives for `seconds`, and return what was seen.

    Args:
        camera: The camera.
        seconds: How long.
        clock: The one that dates its frames.
        tell: Called with a line every minute.
    """
    report = SoakReport()
    began_s = told_s = seen_s = time.monotonic()
    gone_s: float | None = None
    after, last, start = -1, b"", (0, 0)
    while (now_s := time.monotonic()) - began_s < seconds:
        if now_s - told_s > _TELL_S:
            told_s = now_s
            tell(f"{now_s - began_s:.0f} s: {report.frames} frames, {report.stale} late, {report.losses} times gone")
        try:
            frame = camera.frame(after, 0.1)
        except CameraError:
            if gone_s is None and after >= 0:
                gone_s, report.losses = now_s, report.losses + 1
            time.sleep(0.02)
            continue
        now_s = time.monotonic()
        if frame is None:
            continue
        if gone_s is not None:
            report.recovery_s, gone_s = max(report.recovery_s, now_s - gone_s), None
        elif after >= 0 and now_s - seen_s > _GAP_S:
            report.gaps += 1
        start = start if after >= 0 else _counted()
        report.stale += clock.monotonic_s() - frame.captured_s > STALE_S
        report.repeated += frame.content == last
        report.frames += 1
        after, last, seen_s = frame.sequence, frame.content, now_s
    report.seconds = time.monotonic() - began_s
    report.counters = str(camera.counters)
    _count_leaks(report, camera, start)
    return report


def _count_leaks(report: SoakReport, camera: V4l2Camera, start: tuple[int, int]) -> None:
    """Compare with the first frame's numbers while the camera is open; while it is gone it holds fewer."""
    until_s = time.monotonic() + _SETTLE_S
    while camera.format is None and time.monotonic() < until_s:
        time.sleep(0.02)
    descriptors, threads = _counted()
    report.leaked_descriptors = max(0, descriptors - start[0]) if report.frames else 0
    report.leaked_threads = max(0, threads - start[1]) if report.frames else 0


def _counted() -> tuple[int, int]:
    return len(os.listdir(_DESCRIPTORS)), threading.active_count()  # noqa: PTH208 - descriptors, not files
