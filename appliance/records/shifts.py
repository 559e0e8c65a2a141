"""The change of shift: what was done since somebody else signed in, and six words to compare with the paper book.

A shift begins where another person signs in than the time before. Its words are those of the entry of that sign-in, so
whoever changes, drops or puts back anything before it gets other words than the book has. Nothing here is secret.
"""

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Final

from appliance.records import audit
from appliance.records.audit import Entry

_COUNTED: Final = {"encounter": "visits", "captured_image": "photos"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One place in the audit."""

    sequence: int
    user_id: str
    recorded_at: str
    is_date_confirmed: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The present shift's beginning, and what was done in the one before."""

    began: Mark
    before: Mark | None
    """Where the one before began; its words are in the book already. None in the first shift."""
    visits: int
    photos: int
    without_pin: int
    """Of the photos; for the lead to look at."""
    wrong_pins: int


def is_shift_new(connection: sqlite3.Connection) -> bool:
    """Whether whoever signed in last is another person than the one before: the words are due."""
    last_two = [operator_id for _, operator_id in _sign_ins(connection)[:2]]
    return len(set(last_two)) > 1


def present_shift(connection: sqlite3.Connection) -> Shift | None:
    """Look for the last change of shift; None before anybody signed in."""
    changes = _changes(_sign_ins(connection))
    if not changes:
        return None
    began = audit.entry_at(connection, changes[0])
    before = audit.entry_at(connection, changes[1]) if len(changes) > 1 else None
    found = Counter[str]()
    for entry in audit.entries(connection, after=before.sequence if before else 0, limit=began.sequence):
        if entry.sequence >= began.sequence:
            break
        _count(entry, found)
    return Shift(
        began=_mark(began), before=None if before is None else _mark(before),
        visits=found["visits"], photos=found["photos"], without_pin=found["without PIN"],
        # Each try is counted before it is compared; this shift's own first one was right.
        wrong_pins=max(0, found["pin-tried"] - found["signed-in"] - found["pin-confirmed"] - 1),
    )  # fmt: skip


def _sign_ins(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """Return who signed in when, the newest first."""
    return list(
        connection.execute("SELECT sequence, operator_id FROM audit WHERE action = 'signed-in' ORDER BY sequence DESC")
    )


def _changes(newest_first: list[tuple[int, str]]) -> list[int]:
    """Return the first sign-in of each of the last two shifts, the present one first."""
    starts: list[int] = []
    for (sequence, operator_id), older in zip(newest_first, [*newest_first[1:], None], strict=False):
        if older is None or older[1] != operator_id:
            starts.append(sequence)
        if len(starts) == 2:
            break
    return starts


def _count(entry: Entry, found: Counter[str]) -> None:
    found[entry.action] += 1
    if entry.action != "added":
        return
    for table, *_ in json.loads(entry.objects):
        if name := _COUNTED.get(table):
            found[name] += 1
        if table == "captured_image" and entry.operator_id is None:
            found["without PIN"] += 1


def _mark(entry: Entry) -> Mark:
    return Mark(
        sequence=entry.sequence,
        user_id=entry.operator_id or "",
        recorded_at=entry.recorded_at,
        is_date_confirmed=bool(entry.date_confirmed),
        words=audit.digest_words(entry.hash),
    )
