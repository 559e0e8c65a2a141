"""SQLite, opened so that a committed row survives the power: the settings are chosen by version and read back.

One process (see `folder_lock.py`), one connection. It knows the numbered migrations, and nothing of what the tables
mean.
Source: sqlite.org/pragma.html, sqlite.org/wal.html; measured losses by setting in DESIGN.md.
"""

import re
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from appliance.records.errors import CannotOpenError

DATABASE_NAME: Final = "records.sqlite"
COPY_NAME: Final = "backup.sqlite"
"""The database as a backup takes it; there while one is written."""
_WAL_FIXED: Final = (3, 51, 3)
_WAL_FIXED_IN_BRANCH: Final = {(3, 50): 7, (3, 44): 6}
"""Before these, WAL can lose committed rows when it is reset under two connections. Source: sqlite.org/changes.html."""
_CACHE_KIB: Final = 16 << 10
_JOURNAL_HEADER_BYTES: Final = 28
"""SQLite overwrites them when a transaction of a rollback journal is done. Source: sqlite.org/fileformat2.html, 3."""
_SYNCHRONOUS: Final = {"FULL": 2, "EXTRA": 3}
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_COMPAT: Final = re.compile(r"-- compat: (\d+)\n")


@dataclass(frozen=True, slots=True)
class Durability:
    """A journal mode and the `synchronous` that keeps every committed row with it."""

    journal_mode: str
    synchronous: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    version: int
    compat: int
    """Oldest program schema that can use the database after it."""
    script: str


def durability_for(version: tuple[int, ...]) -> Durability:
    """Choose by SQLite's version: WAL where its reset is safe, else a rollback journal."""
    branch = _WAL_FIXED_IN_BRANCH.get((version[0], version[1]))
    if version >= _WAL_FIXED or (branch is not None and version[2] >= branch):
        return Durability("wal", "FULL")
    return Durability("persist", "EXTRA")


def shipped_migrations() -> tuple[Migration, ...]:
    """Read the numbered scripts of this program, in order."""
    folder = files("appliance.records") / "migrations"
    found = sorted((entry for entry in folder.iterdir() if _MIGRATION.fullmatch(entry.name)), key=lambda one: one.name)
    return tuple(migration_from_text(entry.name, entry.read_text(encoding="utf-8")) for entry in found)


def migration_from_text(name: str, text: str) -> Migration:
    """Take a script apart: number from its name, compat from its first line."""
    number, compat = _MIGRATION.fullmatch(name), _COMPAT.match(text)
    if number is None or compat is None:
        raise ValueError(f"{name} is no migration: NNNN_name.sql, first line '-- compat: N'")
    return Migration(int(number[1]), int(compat[1]), text)


def connect(folder: Path, *, is_read_only: bool = False, durability: Durability | None = None) -> sqlite3.Connection:
    """Open the database and assert its settings by reading them back.

    Args:
        folder: Where the records lie.
        is_read_only: Open without a single write.
        durability: Instead of the choice by version; for tests only.

    Raises:
        CannotOpenError: SQLite did not take a setting.
        sqlite3.Error: It is no database, or the disk failed.
    """
    path = folder / DATABASE_NAME
    mode = "ro&immutable=1" if is_read_only else "rwc"
    if is_read_only and any(_is_unfinished(folder / (DATABASE_NAME + ending)) for ending in ("-journal", "-wal")):
        raise CannotOpenError(
            "The last save was cut, and finishing it needs a disk that takes writes.",
            state="damaged",
            action="Have the technician look at the disk, then start the station again; nothing is lost by that.",
        )
    if not is_read_only:
        # SQLite would make it readable for others; its journal takes the database's mode.
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=0
    )
    try:
        chosen = durability or durability_for(sqlite3.sqlite_version_info)
        if not is_read_only:
            # Exclusive before WAL: the index of the log then stays in memory, and no second process gets in.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute(f"PRAGMA journal_mode = {chosen.journal_mode}")
            connection.execute(f"PRAGMA synchronous = {chosen.synchronous}")
            _assert_durable(connection, chosen)
        for setting, value in _SETTINGS.items():
            connection.execute(f"PRAGMA {setting} = {value}")
            _assert_setting(connection, setting, value)
    except BaseException:
        connection.close()
        raise
    return connection


_SETTINGS: Final = {
    "foreign_keys": 1,
    "secure_delete": 1,  # erased keys leave no trace in free pages
    "trusted_schema": 0,
    "cell_size_check": 1,
    "cache_size": -_CACHE_KIB,
    "journal_size_limit": -1,  # nor in what the journal held: it keeps its blocks, which `scrubbing` overwrites
    "temp_store": 2,  # in memory: nothing sorted may reach a temporary file
}


def _is_unfinished(journal: Path) -> bool:
    """Whether a journal holds what a save left; one that was finished, or overwritten, begins with zeros."""
    if not journal.exists():
        return False
    with journal.open("rb") as file:
        return any(file.read(_JOURNAL_HEADER_BYTES))


def _assert_durable(connection: sqlite3.Connection, chosen: Durability) -> None:
    journal = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    _assert_setting(connection, "synchronous", _SYNCHRONOUS.get(chosen.synchronous))
    if journal != chosen.journal_mode:
        raise _refused("journal_mode", journal)


def _assert_setting(connection: sqlite3.Connection, setting: str, value: int | None) -> None:
    found = connection.execute(f"PRAGMA {setting}").fetchone()[0]
    if value is not None and found != value:
        raise _refused(setting, found)


def _refused(setting: str, found: object) -> CannotOpenError:
    return CannotOpenError(
        f"SQLite {sqlite3.sqlite_version} did not take the setting {setting}: it is {found}.",
        state="unsafe",
        action="Nothing is stored with unsafe settings; report this with the output of dermstation doctor.",
    )


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration that was made; 0 for an empty database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: tuple[Migration, ...]) -> int:
    """Make the migrations that are missing, each in one transaction with its number.

    Returns:
        The schema's version afterwards; it may be higher than this program's, when a later one ran before.

    Raises:
        CannotOpenError: A later program left a schema that this one cannot use.
    """
    found = schema_version(connection)
    if found and found > migrations[-1].version:
        compat = int(connection.execute("SELECT value FROM meta WHERE name = 'compat'").fetchone()[0])
        if compat > migrations[-1].version:
            raise CannotOpenError(
                f"The records were written by a later version (schema {found}) that this one cannot read.",
                state="newer",
                action="Install that version again; nothing is lost.",
            )
    for migration in migrations:
        if migration.version > found:
            with transaction(connection):
                for statement in _statements(migration.script):
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR REPLACE INTO meta (name, value) VALUES ('compat', ?)", (str(migration.compat).encode(),)
                )
                connection.execute(f"PRAGMA user_version = {migration.version}")
    return max(found, migrations[-1].version)


class transaction:  # noqa: N801 - reads as the keyword it stands for
    """`with transaction(connection):` all of it, or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            # Also after a commit that failed: SQLite leaves the transaction open after some faults.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _statements(script: str) -> list[str]:
    found, held = [], ""
    for line in script.splitlines(keepends=True):
        held += line
        if sqlite3.complete_statement(held):
            found.append(held)
            held = ""
    return found
