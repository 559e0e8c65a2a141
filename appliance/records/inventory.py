"""What the box holds about people: the list that a clinic shows to whoever has the right to ask.

Counts and kinds only; it opens nothing and works while locked.
Source: Regulation (EU) 2016/679, article 30 (records of processing).
"""

import json
import sqlite3
import textwrap
from dataclasses import asdict, dataclass
from typing import Final

from appliance.records import content as contents
from appliance.records.backup import last_backup
from appliance.records.content import CONTENTS
from appliance.records.database import DATABASE_NAME
from appliance.records.store import RecordStore

_LINE: Final = 100
_INDENT: Final = " " * 10
_STAFF: Final = (("user", "names and roles of staff; PINs only as hashes"), ("device", "names of paired devices"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One kind of thing that is stored."""

    kind: str
    holds: str
    """Which facts, in words."""
    count: int
    is_sealed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that is stored, counted."""

    clinic: str
    made_at: str
    is_date_confirmed: bool
    items: tuple[Item, ...]
    erased_subjects: int
    database_bytes: int
    photos: int
    photo_bytes: int
    last_backup: str
    keep_years: int

    def to_json(self) -> str:
        """Write it down for another program."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)

    def to_text(self) -> str:
        """Write it down for paper, in lines of at most 100 characters."""
        date = self.made_at[:16].replace("T", " ") + (" UTC" if self.is_date_confirmed else " UTC (date not confirmed)")
        lines = [f"What this station keeps: {self.clinic}", date, ""]
        for item in self.items:
            lines.append(f"{item.count:>8}  {item.kind}{'' if item.is_sealed else '  (not sealed)'}")
            lines += textwrap.wrap(item.holds, _LINE, initial_indent=_INDENT, subsequent_indent=_INDENT)
        lines += [
            "",
            f"{self.photos:>8}  photo files, {self.photo_bytes / 1e6:.1f} MB, sealed",
            f"{self.erased_subjects:>8}  subjects erased",
            f"Database: {self.database_bytes / 1e6:.1f} MB. Last backup: {self.last_backup}.",
            f"Kept for {self.keep_years} years after the last visit, then listed for erasing.",
        ]
        return "\n".join(lines) + "\n"


def take_inventory(store: RecordStore, keep_years: int) -> Inventory:
    """Count what is there, locked or not."""
    moment, backup = store.now(), last_backup(store)
    with store.saver.lock:
        connection = store.saver.connection
        items = [
            Item(
                kind=kind.TABLE.replace("_", " "),
                holds=_fields(kind),
                count=_count(connection, kind.TABLE, "key_id IS NOT NULL"),
                is_sealed=True,
            )
            for kind in CONTENTS
        ]
        items += [
            Item(kind=table, holds=holds, count=_count(connection, table, "1"), is_sealed=False)
            for table, holds in _STAFF
        ]
        items.append(
            Item(
                kind="audit entry",
                holds="who did what and when, by ids; no patient data",
                count=_count(connection, "audit", "1"),
                is_sealed=False,
            )
        )
        erased = _count(connection, "subject", "key_id IS NULL")
    sizes = [store.saver.blobs.path(name).stat().st_size for name in store.saver.blobs.names()]
    return Inventory(
        clinic=store.meta("clinic_name").decode(),
        made_at=moment.text,
        is_date_confirmed=moment.is_confirmed,
        items=tuple(items),
        erased_subjects=erased,
        database_bytes=(store.folder / DATABASE_NAME).stat().st_size,
        photos=len(sizes),
        photo_bytes=sum(sizes),
        last_backup=f"{backup.recorded_at[:10]}, {backup.label}" if backup else "none",
        keep_years=keep_years,
    )


def _fields(kind: type[contents.Content]) -> str:
    return ", ".join(name.replace("_", " ") for name in kind.__struct_fields__)


def _count(connection: sqlite3.Connection, table: str, where: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
