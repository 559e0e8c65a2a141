"""How much room is left, what is still done with it, and two files of room that are given back when there is none.

Assessments stop first, then photos, then everything but signing in, deleting and the audit. The reserve is what photos
may still use when somebody else has filled the disk; the ballast is the last room of all, for the small things. Both
are laid again when there is plenty. A file system can also run out of files: each photo takes one.
Source: thresholds from the test plan's P7; statvfs(3).
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Level = Literal["ample", "low", "short", "full"]
LOW_BYTES: Final = 2_000_000_000
"""Below: a warning. About 1,000 photos."""
SHORT_BYTES: Final = 500_000_000
"""Below: no imports and no assessments, which the clinic can do without. 200 photos more, to `FULL_BYTES`."""
FULL_BYTES: Final = 100_000_000
"""Below: no new photos; what is stored can be read, and the small things are still written."""
LOW_FILES: Final = 1_000
SHORT_FILES: Final = 220
FULL_FILES: Final = 20
"""The same levels by the number of files that can still be made."""
BALLAST_BYTES: Final = 32 << 20
BALLAST_NAME: Final = "ballast"
RESERVE_BYTES: Final = SHORT_BYTES - (1 << 20)
"""With nothing else left, just below where assessments stop: the same 200 photos."""
RESERVE_NAME: Final = "ballast-photos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The room on the disk that the records lie on."""

    free_bytes: int
    reserve_bytes: int = 0
    """Held for photos, and given back as soon as one needs it."""
    free_files: int | None = None
    """None where the file system makes files as it needs them."""

    @property
    def room_bytes(self) -> int:
        """What photos may count on."""
        return self.free_bytes + self.reserve_bytes

    @property
    def level(self) -> Level:
        """What is still done."""
        for level, below_bytes, below_files in _LEVELS:
            is_out_of_files = self.free_files is not None and self.free_files < below_files
            if self.room_bytes < below_bytes or is_out_of_files:
                return level
        return "ample"

    @property
    def action(self) -> str:
        """One sentence for the screen; empty when there is nothing to say."""
        return _ACTIONS[self.level]


_LEVELS: tuple[tuple[Level, int, int], ...] = (
    ("full", FULL_BYTES, FULL_FILES),
    ("short", SHORT_BYTES, SHORT_FILES),
    ("low", LOW_BYTES, LOW_FILES),
)
_ACTIONS: Final[dict[Level, str]] = {
    "ample": "",
    "low": "The disk is getting full; make a backup and ask the technician for more room.",
    "short": "The disk is nearly full: there are no assessments and no imports until there is more room.",
    "full": "The disk is full: no new photos are kept. Everything stored can be read and backed up.",
}


def look(folder: Path) -> Space:
    """Ask the file system; what only root may use does not count.

    Raises:
        OSError: It does not answer.
    """
    found = os.statvfs(folder)
    return Space(
        free_bytes=found.f_bavail * found.f_frsize,
        reserve_bytes=_blocks_bytes(folder / RESERVE_NAME),
        free_files=found.f_favail if found.f_files else None,
    )


def lay_ballast(folder: Path, size_bytes: int = BALLAST_BYTES, reserve_bytes: int = RESERVE_BYTES) -> None:
    """Set room aside, unless it is there or there is not plenty; nothing happens where it cannot be done."""
    _lay(folder / BALLAST_NAME, size_bytes, SHORT_BYTES)
    _lay(folder / RESERVE_NAME, reserve_bytes, LOW_BYTES)


def drop_ballast(folder: Path) -> bool:
    """Give set-aside room back, the photos' before the last; False when all of it was gone already."""
    return drop_reserve(folder) or _drop(folder / BALLAST_NAME)


def drop_reserve(folder: Path) -> bool:
    """Give back the room that is kept for photos; False when it was gone already."""
    return _drop(folder / RESERVE_NAME)


def make_room(folder: Path, photo_bytes: int) -> Space:
    """Look, and give the reserve back if a photo of this size needs it.

    Raises:
        OSError: The file system does not answer.
    """
    found = look(folder)
    if found.level != "full" and found.free_bytes < FULL_BYTES + photo_bytes and drop_reserve(folder):
        return look(folder)
    return found


def _lay(path: Path, size_bytes: int, kept_bytes: int) -> None:
    with contextlib.suppress(OSError):
        if not size_bytes or path.exists() or look(path.parent).free_bytes < kept_bytes + size_bytes:
            return
        with path.open("xb") as file:
            try:
                # Real blocks, not a hole: only those can be given back.
                os.posix_fallocate(file.fileno(), 0, size_bytes)
            except OSError:
                path.unlink()


def _drop(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _blocks_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
