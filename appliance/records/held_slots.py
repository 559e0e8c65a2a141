"""Slots that hang on a thing, a key fob or the box's TPM, as they lie in the database; acts on them are `slots.py`.

They lie apart from those of the phrase and the sheets, which stand in clear at the head of each backup: what is lost
with a fob is this box's records and no backup. It asks for no secret and audits nothing.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import Literal

from appliance.records.clinic_key import KeySlot

HeldKind = Literal["fob", "tpm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSlot:
    """One such slot, and what is told of it."""

    slot: KeySlot = field(repr=False)
    name: str
    """As the lead called it."""
    sealed: bytes = field(default=b"", repr=False)
    """What only this box's TPM opens; empty for a fob."""
    made_at: str = ""
    """The box's date, UTC, ISO 8601."""
    is_date_confirmed: bool = False


def insert_held(connection: sqlite3.Connection, held: HeldSlot, sequence: int) -> None:
    """Write a slot, inside the caller's transaction."""
    slot = held.slot
    connection.execute(
        "INSERT INTO held_slot (slot_id, kind, name, salt, wrapped, sealed, sequence) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (slot.slot_id, slot.kind, held.name, slot.salt, slot.wrapped, held.sealed, sequence),
    )


def select_held(connection: sqlite3.Connection) -> tuple[HeldSlot, ...]:
    """Read all of them, the oldest first."""
    # A disk that takes no writes keeps the schema of the version before.
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'held_slot'").fetchone() is None:
        return ()
    found = connection.execute(
        "SELECT slot_id, kind, salt, wrapped, name, sealed, recorded_at, date_confirmed"
        " FROM held_slot JOIN audit USING (sequence) ORDER BY sequence"
    )
    return tuple(
        HeldSlot(
            slot=KeySlot(slot_id=one[0], kind=one[1], salt=one[2], wrapped=one[3]),
            name=one[4],
            sealed=one[5],
            made_at=one[6],
            is_date_confirmed=bool(one[7]),
        )
        for one in found
    )


def delete_held(connection: sqlite3.Connection, slot_id: str) -> None:
    """Remove one, inside the caller's transaction; `secure_delete` overwrites it in the file."""
    connection.execute("DELETE FROM held_slot WHERE slot_id = ?", (slot_id,))


def delete_all_held(connection: sqlite3.Connection) -> None:
    """Remove every one, inside the caller's transaction: a backup knows nothing of what was revoked since."""
    connection.execute("DELETE FROM held_slot")
