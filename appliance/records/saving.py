"""Saving: the one function by which anything becomes stored, and its receipt.

In this order: photo written under a temporary name, fsynced, renamed, its folder fsynced; rows and their audit entry
committed with full durability; everything read back, opened and compared. Only then is there a `Saved`, and only a
`Saved` lets a screen say so. A fault before the commit leaves nothing; a fault of the disk closes the store for good.
Source: order and its losses, `DESIGN.md`, "What saved means".
"""

import errno
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.records import audit, space
from appliance.records.blobs import Blobs
from appliance.records.content import DraftContent
from appliance.records.data_keys import DataKeys
from appliance.records.database import transaction
from appliance.records.dating import Calendar, Moment
from appliance.records.door import Door
from appliance.records.errors import (
    DiskFullError,
    NotSavedError,
    OrderError,
    ReadOnlyError,
    RecordsError,
    StorageFailedError,
    TamperedError,
)
from appliance.records.keyring import Keyring
from appliance.records.rows import Row, insert_row, open_row, replace_row, sealed_row, select_rows
from appliance.records.write import Write

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
FAILED: Final = "The disk failed while saving; this was not saved. The station starts anew and checks what it has."
FULL: Final = "The disk is full; this was not saved. Ask the technician for more room."
READ_ONLY: Final = "The disk takes no writes; this was not saved. Tell the technician."


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The receipt: all of it is on the disk, was read back, and opened."""

    sequence: int
    recorded_at: str
    is_date_confirmed: bool
    record_ids: tuple[str, ...]
    digest: str
    """SHA-256 of the audit entry, in hex."""


Also = Callable[[sqlite3.Connection, int], None]
"""What else happens in the same transaction; it gets the sequence."""


class Saver:
    """Owns the connection's one writer; reading shares its lock."""

    def __init__(
        self, *, connection: sqlite3.Connection, folder: Path, door: Door, keyring: Keyring, calendar: Calendar
    ) -> None:
        self.lock = threading.RLock()
        self.connection = connection
        self.keyring = keyring
        self.calendar = calendar
        self.door = door
        self.blobs = Blobs(folder, door)
        self._folder = folder
        self._has_failed = False

    @property
    def has_failed(self) -> bool:
        """Whether the disk failed: then the process ends and starts anew."""
        return self._has_failed

    def save(
        self,
        action: str | None,
        operator_id: str | None,
        writes: Sequence[Write] = (),
        *,
        also: Also | None = None,
        objects: Sequence[audit.ObjectState] = (),
        detail: str = "",
    ) -> Saved:
        """Save, read back, authenticate.

        Args:
            action: What the audit calls it; None for a draft, which is not audited.
            operator_id: Who does it.
            writes: Records, parents before children.
            also: Further statements of the same transaction.
            objects: Records that the entry names without writing them.
            detail: Fixed words for the entry; no patient data.

        Raises:
            DiskFullError, ReadOnlyError, NotSavedError: Nothing was kept; the store goes on.
            OrderError: A record may not be made now; nothing was kept.
            StorageFailedError: The disk failed; the store is closed for good.
        """
        with self.lock:
            if self._has_failed:
                raise StorageFailedError(FAILED)
            try:
                return self._save(action, operator_id, writes, also, objects, detail)
            except DiskFullError:
                # Signing in, deleting and the audit must go on when the disk is full; photos have a room of their own.
                has_photo = any(write.photo is not None for write in writes)
                if has_photo and space.look(self._folder).level == "full":
                    raise
                if not (space.drop_reserve if has_photo else space.drop_ballast)(self._folder):
                    raise
                return self._save(action, operator_id, writes, also, objects, detail)

    def _save(
        self,
        action: str | None,
        operator_id: str | None,
        writes: Sequence[Write],
        also: Also | None,
        objects: Sequence[audit.ObjectState],
        detail: str,
    ) -> Saved:
        moment = self.calendar.now()
        keys = DataKeys(self.connection, self.keyring)
        photos = [write.record_id for write in writes if write.photo is not None]
        is_committing, before = False, -1
        try:
            before = self.last_entry().sequence
            for write in writes:
                self._write_photo(write, keys)
            with transaction(self.connection):
                rows = self._write_rows(action, operator_id, writes, keys, moment)
                entry = self.last_entry()
                if action is not None:
                    # A draft is changed without an entry, so none speaks of it, even of one that comes with a record.
                    states = [*(row.state() for row in rows if row.table != DraftContent.TABLE), *objects]
                    entry = audit.append(
                        self.connection, action, moment, operator_id=operator_id, objects=states, detail=detail
                    )
                if also is not None:
                    also(self.connection, entry.sequence)
                is_committing = True
            keys.remember()
            self._read_back(writes, rows, entry)
        except (OSError, sqlite3.Error) as error:
            raise self._not_saved(error, photos, before) from error
        except BaseException as error:
            if not is_committing:
                self._discard(photos)
            elif isinstance(error, TamperedError):
                # What was read back is not what was written: this disk keeps no promise.
                self._has_failed = True
                raise StorageFailedError(FAILED) from error
            raise
        return Saved(
            sequence=entry.sequence,
            recorded_at=moment.text,
            is_date_confirmed=moment.is_confirmed,
            record_ids=tuple(write.record_id for write in writes),
            digest=entry.hash.hex(),
        )

    def _write_photo(self, write: Write, keys: DataKeys) -> None:
        if write.photo is None:
            return
        if space.make_room(self._folder, len(write.photo)).level == "full":
            raise DiskFullError(FULL)
        encounter_id = str(write.parents["encounter_id"])
        _, data_key = keys.of(write.content, write.record_id, write.parents)
        self.blobs.write(write.record_id, write.photo, data_key, encounter_id)

    def _write_rows(
        self, action: str | None, operator_id: str | None, writes: Sequence[Write], keys: DataKeys, moment: Moment
    ) -> list[Row]:
        sequence = self.last_entry().sequence + (action is not None)
        rows = []
        for write in writes:
            key_id, data_key = keys.of(write.content, write.record_id, write.parents)
            bare = Row(
                table=write.content.TABLE,
                record_id=write.record_id,
                parents={name: write.parents.get(name) for name in write.content.PARENTS},
                revision=write.revision,
                sequence=sequence,
                recorded_at=moment.text,
                date_confirmed=int(moment.is_confirmed),
                operator_id=operator_id,
                key_id=key_id,
            )
            rows.append(sealed_row(bare, write.content, data_key))
        keys.insert(sequence)
        for row, write in zip(rows, writes, strict=True):
            if row.revision == 1:
                insert_row(self.connection, row, type(write.content))
            elif not replace_row(self.connection, row, type(write.content)):
                raise NotSavedError("Somebody else changed this record meanwhile; look at it again.")
        return rows

    def last_entry(self) -> audit.Entry:
        """Return the audit's newest entry; number 0 before there is one."""
        last = self.connection.execute("SELECT ifnull(max(sequence), 0) FROM audit").fetchone()[0]
        if last:
            return audit.entry_at(self.connection, last)
        return audit.Entry(
            sequence=0, recorded_at="", date_confirmed=0, operator_id=None, action="", objects="", detail="",
            previous=b"", hash=audit.GENESIS, mac=b"",
        )  # fmt: skip

    def _read_back(self, writes: Sequence[Write], rows: Sequence[Row], entry: audit.Entry) -> None:
        """Drop the cached pages, read, open and compare."""
        self.connection.execute("PRAGMA shrink_memory")
        if entry.sequence:
            stored = audit.entry_at(self.connection, entry.sequence)
            if stored != entry or stored.hash != stored.expected_hash():
                raise sqlite3.DatabaseError("the audit entry was not read back as it was written")
        for write, row in zip(writes, rows, strict=True):
            kind = type(write.content)
            found = select_rows(self.connection, kind, kind.ID_COLUMN, row.record_id)
            data_key = self.keyring.remembered(str(row.key_id))
            if len(found) != 1 or data_key is None:
                raise sqlite3.DatabaseError("a row was not read back")
            if open_row(found[0], kind, data_key).content != write.content:
                raise sqlite3.DatabaseError("a row was not read back as it was written")
            if write.photo is not None:
                digest = hashlib.sha256(write.photo).hexdigest()
                self.blobs.read(row.record_id, data_key, str(write.parents["encounter_id"]), digest)

    def _not_saved(self, error: OSError | sqlite3.Error, photos: Sequence[str], before: int) -> RecordsError:
        """Tell what is left, and whether the store may go on; `before` is the audit's last number then."""
        if isinstance(error, sqlite3.IntegrityError) and "order:" in str(error):
            self._discard(photos)
            return OrderError("The nurse's impression comes before the model's assessment; nothing was changed.")
        cause = _cause(error)
        if cause is None or self.connection.in_transaction or not self._is_rolled_back(before):
            # Whether the commit reached the disk is unknown, so the photos stay: the next start sorts them out.
            self._has_failed = True
            return StorageFailedError(FAILED)
        self._discard(photos)
        return cause

    def _is_rolled_back(self, before: int) -> bool:
        """Whether a fault of the commit left the rows as they were: one in the journal's own end does not."""
        try:
            return self.last_entry().sequence == before
        except (OSError, sqlite3.Error):
            return False

    def _discard(self, photos: Sequence[str]) -> None:
        for capture_id in photos:
            try:
                self.blobs.discard(capture_id)
            except OSError:
                self._has_failed = True


def _cause(error: OSError | sqlite3.Error) -> RecordsError | None:
    """Return the error of a fault that leaves everything as it was; None for any other."""
    code = getattr(error, "sqlite_errorcode", None)
    number = error.errno if isinstance(error, OSError) else None
    if code == sqlite3.SQLITE_FULL or number in _FULL:
        return DiskFullError(FULL)
    if (isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_READONLY) or number == errno.EROFS:
        return ReadOnlyError(READ_ONLY)
    if isinstance(error, sqlite3.IntegrityError):
        return NotSavedError(f"The record does not fit the others, so nothing was saved: {error}.")
    return None
