"""The audit: one chained entry for each act, written in the act's own transaction.

Each entry holds the hash of the one before, and a MAC under a key that is replaced by its own hash and overwritten in
the same transaction: who takes the box today cannot write yesterday's entries anew, nor drop the last ones. The first
key lies sealed to the clinic, so the MACs are checked after unlock. Entries hold ids and fixed words, no patient data.
What it cannot see: the whole folder put back to an older copy; against that stand the digest in the paper book and
the sequence number of each backup.
Source: Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics", ACM TISSEC 1999.
"""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from appliance.records.content import CONTENT_OF_TABLE
from appliance.records.dating import Moment
from appliance.records.words import words_from_bytes

GENESIS: Final = bytes(32)
DIGEST_BYTES: Final = 12
"""Six words: an entry can be forged to the same digest with 2^96 work."""
ACTIONS: Final = frozenset({
    "set-up", "unlocked", "locked", "date-confirmed", "phrase-changed", "sheet-changed",
    "pin-tried", "signed-in", "signed-out", "pin-confirmed", "user-added", "user-changed", "pin-changed", "pin-reset",
    "device-paired", "device-revoked", "device-seen",
    "added", "changed", "read", "draft-discarded", "moved",
    "fob-made", "fob-revoked", "chip-on", "chip-off",
    "exported", "printed", "erased", "backup-made", "restored", "drill",
})  # fmt: skip
ObjectState = tuple[str, str, int, str]
"""Table, id, revision, SHA-256 of the sealed content in hex."""
_RATCHET: Final = b"dermstation audit ratchet v1"
_COLUMNS: Final = "sequence, recorded_at, date_confirmed, operator_id, action, objects, detail, previous, hash, mac"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry as it lies in the database."""

    sequence: int
    recorded_at: str
    date_confirmed: int
    operator_id: str | None
    action: str
    objects: str
    detail: str
    previous: bytes
    hash: bytes
    mac: bytes

    def expected_hash(self) -> bytes:
        """Compute the hash that its other columns ask for."""
        facts = [
            self.sequence, self.recorded_at, self.date_confirmed, self.operator_id,
            self.action, self.objects, self.detail, self.previous.hex(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the audit's verification found."""

    entries: int
    digest: str
    """Words of the last entry's hash, to compare with the paper book."""
    problems: tuple[str, ...]
    """One sentence each; none when all is well."""
    macs_checked: bool
    """False while the records are locked: then only the chain itself was checked."""


def next_key(key: bytes) -> bytes:
    """Return the MAC key after this one; there is no way back."""
    return hashlib.sha256(_RATCHET + key).digest()


def append(
    connection: sqlite3.Connection,
    action: str,
    moment: Moment,
    *,
    operator_id: str | None,
    objects: Iterable[ObjectState] = (),
    detail: str = "",
) -> Entry:
    """Add an entry and replace the MAC key, inside the caller's transaction."""
    if action not in ACTIONS:
        raise ValueError(f"{action} is no action of the audit")
    last = connection.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    key = bytes(connection.execute("SELECT value FROM meta WHERE name = 'audit_key'").fetchone()[0])
    sequence, previous = (last[0] + 1, bytes(last[1])) if last else (1, GENESIS)
    draft = Entry(
        sequence=sequence, recorded_at=moment.text, date_confirmed=int(moment.is_confirmed), operator_id=operator_id,
        action=action, objects=json.dumps(list(objects), separators=(",", ":")), detail=detail,
        previous=previous, hash=b"", mac=b"",
    )  # fmt: skip
    digest = draft.expected_hash()
    row = (
        sequence, draft.recorded_at, draft.date_confirmed, operator_id, action, draft.objects, detail, previous,
        digest, hmac.digest(key, digest, "sha256"),
    )  # fmt: skip
    connection.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'audit_key'", (next_key(key),))
    return entry_at(connection, sequence)


def entry_at(connection: sqlite3.Connection, sequence: int) -> Entry:
    """Read one entry.

    Raises:
        LookupError: There is none.
    """
    row = connection.execute(f"SELECT {_COLUMNS} FROM audit WHERE sequence = ?", (sequence,)).fetchone()
    if row is None:
        raise LookupError(f"no audit entry {sequence}")
    return _entry(row)


