"""Dates and times as the screens say them, in the box's own time zone."""

from datetime import datetime

NOT_CONFIRMED = "date not confirmed"


def day_words(at: datetime, *, is_confirmed: bool) -> str:
    """Say a day: 22 Nov 2026."""
    local = at.astimezone()
    return f"{local.day} {local:%b %Y}" + ("" if is_confirmed else f" ({NOT_CONFIRMED})")


def time_words(at: datetime) -> str:
    """Say a time of day: 10:42."""
    return f"{at.astimezone():%H:%M}"


def age_words(at: datetime, now_at: datetime) -> str:
    """Say how long ago something was, by days: today, yesterday, 3 days ago."""
    days = (now_at.astimezone().date() - at.astimezone().date()).days
    if days <= 0:
        return "today"
    return "yesterday" if days == 1 else f"{days} days ago"
