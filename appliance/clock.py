"""Time as a parameter: intervals from a clock that never jumps, moments in UTC for people."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What code that waits, ages or dates things asks for the time."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment; never goes back, also when the box sleeps or its date is set."""

    def now_at(self) -> datetime:
        """Return the present, aware, in UTC; may be wrong on a box without internet."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        """Return CLOCK_BOOTTIME, which goes on while the machine sleeps: a frame from before is old."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now_at(self) -> datetime:
        """Return the present in UTC."""
        return datetime.now(UTC)
