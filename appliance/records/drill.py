"""The restore drill: prove, in minutes and without touching anything, that a backup would come back.

It reads the whole backup, checks its signature and every chunk, and opens some visits chosen by chance with the
recovery sheet that was fetched from its envelope. Nothing is written to any disk.
"""

import contextlib
import random
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.records import archive, audit
from appliance.records.blobs import open_blob
from appliance.records.clinic_key import OpenedSlot, WrappingKey, open_key
from appliance.records.content import CapturedImageContent, EncounterContent, SubjectContent
from appliance.records.data_keys import stored_key
from appliance.records.database import DATABASE_NAME
from appliance.records.errors import ArchiveError, ErasedError
from appliance.records.rows import Row, open_row, select_rows
from appliance.records.store import ORIGIN_IDENTITY

OPENED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What the drill proved."""

    sequence: int
    encounters: int
    """In the backup."""
    opened_encounters: int
    opened_photos: int


def drill(path: Path, secret: WrappingKey, rng: random.Random, *, count: int = OPENED) -> Drilled:
    """Try a backup.

    Raises:
        WrongSecretError: The phrase or sheet does not open it.
        ArchiveError, TamperedError: It would not come back.
        OSError: It cannot be read.
    """
    opened = archive.open_archive(path, secret)
    if opened.slot is None:
        raise ArchiveError("This backup was not opened.")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        chosen: dict[str, Row] = {}
        encounters = opened_encounters = opened_photos = 0
        for name, _, content in archive.members(opened):
            if name == DATABASE_NAME:
                connection.deserialize(content.read())
                _check_audit(connection, opened.slot)
                found = [one[0] for one in connection.execute("SELECT encounter_id FROM encounter WHERE key_id <> ''")]
                encounters = len(found)
                for encounter_id in rng.sample(found, min(count, len(found))):
                    chosen |= _open_encounter(connection, opened.slot, encounter_id)
                    opened_encounters += 1
            elif name.removeprefix("blobs/") in chosen:
                row = chosen.pop(name.removeprefix("blobs/"))
                _open_photo(connection, opened.slot, row, content.read())
                opened_photos += 1
    if chosen:
        raise ArchiveError("This backup lacks photos of its records; make another one.")
    return Drilled(
        sequence=opened.header.sequence,
        encounters=encounters,
        opened_encounters=opened_encounters,
        opened_photos=opened_photos,
    )


def _check_audit(connection: sqlite3.Connection, slot: OpenedSlot) -> None:
    sealed = connection.execute("SELECT value FROM meta WHERE name = 'audit_origin'").fetchone()
    origin = open_key(slot.private_key, bytes(sealed[0]), ORIGIN_IDENTITY)
    problems = audit.verify(connection, origin).problems
    if problems:
        raise ArchiveError(f"This backup's audit does not hold: {problems[0]}")


def _open_encounter(connection: sqlite3.Connection, slot: OpenedSlot, encounter_id: str) -> dict[str, Row]:
    """Open a visit and its subject; return the rows of its photos, which come later."""
    (encounter,) = select_rows(connection, EncounterContent, "encounter_id", encounter_id)
    open_row(encounter, EncounterContent, _key(connection, slot, encounter))
    (subject,) = select_rows(connection, SubjectContent, "subject_id", str(encounter.parents["subject_id"]))
    open_row(subject, SubjectContent, _key(connection, slot, subject))
    photos = select_rows(connection, CapturedImageContent, "encounter_id", encounter_id)
    return {row.record_id: row for row in photos if row.key_id is not None}


def _open_photo(connection: sqlite3.Connection, slot: OpenedSlot, row: Row, sealed: bytes) -> None:
    data_key = _key(connection, slot, row)
    described = open_row(row, CapturedImageContent, data_key).content
    open_blob(sealed, row.record_id, data_key, str(row.parents["encounter_id"]), described.sha256)


def _key(connection: sqlite3.Connection, slot: OpenedSlot, row: Row) -> bytes:
    stored = stored_key(connection, str(row.key_id))
    if stored is None:
        raise ErasedError("A record's key is missing.")
    return open_key(slot.private_key, stored.sealed, stored.identity())
