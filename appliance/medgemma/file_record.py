"""One file of a bundle against its record, from end to end, on one descriptor."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from appliance.errors import BundleError

_READ_BYTES: Final = 1 << 20


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one file of the bundle must be."""

    size_bytes: int
    sha256: str
    """Lower-case hexadecimal."""


def file_record(path: Path) -> FileRecord:
    """Measure one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileRecord(size_bytes=path.stat().st_size, sha256=digest.hexdigest())


def check_record(path: Path, record: FileRecord) -> None:
    """Compare a file with its record.

    Raises:
        BundleError: It is changed, a link, or of another size.
    """
    # One descriptor for all three checks, opened without following links, so that the file cannot be swapped between;
    # without blocking, so that a pipe in its place cannot hold up the start.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(f"The bundle is damaged: {path} is a link or cannot be read ({error.strerror}).") from error
    try:
        _check_descriptor(descriptor, path, record)
    except OSError as error:
        raise BundleError(f"The bundle is damaged: {path} cannot be read ({error.strerror}).") from error
    finally:
        os.close(descriptor)


def _check_descriptor(descriptor: int, path: Path, record: FileRecord) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise BundleError(f"The bundle is refused: {path} is a link or no file of its own.")
    if status.st_size != record.size_bytes:
        raise BundleError(f"The bundle is damaged: {path} has {status.st_size} bytes instead of {record.size_bytes}.")
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _READ_BYTES):
        digest.update(chunk)
    if digest.hexdigest() != record.sha256:
        raise BundleError(f"The bundle is damaged: {path} has changed since it was exported.")
