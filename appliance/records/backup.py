"""Backups to a folder, such as a stick's: sealed, signed, read back, in generations; works while locked.

Reads the store through its lock only for the database's copy; photos are sealed already and never change.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import IO, Final, Literal

import msgspec

from appliance.records import archive, audit
from appliance.records.clinic_key import seal_key
from appliance.records.database import COPY_NAME, DATABASE_NAME
from appliance.records.door import FileDoor
from appliance.records.erased_list import erased_ids, read_erased
from appliance.records.errors import ArchiveError, DiskFullError
from appliance.records.scrubbing import remove_scrubbed
from appliance.records.sealing import CHUNK_BYTES, KEY_BYTES, seal_stream
from appliance.records.store import RecordStore

KEPT: Final = 2
"""Generations on each stick."""
_NAME: Final = re.compile(r"dermstation-[0-9a-f]{8}-(\d{10})\.dsbk")
_READ_BYTES: Final = 1 << 20
_COPIED_PAGES: Final = 512
"""2 MiB at once."""
_PAUSE_S: Final = 0.001
"""Long enough for somebody who waits to come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was written and read back."""

    path: Path
    sequence: int
    encounters: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBackup:
    """What the screen says: "last good backup: 3 days, stick B"."""

    label: str
    recorded_at: str
    is_date_confirmed: bool
    encounters: int


Progress = Callable[[Literal["writing", "checking"], float], None]
"""Is told what is being done and which share of it is, from 0 to 1."""


def make_backup(
    store: RecordStore,
    target: Path,
    operator_id: str | None = None,
    *,
    label: str = "",
    progress: Progress = lambda *_: None,
) -> Backup:
    """Write a new generation, read it back whole, note it, and only then remove the oldest ones.

    Args:
        store: The records, locked or not, also on a disk that takes no writes.
        target: A folder, as where the stick is mounted.
        operator_id: Who asked for it.
        label: What is written on the stick; the folder's name by default.
        progress: Told how far it is.

    Raises:
        ArchiveError: It was not read back as it was written; nothing was removed.
        DiskFullError: The stick has no room.
        OSError: The stick cannot be written.
    """
    with store.backing_up, _database_copy(store) as copy:
        manifest = _manifest(store, copy)
        path = target / f"dermstation-{manifest.clinic_id[:8]}-{manifest.sequence:010}.dsbk"
        temporary = path.with_suffix(".new")
        archive_key = secrets.token_bytes(KEY_BYTES)
        header = archive.Header(
            clinic_id=manifest.clinic_id,
            sequence=manifest.sequence,
            sealed_key=b"",
            key_slots=store.key_slots(),
        )
        sealed_key = seal_key(store.saver.keyring.public_key, archive_key, header.identity())
        header = msgspec.structs.replace(header, sealed_key=sealed_key)
        try:
            members = _told(_members(store, copy, manifest), manifest, progress)
            _write(store, temporary, header, archive_key, members)
            progress("checking", 0.0)
            _read_back(store, temporary, header, archive_key, copy, lambda share: progress("checking", share))
            temporary.rename(path)
            FileDoor().sync_folder(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno == errno.ENOSPC:
                raise DiskFullError("The stick has no room for this backup; use an empty one.") from error
            raise
        except ArchiveError:
            temporary.unlink(missing_ok=True)
            raise
    made = Backup(path=path, sequence=manifest.sequence, encounters=manifest.encounters, size_bytes=path.stat().st_size)
    _note(store, made, operator_id, label or target.name)
    _rotate(target, manifest.clinic_id)
    return made


def generations(folder: Path, clinic_id: str | None = None) -> tuple[Path, ...]:
    """List the backups in a folder, the newest first; of one clinic, or of any."""
    found = [path for path in folder.glob("dermstation-*.dsbk") if _NAME.fullmatch(path.name)]
    if clinic_id is not None:
        found = [path for path in found if path.name.startswith(f"dermstation-{clinic_id[:8]}-")]
    return tuple(sorted(found, key=lambda path: path.name[-15:], reverse=True))


def last_backup(store: RecordStore) -> LastBackup | None:
    """Return the newest backup that this box made and read back; None if there was none."""
    with store.saver.lock:
        row = store.saver.connection.execute(
            "SELECT label, recorded_at, date_confirmed, records FROM backup JOIN audit USING (sequence) "
            "ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
    if row is None:
        return None
    return LastBackup(label=row[0], recorded_at=row[1], is_date_confirmed=bool(row[2]), encounters=row[3])


@contextlib.contextmanager
def _database_copy(store: RecordStore) -> Iterator[Path]:
    """Yield a consistent copy of the database; on a disk that takes no writes, the database itself."""
    if store.is_read_only:
        yield store.folder / DATABASE_NAME
        return
    path = store.folder / COPY_NAME
    remove_scrubbed(path)
    path.touch(mode=0o600)
    try:
        with contextlib.closing(sqlite3.connect(path)) as copy:
            with store.saver.lock:
                # In steps, each of a few milliseconds: a photo that is kept meanwhile waits for one of them, no longer,
                # and SQLite takes it along.
                store.saver.connection.backup(copy, pages=_COPIED_PAGES, progress=lambda *_: _let_others(store))
            copy.execute("PRAGMA journal_mode = DELETE")
        yield path
    finally:
        # It holds sealed keys: one of them that is destroyed later must not lie in a freed block.
        remove_scrubbed(path)


def _let_others(store: RecordStore) -> None:
    """Give the records away for a moment, and take them back."""
    store.saver.lock.release()
    time.sleep(_PAUSE_S)
    store.saver.lock.acquire()


def _manifest(store: RecordStore, copy: Path) -> archive.Manifest:
    with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        sequence = connection.execute("SELECT max(sequence) FROM audit").fetchone()[0]
        entry = audit.entry_at(connection, sequence)
        encounters = connection.execute("SELECT count(*) FROM encounter").fetchone()[0]
        photos = connection.execute("SELECT capture_id FROM captured_image WHERE key_id IS NOT NULL").fetchall()
        erased = erased_ids(connection) | read_erased(store.folder)
    moment = store.now()
    files = {DATABASE_NAME: copy.stat().st_size}
    for (capture_id,) in photos:
        # A photo that is missing is told at every start; it must not stop the backup of all the others.
        with contextlib.suppress(FileNotFoundError):
            files[f"blobs/{capture_id}"] = store.saver.blobs.path(capture_id).stat().st_size
    return archive.Manifest(
        clinic_id=store.meta("clinic_id").decode(),
        sequence=sequence,
        audit_hash=entry.hash,
        made_at=moment.text,
        is_date_confirmed=moment.is_confirmed,
        version=version("dermstation"),
        encounters=encounters,
        files=files,
        erased=tuple(sorted(erased)),
    )


def _members(store: RecordStore, copy: Path, manifest: archive.Manifest) -> Iterator[tuple[str, int, Iterable[bytes]]]:
    content = archive.manifest_bytes(manifest)
    yield archive.MANIFEST_NAME, len(content), [content]
    for name, size in manifest.files.items():
        yield name, size, _parts(copy if name == DATABASE_NAME else store.folder / name)


def _told(
    members: Iterator[tuple[str, int, Iterable[bytes]]], manifest: archive.Manifest, progress: Progress
) -> Iterator[tuple[str, int, Iterable[bytes]]]:
    """Yield the members, telling before each how much of all was written."""
    total, written = max(1, sum(manifest.files.values())), 0
    for name, size, content in members:
        progress("writing", min(1.0, written / total))
        yield name, size, content
        written += size


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            yield part


def _write(
    store: RecordStore,
    path: Path,
    header: archive.Header,
    archive_key: bytes,
    members: Iterator[tuple[str, int, Iterable[bytes]]],
) -> None:
    written = msgspec.json.encode(header)
    start = archive.MAGIC + len(written).to_bytes(4, "big") + written
    digest = hashlib.sha256()
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        sealed = seal_stream(archive_key, archive.tar_pieces(members, CHUNK_BYTES), archive.identity_of(written))
        for part in chain([start], sealed):
            digest.update(part)
            file.write(part)
        file.write(store.signing_key().sign(archive.CONTEXT + digest.digest()))
        file.flush()
        os.fsync(file.fileno())


def _read_back(
    store: RecordStore,
    path: Path,
    header: archive.Header,
    archive_key: bytes,
    copy: Path,
    progress: Callable[[float], None],
) -> None:
    """Read what lies on the stick, from the stick, and open all of it with the key that is still in memory.

    Raises:
        ArchiveError: It is not what was written.
    """
    public_key = store.signing_key().public_key()
    archive.check_signature(path, public_key)
    start = len(archive.MAGIC) + 4 + len(msgspec.json.encode(header))
    # The clinic's private key is not needed, nor there while locked.
    opened = archive.OpenedArchive(path, header, None, archive_key, start)
    size, read = max(1, path.stat().st_size), 0
    for name, length, content in archive.members(opened):
        progress(min(1.0, read / size))
        read += length
        if name == DATABASE_NAME:
            with copy.open("rb") as original:
                if _digest(content) != _digest(original):
                    raise ArchiveError("The stick did not keep what was written to it; use another one.")
        else:
            while content.read(_READ_BYTES):
                pass


def _digest(file: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while part := file.read(_READ_BYTES):
        digest.update(part)
    return digest.digest()


def _note(store: RecordStore, made: Backup, operator_id: str | None, label: str) -> None:
    if store.is_read_only:
        return

    def write(connection: sqlite3.Connection, sequence: int) -> None:
        connection.execute(
            "INSERT INTO backup (sequence, label, name, records, bytes) VALUES (?, ?, ?, ?, ?)",
            (sequence, label, made.path.name, made.encounters, made.size_bytes),
        )

    store.note("backup-made", operator_id, also=write, detail=f"holds {made.sequence}")


def _rotate(target: Path, clinic_id: str) -> None:
    unfinished = target.glob(f"dermstation-{clinic_id[:8]}-*.new")  # of a stick that was pulled out
    for old in (*generations(target, clinic_id)[KEPT:], *unfinished):
        old.unlink()
    FileDoor().sync_folder(target)
