"""A clock that obeys; in a module of its own, so that tests of the lower layers need not import the upper ones."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic_s(self) -> float:
        return self.passed_s

    def now_at(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.passed_s)
