"""A record and its row: what is clear, what is sealed, and how the one authenticates the other.

It seals and opens single rows under a key that it is given; it knows no keys, no files and no transactions.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Generic, TypeVar

import msgspec

from appliance.records.audit import ObjectState
from appliance.records.content import Content, DraftContent
from appliance.records.errors import ErasedError, TamperedError
from appliance.records.sealing import seal, unseal

C = TypeVar("C", bound=Content)
COMMON_COLUMNS: Final = "revision, sequence, recorded_at, date_confirmed, operator_id, key_id, sealed"
CONTENT_CHUNK_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record as it lies in its table."""

    table: str
    record_id: str
    parents: Mapping[str, str | None]
    revision: int
    sequence: int
    recorded_at: str
    date_confirmed: int
    operator_id: str | None
    key_id: str | None
    sealed: bytes = b""

    def identity(self) -> bytes:
        """Return every clear column: the associated data of the sealed one."""
        clear = [
            self.table, self.record_id, sorted(self.parents.items()), self.revision, self.sequence, self.recorded_at,
            self.date_confirmed, self.operator_id, self.key_id,
        ]  # fmt: skip
        return json.dumps(clear, ensure_ascii=False, separators=(",", ":")).encode()

    def state(self) -> ObjectState:
        """Return what the audit notes of it."""
        return self.table, self.record_id, self.revision, hashlib.sha256(self.sealed).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[C]):
    """A record, opened."""

    record_id: str
    """32 hexadecimal digits."""
    parents: Mapping[str, str | None]
    """Ids of what it belongs to, by column: subject_id, encounter_id, lesion_id, capture_id."""
    content: C
    revision: int
    sequence: int
    """Orders everything that the box ever recorded."""
    recorded_at: datetime
    is_date_confirmed: bool
    """False: show "date not confirmed" beside the date."""
    operator_id: str | None


def sealed_row(bare: Row, content: Content, data_key: bytes) -> Row:
    """Seal a content into its row."""
    sealed = seal(data_key, msgspec.json.encode(content), bare.identity(), CONTENT_CHUNK_BYTES)
    return replace(bare, sealed=sealed)


def open_row(row: Row, kind: type[C], data_key: bytes) -> Record[C]:
    """Open a row's content.

    Raises:
        ErasedError: It was erased.
        TamperedError: Row and content do not belong together, or one was changed.
    """
    if row.key_id is None:
        raise ErasedError("This record was erased.")
    plain = unseal(data_key, row.sealed, row.identity())
    try:
        content = msgspec.json.decode(plain, type=kind)
        recorded_at = datetime.fromisoformat(row.recorded_at)
    except (msgspec.DecodeError, ValueError) as error:
        raise TamperedError("A stored record has a shape that this version does not know.") from error
    return Record(
        record_id=row.record_id,
        parents=row.parents,
        content=content,
        revision=row.revision,
        sequence=row.sequence,
        recorded_at=recorded_at,
        is_date_confirmed=bool(row.date_confirmed),
        operator_id=row.operator_id,
    )


def insert_row(connection: sqlite3.Connection, row: Row, kind: type[Content]) -> None:
    """Write a new row."""
    columns = [kind.ID_COLUMN, *kind.PARENTS]
    values = [row.record_id, *(row.parents.get(name) for name in kind.PARENTS), *_common_values(row)]
    marks = ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO {kind.TABLE} ({', '.join(columns)}, {COMMON_COLUMNS}) VALUES ({marks})",
        values,
    )


def replace_row(connection: sqlite3.Connection, row: Row, kind: type[Content]) -> bool:
    """Write a row's next revision, keeping the one before, but of a draft; False when somebody else was quicker."""
    if kind is not DraftContent:
        references = json.dumps(dict(_stored_parents(connection, row, kind)), separators=(",", ":"))
        connection.execute(
            f"INSERT INTO earlier_revision (table_name, record_id, parents, {COMMON_COLUMNS}) "
            f"SELECT ?, {kind.ID_COLUMN}, ?, {COMMON_COLUMNS} FROM {kind.TABLE} WHERE {kind.ID_COLUMN} = ?",
            (kind.TABLE, references, row.record_id),
        )
    settings = ", ".join(f"{name} = ?" for name in [*kind.PARENTS, *COMMON_COLUMNS.split(", ")])
    done = connection.execute(
        f"UPDATE {kind.TABLE} SET {settings} WHERE {kind.ID_COLUMN} = ? AND revision = ?",
        [
            *(row.parents.get(name) for name in kind.PARENTS),
            *_common_values(row),
            row.record_id,
            row.revision - 1,
        ],
    )
    return done.rowcount == 1


def select_rows(connection: sqlite3.Connection, kind: type[Content], column: str, value: str) -> list[Row]:
    """Read the rows of a table whose clear column has a value, in the order in which they came."""
    if column not in {kind.ID_COLUMN, *kind.PARENTS}:
        raise ValueError(f"{kind.TABLE} has no clear reference {column}")
    return _select(connection, kind, f"WHERE {column} = ? ORDER BY rowid", (value,))


def all_rows(connection: sqlite3.Connection, kind: type[Content]) -> list[Row]:
    """Read a whole table, in the order in which its rows came."""
    return _select(connection, kind, "ORDER BY rowid", ())


def earlier_rows(connection: sqlite3.Connection, kind: type[Content], record_id: str) -> list[Row]:
    """Read what a record said before it was changed, oldest first."""
    found = connection.execute(
        f"SELECT record_id, parents, {COMMON_COLUMNS} FROM earlier_revision "
        "WHERE table_name = ? AND record_id = ? ORDER BY revision",
        (kind.TABLE, record_id),
    )
    return [_row(kind.TABLE, one[0], json.loads(one[1]), one[2:]) for one in found]


def _select(connection: sqlite3.Connection, kind: type[Content], rest: str, values: tuple[str, ...]) -> list[Row]:
    columns = ", ".join([kind.ID_COLUMN, *kind.PARENTS])
    found = connection.execute(f"SELECT {columns}, {COMMON_COLUMNS} FROM {kind.TABLE} {rest}", values)
    split = 1 + len(kind.PARENTS)
    return [_row(kind.TABLE, one[0], dict(zip(kind.PARENTS, one[1:split], strict=True)), one[split:]) for one in found]


def _stored_parents(connection: sqlite3.Connection, row: Row, kind: type[Content]) -> Mapping[str, str | None]:
    stored = select_rows(connection, kind, kind.ID_COLUMN, row.record_id)
    return stored[0].parents if stored else {}


def _row(table: str, record_id: str, parents: Mapping[str, str | None], common: tuple[object, ...]) -> Row:
    revision, sequence, recorded_at, date_confirmed, operator_id, key_id, sealed = common
    return Row(
        table=table, record_id=record_id, parents=parents, revision=int(str(revision)), sequence=int(str(sequence)),
        recorded_at=str(recorded_at), date_confirmed=int(str(date_confirmed)),
        operator_id=None if operator_id is None else str(operator_id), key_id=None if key_id is None else str(key_id),
        sealed=bytes(sealed) if isinstance(sealed, bytes) else b"",
    )  # fmt: skip


def _common_values(row: Row) -> list[object]:
    return [
        row.revision, row.sequence, row.recorded_at, row.date_confirmed, row.operator_id, row.key_id, row.sealed,
    ]  # fmt: skip
