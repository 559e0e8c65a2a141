"""How long what is kept: who is due for erasing by the clinic's policy. It lists; two people erase.

A date that was not confirmed makes nothing due, and a box whose own date is not confirmed lists nobody: a dead clock
battery must not end a record's life.
"""

from dataclasses import dataclass
from datetime import datetime

from appliance.records.content import SubjectContent
from appliance.records.store import RecordStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A subject whose time is over."""

    subject_id: str
    pseudonym: str
    last_seen_at: datetime
    visits: int


def due_for_erasing(store: RecordStore, keep_years: int) -> tuple[Due, ...]:
    """List the subjects whose newest visit is older than the policy keeps, the oldest first.

    A subject with any visit of an unconfirmed date, or with none, is not listed.

    Raises:
        LockedError: The records are locked.
        ValueError: `keep_years` is less than one.
    """
    if keep_years < 1:
        raise ValueError("a record is kept for a year at least")
    moment = store.now()
    if not moment.is_confirmed:
        return ()
    found = []
    subjects = {record.record_id: record.content for record in store.all_readable(SubjectContent)}
    seen: dict[str, list[tuple[datetime, bool]]] = {}
    for visit in store.visits():
        date = (datetime.fromisoformat(visit.recorded_at), visit.is_date_confirmed)
        seen.setdefault(visit.subject_id, []).append(date)
    for subject_id, dates in seen.items():
        last_seen_at = max(at for at, _ in dates)
        if all(is_confirmed for _, is_confirmed in dates) and _years_later(last_seen_at, keep_years) <= moment.at:
            found.append(
                Due(
                    subject_id=subject_id,
                    pseudonym=subjects[subject_id].pseudonym,
                    last_seen_at=last_seen_at,
                    visits=len(dates),
                )
            )
    return tuple(sorted(found, key=lambda due: due.last_seen_at))


def _years_later(at: datetime, years: int) -> datetime:
    try:
        return at.replace(year=at.year + years)
    except ValueError:  # 29 February
        return at.replace(year=at.year + years, day=28)
