"""USB sticks that are mounted and take writes: where backups go. It mounts nothing.

Source: proc_pid_mountinfo(5).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
_MOUNT_POINT: Final = 4
_OPTIONS: Final = 5
_FIELDS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Stick:
    """One file system to write a backup to."""

    path: Path
    label: str
    """The folder's name, which is the stick's own label where the desktop or udev mounts it."""
    free_bytes: int
    size_bytes: int
    is_writable: bool


def mounted_sticks(folders: tuple[str, ...], mounts: Path = MOUNTS) -> tuple[Stick, ...]:
    """List the file systems that are mounted below some folders, by their labels.

    Args:
        folders: Where sticks are mounted, such as /media.
        mounts: The kernel's list.
    """
    found = {}
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split()
        if len(fields) < _FIELDS:
            continue
        path = Path(_unescaped(fields[_MOUNT_POINT]))
        if not any(path != Path(folder) and path.is_relative_to(folder) for folder in folders):
            continue
        if (stick := _stick(path, is_read_only="ro" in fields[_OPTIONS].split(","))) is not None:
            found[path] = stick
    return tuple(sorted(found.values(), key=lambda stick: (stick.label, stick.path)))


def _stick(path: Path, *, is_read_only: bool) -> Stick | None:
    try:
        room = os.statvfs(path)
    except OSError:
        return None  # pulled out since
    return Stick(
        path=path,
        label="".join(filter(str.isprintable, path.name)),
        free_bytes=room.f_bavail * room.f_frsize,
        size_bytes=room.f_blocks * room.f_frsize,
        is_writable=not is_read_only and os.access(path, os.W_OK),
    )


def _unescaped(path: str) -> str:
    """Read the kernel's octal escapes of blanks in a path."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
