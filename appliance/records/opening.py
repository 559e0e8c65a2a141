"""Opening the records, whatever state they are in: the answer always says what to do, and nothing here raises.

A full disk, a disk that takes no writes, a damaged database, files of a later version, another program in the folder:
each is a state with a sentence for the screen. The folder is not repaired here, only swept of unfinished writes.
"""

import errno
import logging
import os
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from appliance.clock import Clock, SystemClock
from appliance.records import database, space
from appliance.records.blobs import BLOBS_NAME
from appliance.records.dating import Calendar
from appliance.records.door import Door, FileDoor, make_records_folder
from appliance.records.erased_list import erased_ids, keep_erased
from appliance.records.errors import CannotOpenError
from appliance.records.folder_lock import FolderLock
from appliance.records.scrubbing import remove_scrubbed, scrub_journals
from appliance.records.store import RecordStore

logger = logging.getLogger(__name__)
OpeningState = Literal["ready", "read-only", "first-run", "in-use", "damaged", "newer", "unsafe", "no-folder"]
RESTORING_SUFFIX: Final = ".restoring"
"""Of the folder beside, in which a backup is opened."""
SET_ASIDE_INFIX: Final = ".before-"
"""Of the folder beside, in which a restore leaves what was there."""
_REPAIR: Final = "Restore the newest backup: dermstation restore. The damaged folder is kept beside it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opening found."""

    state: OpeningState
    found: str
    """One sentence."""
    action: str = ""
    """What to do; empty when nothing."""
    store: "RecordStore | None" = None
    """There when ready or read-only."""
    photos_missing: int = 0
    """Records whose file is not there any more."""


def open_records(
    folder: Path,
    *,
    clock: Clock | None = None,
    door: Door | None = None,
    durability: database.Durability | None = None,
    ballast_bytes: int = space.BALLAST_BYTES,
) -> Opening:
    """Open the records of a folder, or say why not and what to do.

    Args:
        folder: Made when it is not there.
        clock: Where the time comes from.
        door: The file system; a test's own.
        durability: Instead of the choice by SQLite's version; for tests only.
        ballast_bytes: Room to set aside for the day when there is none; 0 also sets none aside for photos.
    """
    try:
        make_records_folder(door or FileDoor(), folder)
        lock = FolderLock(folder)
    except CannotOpenError as error:
        return Opening(state="in-use", found=str(error), action=error.action)
    except OSError as error:
        action = "Check that the disk is there and that the station's user may write to it."
        return Opening(state="no-folder", found=f"{folder} cannot be opened: {error.strerror}.", action=action)
    try:
        opening = _open(folder, lock, clock or SystemClock(), door or FileDoor(), durability)
    except CannotOpenError as error:
        opening = Opening(state=_state(error), found=str(error), action=error.action)
    except (sqlite3.Error, OSError, ValueError) as error:
        logger.error("records damaged error=%s", error)  # noqa: TRY400 - an operator reads the state, not a traceback
        opening = Opening(state="damaged", found=f"The records in {folder} cannot be read: {error}.", action=_REPAIR)
    if opening.store is None:
        lock.close()
    elif opening.state == "ready":
        opening.store.ballast_bytes = ballast_bytes
        opening.store.space()
    return opening


def _open(folder: Path, lock: FolderLock, clock: Clock, door: Door, durability: database.Durability | None) -> Opening:
    is_read_only = not is_writable(folder)
    path = folder / database.DATABASE_NAME
    if not path.exists() or path.stat().st_size == 0:
        return _empty(folder, is_read_only=is_read_only)
    connection = database.connect(folder, is_read_only=is_read_only, durability=durability)
    try:
        _check(connection)
        if not is_read_only:
            database.migrate(connection, database.shipped_migrations())
            _scrub(connection, folder)
        store = _store(folder, lock, connection, Calendar(clock, _last_recorded_at(connection)), door, is_read_only)
        if store is None:
            connection.close()
            return Opening(state="first-run", found="This box is not set up yet.", action="Set it up on its screen.")
        return _swept(store)
    except BaseException:
        connection.close()
        raise


