"""The ids of what was erased, in a file beside the database: a restore must not bring anybody back unseen.

Random ids only, of subjects and visits: a visit may have belonged to somebody else in an older backup. The database
says it too; the file is for the day on which that cannot be read.
"""

import logging
import re
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Final

from appliance.records.door import Door, replace_file

logger = logging.getLogger(__name__)
ERASED_NAME: Final = "erased"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_MAX_BYTES: Final = 64 << 20


def read_erased(folder: Path) -> frozenset[str]:
    """Read the ids; lines that are none are let be, and a file that cannot be read is one that is not there."""
    try:
        with (folder / ERASED_NAME).open("rb") as file:
            lines = file.read(_MAX_BYTES).decode("ascii", "replace").split("\n")
    except OSError:
        return frozenset()
    return frozenset(line for line in lines if _ID.fullmatch(line))


def erased_ids(connection: sqlite3.Connection) -> frozenset[str]:
    """Read from the database which subjects and visits were erased."""
    found = connection.execute(
        "SELECT subject_id FROM subject WHERE key_id IS NULL UNION "
        "SELECT encounter_id FROM encounter WHERE key_id IS NULL"
    )
    return frozenset(one[0] for one in found)


def keep_erased(door: Door, folder: Path, ids: Collection[str]) -> None:
    """Have the file hold these ids too; where it cannot be written now, the next start tries again."""
    known = read_erased(folder)
    if known >= set(ids):
        return
    content = "".join(f"{one}\n" for one in sorted(known | set(ids)))
    try:
        replace_file(door, folder / ERASED_NAME, content.encode())
    except OSError as error:
        logger.warning("list of what was erased not written error=%s", error)
