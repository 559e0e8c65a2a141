"""How much room is left, what is still done with it, and a ballast that is thrown away when there is none.

Photos stop first, then everything but signing in, deleting and the audit. It only looks, but for the ballast.
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
"""Below: no imports and no assessments, which the clinic can do without."""
FULL_BYTES: Final = 100_000_000
"""Below: no new photos; what is stored can be read, and the small things are still written."""
BALLAST_BYTES: Final = 32 << 20
BALLAST_NAME: Final = "ballast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The room on the disk that the records lie on."""

    free_bytes: int

    @property
    def level(self) -> Level:
        """What is still done."""
        for level, below in _LEVELS:
            if self.free_bytes < below:
                return level
        return "ample"

    @property
    def action(self) -> str:
        """One sentence for the screen; empty when there is nothing to say."""
        return _ACTIONS[self.level]


_LEVELS: Final[tuple[tuple[Level, int], ...]] = (("full", FULL_BYTES), ("short", SHORT_BYTES), ("low", LOW_BYTES))
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
    return Space(free_bytes=found.f_bavail * found.f_frsize)


def lay_ballast(folder: Path, size_bytes: int = BALLAST_BYTES) -> None:
    """Set room aside, unless it is there or there is not plenty; nothing happens where it cannot be done."""
    path = folder / BALLAST_NAME
    with contextlib.suppress(OSError):
        if not size_bytes or path.exists() or look(folder).free_bytes < SHORT_BYTES + size_bytes:
            return
        with path.open("xb") as file:
            # Real blocks, not a hole: only those can be given back.
            os.posix_fallocate(file.fileno(), 0, size_bytes)


def drop_ballast(folder: Path) -> bool:
    """Give the set-aside room back; False when it was gone already."""
    try:
        (folder / BALLAST_NAME).unlink()
    except OSError:
        return False
    return True
