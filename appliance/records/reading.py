"""The reading half of the records: rows and photos, opened and authenticated.

Everything here needs the keys in memory: those of the morning unlock, or of what was made since the last lock.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from appliance.records.clinic_key import KeySlot
from appliance.records.content import CapturedImageContent, Content
from appliance.records.data_keys import stored_key
from appliance.records.errors import DamagedError, ErasedError, MissingError, TamperedError
from appliance.records.held_slots import HeldKind, HeldSlot, select_held
from appliance.records.rows import Record, Row, all_rows, earlier_rows, open_row, select_rows
from appliance.records.saving import Saver
from appliance.records.search import Visit

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Content)


class RecordReader:
    """Opens records; every method may be called from any thread."""

    def __init__(self, saver: Saver) -> None:
        self.saver = saver

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the connection; a damaged file becomes a sentence."""
        with self.saver.lock:
            try:
                yield
            except (sqlite3.Error, OSError) as error:
                logger.error("records not readable error=%s", error)  # noqa: TRY400 - the screen tells it
                raise DamagedError("A stored record cannot be read; restore the newest backup.") from error

    def get(self, kind: type[C], record_id: str) -> Record[C]:
        """Open one record.

        Raises:
            MissingError: There is none of that id; `ErasedError` when it was erased.
            LockedError: The records are locked, and it was not made since.
            TamperedError: It was changed on the disk.
        """
        with self._reading():
            found = select_rows(self.saver.connection, kind, kind.ID_COLUMN, record_id)
            if not found:
                raise MissingError("There is no such record.")
            return self._open(found[0], kind)

    def of(self, kind: type[C], **parent: str) -> tuple[Record[C], ...]:
        """Open the records of one parent, in the order in which they came; erased ones are left out.

        Args:
            kind: Which records.
            parent: One of `subject_id`, `encounter_id`, `lesion_id`, `capture_id`.

        Raises:
            LockedError, TamperedError: As `get`.
        """
        ((column, value),) = parent.items()
        with self._reading():
            rows = select_rows(self.saver.connection, kind, column, value)
            return tuple(self._open(row, kind) for row in rows if row.key_id is not None)

    def all_readable(self, kind: type[C], damaged: list[str] | None = None) -> tuple[Record[C], ...]:
        """Open every record of a kind that was not erased; for the index, retention and exports.

        Args:
            kind: Which records.
            damaged: Takes the ids of those that do not open; without it the first of them raises.

        Raises:
            LockedError, TamperedError: As `get`.
        """
        found = []
        with self._reading():
            for row in all_rows(self.saver.connection, kind):
                if row.key_id is None:
                    continue
                try:
                    found.append(self._open(row, kind))
                except TamperedError:
                    if damaged is None:
                        raise
                    damaged.append(row.record_id)
        return tuple(found)

    def earlier(self, kind: type[C], record_id: str) -> tuple[Record[C], ...]:
        """Open what a record said before it was changed, oldest first.

        Raises:
            LockedError, TamperedError: As `get`.
        """
        with self._reading():
            rows = earlier_rows(self.saver.connection, kind, record_id)
            return tuple(self._open(row, kind) for row in rows if row.key_id is not None)

    def photo(self, record: Record[CapturedImageContent]) -> bytes:
        """Return a photo's original bytes.

        Raises:
            TamperedError: The file is missing, changed or another record's.
        """
        with self._reading():
            row = select_rows(self.saver.connection, CapturedImageContent, "capture_id", record.record_id)
            if not row or row[0].key_id is None:
                raise ErasedError("This photo was erased.")
            encounter_id = str(record.parents["encounter_id"])
            return self.saver.blobs.read(record.record_id, self._data_key(row[0]), encounter_id, record.content.sha256)

    def meta(self, name: str) -> bytes:
        """Read one of the store's own values.

        Raises:
            MissingError: There is none of that name.
        """
        with self._reading():
            found = self.saver.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise MissingError(f"The records lack their {name}.")
        return bytes(found[0])

    def key_slots(self) -> tuple[KeySlot, ...]:
        """Read the copies of the clinic's private key under the phrase and the sheets; backups carry them."""
        with self._reading():
            found = self.saver.connection.execute("SELECT slot_id, kind, salt, wrapped FROM key_slot").fetchall()
        return tuple(KeySlot(slot_id=one[0], kind=one[1], salt=one[2], wrapped=one[3]) for one in found)

    def held_slots(self, kind: HeldKind | None = None) -> tuple[HeldSlot, ...]:
        """Read the copies under key fobs and the box's TPM, or under one of the two, the oldest first."""
        with self._reading():
            found = select_held(self.saver.connection)
        return tuple(held for held in found if kind in {None, held.slot.kind})

    def clear_parent(self, kind: type[Content], record_id: str, column: str) -> str:
        """Read what a record belongs to by its clear column, locked or not; only opening it authenticates that.

        Raises:
            MissingError: There is no such record.
        """
        with self._reading():
            found = select_rows(self.saver.connection, kind, kind.ID_COLUMN, record_id)
        if not found:
            raise MissingError("There is no such record.")
        return str(found[0].parents[column])

    def clear_rows(self, kind: type[Content], **parent: str) -> tuple[Row, ...]:
        """Read the rows of one parent, locked or not, in their order, without the erased ones; authenticates nothing.

        Args:
            kind: Which records.
            parent: As `of`, or the record's own id.
        """
        ((column, value),) = parent.items()
        with self._reading():
            rows = select_rows(self.saver.connection, kind, column, value)
        return tuple(row for row in rows if row.key_id is not None)

    def photo_ids(self) -> set[str]:
        """Read the ids of every photo that was not erased."""
        with self._reading():
            found = self.saver.connection.execute("SELECT capture_id FROM captured_image WHERE key_id IS NOT NULL")
            return {one[0] for one in found}

    def visits_without_pin(self, limit: int) -> tuple[str, ...]:
        """Return the ids of the newest encounters that were begun by nobody who was signed in, locked or not."""
        begun = "SELECT 1 FROM earlier_revision WHERE table_name = 'encounter' AND record_id = encounter_id"
        with self._reading():
            found = self.saver.connection.execute(
                "SELECT encounter_id FROM encounter WHERE key_id IS NOT NULL "
                "AND (revision = 1 AND operator_id IS NULL "
                f"OR EXISTS ({begun} AND revision = 1 AND operator_id IS NULL)) ORDER BY sequence DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return tuple(one[0] for one in found)

    def visits(self, subject_id: str | None = None) -> list[Visit]:
        """Read the clear columns of every encounter that was not erased; of one subject, or of all."""
        whose = "" if subject_id is None else "AND subject_id = ? "
        with self._reading():
            found = self.saver.connection.execute(
                "SELECT encounter_id, subject_id, sequence, recorded_at, date_confirmed FROM encounter "
                f"WHERE key_id IS NOT NULL {whose}ORDER BY sequence",
                () if subject_id is None else (subject_id,),
            ).fetchall()
        return [
            Visit(
                encounter_id=one[0],
                subject_id=one[1],
                sequence=one[2],
                recorded_at=one[3],
                is_date_confirmed=bool(one[4]),
            )
            for one in found
        ]

    def _open(self, row: Row, kind: type[C]) -> Record[C]:
        return open_row(row, kind, self._data_key(row))

    def _data_key(self, row: Row) -> bytes:
        if row.key_id is None:
            raise ErasedError("This record was erased.")
        known = self.saver.keyring.remembered(row.key_id)
        if known is not None:
            return known
        stored = stored_key(self.saver.connection, row.key_id)
        if stored is None:
            raise TamperedError("A record's key is missing.")
        return self.saver.keyring.open(stored)
