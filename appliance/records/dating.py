"""Whether the box's date can be believed: without internet, and with an empty clock battery, often not.

Nothing is ordered by date (the audit's sequence orders everything) and nothing expires by it unasked. A date that
cannot be believed is kept all the same and shown as "date not confirmed".
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance.clock import Clock

RELEASED_AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""This version did not exist before."""
BACKWARDS_TOLERANCE: Final = timedelta(minutes=2)
"""A clock that somebody sets right by hand may be off by that."""
CLOSED_AT_MOST: Final = timedelta(days=14)
"""A clinic that was closed for longer is asked for the date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something was recorded, as far as the box knows."""

    at: datetime
    is_confirmed: bool

    @property
    def text(self) -> str:
        """ISO 8601 in UTC, to the millisecond."""
        return self.at.astimezone(UTC).isoformat(timespec="milliseconds")


class Calendar:
    """Follows the box's clock while it runs, and notices when it jumps; not thread-safe: the store's lock covers it."""

    def __init__(self, clock: Clock, last_recorded_at: datetime | None) -> None:
        self._clock = clock
        self._last_recorded_at = last_recorded_at
        self._anchor_at = clock.now_at()
        self._anchor_s = clock.monotonic_s()
        self._is_confirmed = is_plausible(self._anchor_at, last_recorded_at)

    def now(self) -> Moment:
        """Return the present; once the clock has jumped, it is not confirmed until somebody does."""
        at = self._clock.now_at()
        passed = timedelta(seconds=self._clock.monotonic_s() - self._anchor_s)
        if abs(at - self._anchor_at - passed) > BACKWARDS_TOLERANCE:
            self._is_confirmed = False
        return Moment(at=at, is_confirmed=self._is_confirmed)

    def confirm(self) -> Moment:
        """Take somebody's word that the date on the screen is right, until it jumps or the box starts anew."""
        self._anchor_at, self._anchor_s = self._clock.now_at(), self._clock.monotonic_s()
        self._is_confirmed = self._anchor_at >= RELEASED_AT
        return self.now()


def is_plausible(now_at: datetime, last_recorded_at: datetime | None) -> bool:
    """Judge the clock at start against the last thing that was recorded; None when nothing was yet."""
    if last_recorded_at is None:
        return False  # set-up asks
    if now_at < RELEASED_AT or now_at < last_recorded_at - BACKWARDS_TOLERANCE:
        return False
    return now_at - last_recorded_at <= CLOSED_AT_MOST
