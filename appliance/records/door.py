"""The one door to the file system: every byte that the records write outside SQLite passes here.

It is small so that a test can stand in it: fail the n-th call, or forget what was not fsynced. It decides nothing.
Source: POSIX.1-2017 `fsync`, `rename`; Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014 (why the
directory is fsynced too).
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final, Protocol

_NO_FOLLOW: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Door(Protocol):
    """The calls that the records make; every one may raise `OSError`."""

    def write_new(self, path: Path, content: bytes) -> None:
        """Write a file that must not exist and fsync it."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name, in place of one that may have it."""

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""

    def make_folder(self, folder: Path) -> bool:
        """Make a folder; False when it is there already."""

    def read(self, path: Path) -> bytes:
        """Read a regular file, from the device where the kernel allows."""

    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens when it is not there."""


class FileDoor:
    """The machine's own file system."""

    def write_new(self, path: Path, content: bytes) -> None:
        """Write a file that must not exist and fsync it; its name is durable only after `sync_folder`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, _FILE_MODE)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name."""
        source.rename(target)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable; file systems without folders' fsync (FAT) are let pass."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path) -> bool:
        """Make a folder; False when it is there already."""
        try:
            folder.mkdir(mode=_FOLDER_MODE)
        except FileExistsError:
            return False
        return True

    def read(self, path: Path) -> bytes:
        """Read a regular file, after asking the kernel to forget its cached pages."""
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
        with open(descriptor, "rb") as file:
            # Without it a read-back would only show what the cache holds, not what the device does.
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens when it is not there."""
        path.unlink(missing_ok=True)


def make_records_folder(door: Door, folder: Path) -> None:
    """Make a folder and those above it, each with a name that a power cut leaves.

    Raises:
        OSError: It cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        door.sync_folder(one.parent)


def replace_file(door: Door, path: Path, content: bytes) -> None:
    """Put a small file in place, durably and whole: temporary name, fsync, rename, fsync of the folder.

    Raises:
        OSError: Nothing, or everything, was put in place.
    """
    temporary = path.with_name(path.name + ".new")
    door.remove(temporary)
    door.write_new(temporary, content)
    door.rename(temporary, path)
    door.sync_folder(path.parent)