def entries(connection: sqlite3.Connection, after: int = 0, limit: int = -1) -> Iterator[Entry]:
    """Read entries in order, those after a sequence number."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
    )
    return map(_entry, rows)


def _entry(row: tuple[int, str, int, str | None, str, str, str, bytes, bytes, bytes]) -> Entry:
    return Entry(
        sequence=row[0], recorded_at=row[1], date_confirmed=row[2], operator_id=row[3], action=row[4],
        objects=row[5], detail=row[6], previous=bytes(row[7]), hash=bytes(row[8]), mac=bytes(row[9]),
    )  # fmt: skip


def digest_words(entry_hash: bytes) -> str:
    """Write the start of an entry's hash as six words for the shift-change screen and the paper book."""
    return words_from_bytes(entry_hash[:DIGEST_BYTES])


def verify(
    connection: sqlite3.Connection, origin_key: bytes | None = None, anchors: dict[int, bytes] | None = None
) -> Verdict:
    """Check the chain from its first entry to its last, and that each record is the one that was written last.

    Args:
        connection: The records.
        origin_key: The first MAC key, which only an unlocked clinic knows.
        anchors: Hashes noted elsewhere, by sequence: from backups or the paper book.
    """
    problems: list[str] = []
    previous, expected, key = GENESIS, 1, origin_key
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    noted = dict(anchors or {})
    for entry in entries(connection):
        if entry.sequence != expected:
            problems.append(f"Entry {expected} is missing.")
        if entry.previous != previous or entry.hash != entry.expected_hash():
            problems.append(f"Entry {entry.sequence} was changed or does not follow the one before.")
        if key is not None:
            if not hmac.compare_digest(entry.mac, hmac.digest(key, entry.hash, "sha256")):
                problems.append(f"Entry {entry.sequence} was not written by this box.")
            key = next_key(key)
        if noted.pop(entry.sequence, entry.hash) != entry.hash:
            problems.append(f"Entry {entry.sequence} is not the one that was noted elsewhere.")
        for table, record_id, revision, digest in _objects(entry, problems):
            latest[table, record_id] = (revision, digest)
        previous, expected = entry.hash, entry.sequence + 1
    problems += [f"Entry {sequence} was noted elsewhere and is missing." for sequence in sorted(noted)]
    stored_key = connection.execute("SELECT value FROM meta WHERE name = 'audit_key'").fetchone()
    if key is not None and (stored_key is None or bytes(stored_key[0]) != key):
        problems.append("Entries at the end are missing.")
    problems += _record_problems(connection, latest)
    return Verdict(
        entries=expected - 1,
        digest=digest_words(previous),
        problems=tuple(problems),
        macs_checked=origin_key is not None,
    )


def _objects(entry: Entry, problems: list[str]) -> list[ObjectState]:
    try:
        return [(str(one[0]), str(one[1]), int(one[2]), str(one[3])) for one in json.loads(entry.objects)]
    except (ValueError, TypeError, IndexError):
        problems.append(f"Entry {entry.sequence} cannot be read.")
        return []


def _record_problems(connection: sqlite3.Connection, latest: dict[tuple[str, str], tuple[int, str]]) -> list[str]:
    """Compare what lies in the tables with what the audit says was written last."""
    problems = []
    unseen = dict(latest)
    for table, content in CONTENT_OF_TABLE.items():
        for record_id, revision, sealed in connection.execute(
            f"SELECT {content.ID_COLUMN}, revision, sealed FROM {table}"
        ):
            expected = unseen.pop((table, record_id), None)
            if table == "draft":
                continue  # drafts are not audited
            if expected is None:
                problems.append(f"The {table} {record_id} is in no entry.")
            elif expected != (revision, hashlib.sha256(sealed).hexdigest()):
                problems.append(f"The {table} {record_id} is not as it was written.")
    problems += [f"The {table} {record_id} is gone." for table, record_id in unseen if table != "draft"]
    return problems
