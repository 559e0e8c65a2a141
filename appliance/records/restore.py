"""Restoring a backup: opened whole in a folder beside, checked, and only then put in place of what was there.

What was there is kept under another name. Whoever was erased since the backup is erased again before it takes its
place. A restore that was cut is told at the next start and can be run again.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from appliance.clock import Clock
from appliance.records import archive
from appliance.records.backup import generations
from appliance.records.blobs import BLOBS_NAME
from appliance.records.clinic_key import WrappingKey
from appliance.records.door import FileDoor
from appliance.records.erased_list import erased_ids, keep_erased, read_erased
from appliance.records.erasing import erase_again
from appliance.records.errors import ArchiveError, CannotOpenError, RecordsError
from appliance.records.held_slots import delete_all_held
from appliance.records.opening import RESTORING_SUFFIX, SET_ASIDE_INFIX, open_records
from appliance.records.pins import BOX_SECRET_NAME
from appliance.records.store import RecordStore

logger = logging.getLogger(__name__)
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came back."""

    encounters: int
    photos: int
    sequence: int
    made_at: str
    is_date_confirmed: bool
    set_aside: Path | None
    """Where the records that were there before lie now."""
    pins_hold: bool
    """False on another box: each PIN must be set anew, the lead's by the phrase or a sheet."""
    erased_again: int
    """Subjects and visits that were erased since the backup, as far as this box and the stick's newer backups know."""


def restore(path: Path, folder: Path, secret: WrappingKey, *, clock: Clock | None = None) -> Restored:
    """Put a backup in the place of a station's records; the station must not be running.

    Args:
        path: The backup.
        folder: The records' folder; what is in it is set aside.
        secret: The phrase, or a recovery sheet, of the backup's day.
        clock: Where the time comes from.

    Raises:
        WrongSecretError: The secret opens it not.
        ArchiveError: It is damaged or holds what it may not; nothing was changed.
        CannotOpenError: The station is running.
        OSError: The disk failed, or has no room; nothing was changed.
    """
    opening = open_records(folder, clock=clock, ballast_bytes=0)
    if opening.state == "in-use":
        raise CannotOpenError(opening.found, state="in-use", action=opening.action)
    erased = read_erased(folder)
    if opening.store is not None:
        erased |= erased_ids(opening.store.saver.connection)
        opening.store.close()
    opened = archive.open_archive(path, secret)
    erased |= _erased_by_newer(path, opened, secret)
    beside = folder.with_name(folder.name + RESTORING_SUFFIX)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        manifest = _extract(opened, beside)
        secret_file = folder / BOX_SECRET_NAME
        if secret_file.is_file():
            FileDoor().write_new(beside / BOX_SECRET_NAME, secret_file.read_bytes())
        _sync(beside)
        erased_again = _check(beside, secret, manifest, clock, erased)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    set_aside = _take_its_place(beside, folder, manifest.sequence)
    return Restored(
        encounters=manifest.encounters,
        photos=sum(name.startswith(f"{BLOBS_NAME}/") for name in manifest.files),
        sequence=manifest.sequence,
        made_at=manifest.made_at,
        is_date_confirmed=manifest.is_date_confirmed,
        set_aside=set_aside,
        pins_hold=(folder / BOX_SECRET_NAME).is_file(),
        erased_again=erased_again,
    )


def _extract(opened: archive.OpenedArchive, beside: Path) -> archive.Manifest:
    (beside / BLOBS_NAME).mkdir(mode=0o700, parents=True)
    manifest: archive.Manifest | None = None
    for name, _, content in archive.members(opened):
        if name == archive.MANIFEST_NAME:
            manifest = msgspec.json.decode(content.read(), type=archive.Manifest)
        else:
            # The name was checked: it is one of two fixed forms, and none leads out of here.
            _write(beside / name, content)
    if manifest is None or (manifest.clinic_id, manifest.sequence) != (opened.header.clinic_id, opened.header.sequence):
        raise ArchiveError("This backup is not what its label says; use another one.")
    return manifest


def _write(path: Path, content: IO[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        shutil.copyfileobj(content, file, _READ_BYTES)
        file.flush()
        os.fsync(file.fileno())


def _sync(beside: Path) -> None:
    for folder in (beside / BLOBS_NAME, beside, beside.parent):
        FileDoor().sync_folder(folder)


def _erased_by_newer(path: Path, opened: archive.OpenedArchive, secret: WrappingKey) -> frozenset[str]:
    """Read from the newer backups beside one what was erased since; one that does not open says nothing."""
    found: set[str] = set()
    for newer in generations(path.parent, opened.header.clinic_id):
        if newer.name <= path.name:
            continue
        try:
            other = archive.open_archive(newer, secret)
            _, _, content = next(archive.members(other))
            manifest = msgspec.json.decode(content.read(), type=archive.Manifest)
        except (RecordsError, msgspec.DecodeError, OSError) as error:
            logger.warning("newer backup not read name=%s reason=%s", newer.name, error)
            continue
        if other.header.clinic_id == opened.header.clinic_id:
            found.update(manifest.erased)
    return frozenset(found)


def _check(
    beside: Path, secret: WrappingKey, manifest: archive.Manifest, clock: Clock | None, erased: frozenset[str]
) -> int:
    """Open what was extracted as the station would, and erase anew whoever was erased since; returns how many."""
    opening = open_records(beside, clock=clock, ballast_bytes=0)
    if opening.store is None or opening.photos_missing:
        raise ArchiveError(f"This backup does not open: {opening.found} Use another one.")
    with opening.store as store:
        store.unlock(secret)
        verdict = store.verify_audit({manifest.sequence: manifest.audit_hash})
        if verdict.problems:
            raise ArchiveError(f"This backup's audit does not hold: {verdict.problems[0]} Use another one.")
        erased_again = erase_again(store, erased)
        keep_erased(FileDoor(), beside, erased)
        _note(store, manifest)
    return erased_again


def _note(store: RecordStore, manifest: archive.Manifest) -> None:
    # Key fobs that were revoked since the backup must not come back with it; the lead makes them anew.
    store.note(
        "restored", None, also=lambda connection, _: delete_all_held(connection), detail=f"from {manifest.sequence}"
    )


def _take_its_place(beside: Path, folder: Path, sequence: int) -> Path | None:
    set_aside = _free_name(folder, sequence) if any(folder.iterdir()) else None
    if set_aside is None:
        folder.rmdir()
    else:
        folder.rename(set_aside)
    # Cut here, the next start finds no records, but this folder, and says so.
    beside.rename(folder)
    FileDoor().sync_folder(folder.parent)
    return set_aside


def _free_name(folder: Path, sequence: int) -> Path:
    number = 1
    while (name := folder.with_name(f"{folder.name}{SET_ASIDE_INFIX}{sequence}-{number}")).exists():
        number += 1
    return name
