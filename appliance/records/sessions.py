"""Who is at the screen: a session as a pure state machine that is told the time.

Idle for three minutes: locked, the same person's PIN opens it where it was. Twelve hours: over. Another person: a new
session; drafts stay with whom they belong to. It compares no PIN and knows no records.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

SessionState = Literal["signed-out", "active", "locked"]
IDLE_S: Final = 180.0
"""HIPAA 164.312(a)(2)(iii), automatic logoff; the settings allow 1 to 10 minutes."""
LONGEST_S: Final = 12 * 3600.0
FRESH_S: Final = 120.0
"""How long a typed PIN counts as just typed, for exports, erasing, users and pairing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One person's time at the screen; all times are seconds on the monotonic clock."""

    state: SessionState = "signed-out"
    user_id: str | None = None
    signed_in_s: float = 0.0
    touched_s: float = 0.0
    pin_s: float = 0.0
    idle_s: float = IDLE_S

    def at(self, now_s: float) -> "Session":
        """Return the session as it is now: locked by idleness, over by age, or as it was."""
        if self.state == "signed-out":
            return self
        # A clock that went back must not prolong anything, so it locks.
        if now_s < self.touched_s or now_s - self.signed_in_s >= LONGEST_S:
            return Session(idle_s=self.idle_s)
        if self.state == "active" and now_s - self.touched_s >= self.idle_s:
            return self.locked()
        return self

    def signed_in(self, user_id: str, now_s: float) -> "Session":
        """Begin, or go on after a lock: the PIN was right."""
        current = self.at(now_s)
        if current.state == "locked" and current.user_id == user_id:
            return replace(current, state="active", touched_s=now_s, pin_s=now_s)
        return Session(
            state="active", user_id=user_id, signed_in_s=now_s, touched_s=now_s, pin_s=now_s, idle_s=self.idle_s
        )

    def touched(self, now_s: float) -> "Session":
        """Somebody pressed something; a locked session stays locked."""
        current = self.at(now_s)
        return replace(current, touched_s=now_s) if current.state == "active" else current

    def locked(self) -> "Session":
        """The lock was pressed, or the lid closed."""
        return replace(self, state="locked") if self.state == "active" else self

    def signed_out(self) -> "Session":
        """The person left."""
        return Session(idle_s=self.idle_s)

    def has_fresh_pin(self, now_s: float) -> bool:
        """Whether the PIN was typed just now, by whoever is at the screen."""
        return self.at(now_s).state == "active" and 0 <= now_s - self.pin_s <= FRESH_S

    def idle_left_s(self, now_s: float) -> float:
        """Return the seconds until it locks by itself; 0 when it is not active."""
        current = self.at(now_s)
        return max(0.0, self.idle_s - (now_s - current.touched_s)) if current.state == "active" else 0.0
