"""Overwriting what a file held, before its room is given away: a destroyed key must not lie in a freed block.

Journals and the database's copy for a backup hold pages with sealed keys. A disk or an SD card's own wear levelling
may keep old blocks all the same; what lies in them is sealed to the clinic (`DESIGN.md`, "Erasing").
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

_PIECE: Final = bytes(1 << 20)
_SECTOR_BYTES: Final = 512


def scrub(path: Path) -> None:
    """Write zeros over all of a file, in its own blocks, and fsync it; nothing happens when it is not there.

    Its beginning first: cut in the middle, a journal must not be taken for one whose first part still counts.

    Raises:
        OSError: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "wb", buffering=0) as file:
        left = os.fstat(descriptor).st_size
        if not left:
            return
        left -= file.write(_PIECE[: min(left, _SECTOR_BYTES)])
        os.fsync(descriptor)
        while left > 0:
            left -= file.write(_PIECE[: min(left, len(_PIECE))])
        os.fsync(descriptor)


def remove_scrubbed(path: Path) -> None:
    """Scrub a file and remove it.

    Raises:
        OSError: It cannot be written or removed.
    """
    scrub(path)
    path.unlink(missing_ok=True)


def scrub_journals(connection: sqlite3.Connection, database: Path) -> None:
    """Overwrite what SQLite's journal held, outside a transaction; the journal keeps its room and is used again.

    Raises:
        OSError, sqlite3.Error: It cannot be done now.
    """
    # After a whole checkpoint nothing is read from the write-ahead log, and the next writer begins it anew.
    if connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]:
        raise sqlite3.OperationalError("the write-ahead log is in use")
    for ending in ("-journal", "-wal"):
        scrub(database.with_name(database.name + ending))
