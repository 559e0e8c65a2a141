"""What one check of `dermstation doctor` says."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]
VERDICTS: tuple[Verdict, ...] = ("ok", "warning", "problem")
"""From best to worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; `action` says what to do about anything but an `ok`."""

    name: str
    verdict: Verdict
    found: str
    action: str | None = None


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name=name, verdict="ok", found=found)


def warning(name: str, found: str, action: str) -> Check:
    """The box works, with less than it could have."""
    return Check(name=name, verdict="warning", found=found, action=action)


def problem(name: str, found: str, action: str) -> Check:
    """Something does not work, or works otherwise than it seems."""
    return Check(name=name, verdict="problem", found=found, action=action)


def worst(checks: list[Check]) -> Verdict:
    """Return the verdict on all of them."""
    return max((check.verdict for check in checks), key=VERDICTS.index, default="ok")
