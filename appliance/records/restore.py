"""Restoring a backup: opened whole in a folder beside, checked, and only then put in place of what was there.

What was there is kept under another name. A restore that was cut is told at the next start and can be run again.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from appliance.clock import Clock
from appliance.records import archive
from appliance.records.blobs import BLOBS_NAME
from appliance.records.clinic_key import WrappingKey
from appliance.records.door import FileDoor
from appliance.records.errors import ArchiveError, CannotOpenError
from appliance.records.held_slots import delete_all_held
from appliance.records.opening import RESTORING_SUFFIX, open_records
from appliance.records.pins import BOX_SECRET_NAME
from appliance.records.store import RecordStore

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
    if opening.store is not None:
        opening.store.close()
    opened = archive.open_archive(path, secret)
    beside = folder.with_name(folder.name + RESTORING_SUFFIX)
    shutil.rmtree(beside, ignore_errors=True)
    try:
        manifest = _extract(opened, beside)
        secret_file = folder / BOX_SECRET_NAME
        if secret_file.is_file():
            FileDoor().write_new(beside / BOX_SECRET_NAME, secret_file.read_bytes())
        _sync(beside)
        _check(beside, secret, manifest, clock)
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


def _check(beside: Path, secret: WrappingKey, manifest: archive.Manifest, clock: Clock | None) -> None:
    """Open what was extracted as the station would."""
    opening = open_records(beside, clock=clock, ballast_bytes=0)
    if opening.store is None or opening.photos_missing:
        raise ArchiveError(f"This backup does not open: {opening.found} Use another one.")
    with opening.store as store:
        store.unlock(secret)
        verdict = store.verify_audit({manifest.sequence: manifest.audit_hash})
        if verdict.problems:
            raise ArchiveError(f"This backup's audit does not hold: {verdict.problems[0]} Use another one.")
        _note(store, manifest)


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
    while (name := folder.with_name(f"{folder.name}.before-{sequence}-{number}")).exists():
        number += 1
    return name
