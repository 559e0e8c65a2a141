"""A bundle appears whole or not at all: it is made in a folder beside its place and renamed when it is complete.

A killed export leaves a folder named `NAME.partial-...`, without `bundle.json`; the next export to the same place
removes it, unless another process still holds it.
"""

import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.medgemma.bundle import MANIFEST_NAME
from export.errors import TargetExistsError
from export.external_data import storage_error

_MARK: Final = ".partial-"


@contextmanager
def staged_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """Give a folder to fill; when the block ends well, it takes the target's place.

    Args:
        target: Where the bundle goes; its parent is made if missing.
        replace: Whether a bundle that stands there may go. Anything else that stands there may not.

    Raises:
        TargetExistsError: Something stands there that may not go.
        StorageError: The folder cannot be made, synced or renamed.
    """
    check_target(target, replace=replace)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        folder = _new_folder(target)
        lock = _lock(folder)
    except OSError as error:
        raise storage_error(target, error) from error
    try:
        yield folder
        check_target(target, replace=replace)
        try:
            _publish(folder, target)
        except OSError as error:
            raise storage_error(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_target(target: Path, *, replace: bool) -> None:
    """Refuse a place that is taken.

    Raises:
        TargetExistsError: A bundle stands there and `replace` is false, or something that is no bundle stands there.
    """
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    if target.is_symlink() or not (target / MANIFEST_NAME).is_file():
        raise TargetExistsError(f"{target} exists and is not a bundle; choose another place.")
    if not replace:
        raise TargetExistsError(f"{target} is a bundle already; --force replaces it.")


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a whole small file, durably.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file of a bundle; the new one is made outside, for a bundle holds no other files.

    Raises:
        StorageError: The file cannot be written.
    """
    new = path.parent.with_name(f"{path.parent.name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}")
    try:
        write_synced(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        new.unlink(missing_ok=True)


def _new_folder(target: Path) -> Path:
    folder = target.with_name(f"{target.name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}")
    folder.mkdir()
    return folder


def _publish(folder: Path, target: Path) -> None:
    sync_folder(folder)
    if target.is_dir() and any(target.iterdir()):
        # Two renames, for a folder with content cannot be renamed over; the old one stays until the new one stands.
        old = _new_folder(target)
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        sync_folder(target.parent)
        shutil.rmtree(old)
    else:
        folder.rename(target)
    sync_folder(target.parent)


def _remove_stale(target: Path) -> None:
    for folder in target.parent.glob(f"{glob.escape(target.name)}{_MARK}*"):
        lock = _lock(folder) if folder.is_dir() else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Hold a folder for as long as this process lives; `None` if another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