def _scrub(connection: sqlite3.Connection, folder: Path) -> None:
    """Overwrite what an erasure or a backup that was cut may have left of keys."""
    try:
        remove_scrubbed(folder / database.COPY_NAME)
        scrub_journals(connection, folder / database.DATABASE_NAME)
    except (OSError, sqlite3.Error) as error:
        logger.warning("old journals not overwritten error=%s", error)


def older_copies(folder: Path) -> tuple[Path, ...]:
    """List the folders that restores have set aside: each holds everybody of its day."""
    return tuple(sorted(folder.parent.glob(f"{folder.name}{SET_ASIDE_INFIX}*")))


def is_writable(folder: Path) -> bool:
    """Ask whether files can be made there; a file system mounted read-only says no to root too.

    One that turned read-only by an error may still call itself writable, so the database is opened to write.
    Only before SQLite has it open: closing it would drop SQLite's locks.
    """
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return False
    try:
        os.close(os.open(folder / database.DATABASE_NAME, os.O_WRONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return True
    except OSError as error:
        return error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}
    return True


def _empty(folder: Path, *, is_read_only: bool) -> Opening:
    if any((folder / BLOBS_NAME).glob("*")):
        found = f"The database in {folder} is missing, although there are photos."
        return Opening(state="damaged", found=found, action=_REPAIR)
    if folder.with_name(folder.name + RESTORING_SUFFIX).exists():
        found = "Restoring a backup was cut before its end; nothing is lost."
        return Opening(state="damaged", found=found, action="Run dermstation restore again.")
    if is_read_only:
        action = "Check the disk; nothing can be set up on one that takes no writes."
        return Opening(state="no-folder", found=f"{folder} takes no writes and holds no records.", action=action)
    return Opening(state="first-run", found="This box is not set up yet.", action="Set it up on its screen.")


def _check(connection: sqlite3.Connection) -> None:
    """Refuse a database that SQLite itself finds damaged."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))


def _store(
    folder: Path, lock: FolderLock, connection: sqlite3.Connection, calendar: Calendar, door: Door, is_read_only: bool
) -> RecordStore | None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    from appliance.records.keyring import Keyring
    from appliance.records.saving import Saver

    if connection.execute("SELECT 1 FROM audit").fetchone() is None:
        return None
    public_key = connection.execute("SELECT value FROM meta WHERE name = 'public_key'").fetchone()
    if public_key is None:
        raise sqlite3.DatabaseError("the clinic's public key is missing")
    keyring = Keyring(X25519PublicKey.from_public_bytes(bytes(public_key[0])))
    saver = Saver(connection=connection, folder=folder, door=door, keyring=keyring, calendar=calendar)
    return RecordStore(folder=folder, lock=lock, saver=saver, is_read_only=is_read_only)


def _swept(store: RecordStore) -> Opening:
    """Remove what a power cut left of unfinished saves, and count what is missing."""
    wanted = store.photo_ids()
    missing = len(wanted - store.saver.blobs.names())
    if store.is_read_only:
        action = "Have the technician look at the disk; what is stored can be read and backed up."
        found = "The disk takes no writes, so nothing new is kept."
        return Opening(state="read-only", found=found, action=action, store=store, photos_missing=missing)
    keep_erased(store.saver.door, store.folder, erased_ids(store.saver.connection))
    try:
        store.saver.blobs.make()
        swept = store.saver.blobs.sweep(wanted)
    except OSError as error:
        # Unclaimed files only take room.
        logger.warning("photos not swept error=%s", error)
    else:
        logger.info("records opened swept=%d missing=%d", swept, missing)
    if missing:
        found = f"{missing} photos are missing from the disk; all other records are there."
        return Opening(
            state="ready", found=found, action="Restore the newest backup.", store=store, photos_missing=missing
        )
    return Opening(state="ready", found="The records are open.", store=store)


def _last_recorded_at(connection: sqlite3.Connection) -> datetime | None:
    found = connection.execute(
        "SELECT recorded_at FROM audit WHERE date_confirmed = 1 ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    return None if found is None else datetime.fromisoformat(found[0])


def _state(error: CannotOpenError) -> OpeningState:
    match error.state:
        case "newer":
            return "newer"
        case "unsafe":
            return "unsafe"
        case _:
            return "damaged"
