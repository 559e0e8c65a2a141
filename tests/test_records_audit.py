"""A1: no edit, deletion, reordering, insertion or cut of the audit goes unseen."""

import hmac
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
from records_boxes import Box, new_box, visit

from appliance.records import audit
from appliance.records.audit import Entry
from appliance.records.clinic_key import open_key
from appliance.records.store import ORIGIN_IDENTITY
from appliance.records.words import bytes_from_words

COLUMNS = ", ".join(one.name for one in fields(Entry))
MARKS = ", ".join("?" * len(fields(Entry)))


class Copy:
    """A copy of a box's database, in the hands of somebody who may write to it."""

    def __init__(self, box: Box) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        box.store.saver.connection.backup(self.connection)
        for trigger in ("audit_stays", "audit_is_kept"):
            self.connection.execute(f"DROP TRIGGER {trigger}")
        self.origin = open_key(box.store.saver.keyring.private_key, box.store.meta("audit_origin"), ORIGIN_IDENTITY)

    def entries(self) -> list[Entry]:
        return list(audit.entries(self.connection))

    def put(self, entries: list[Entry]) -> None:
        self.connection.execute("DELETE FROM audit")
        rows = [tuple(getattr(entry, one.name) for one in fields(Entry)) for entry in entries]
        self.connection.executemany(f"INSERT INTO audit ({COLUMNS}) VALUES ({MARKS})", rows)

    @contextmanager
    def undone(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    box = new_box(tmp_path_factory.mktemp("audit") / "records")
    for number in range(8):
        visit(box, f"visit {number}")
        box.store.note("read", box.lead.user_id, detail="screen")
    return box


def tampered(entries: list[Entry], rng: random.Random) -> list[Entry]:
    """Do one thing to the audit."""
    found = list(entries)
    at = rng.randrange(1, len(found))
    match rng.randrange(6):
        case 0:
            changes = (
                {"recorded_at": "2020-01-01T00:00:00.000+00:00"},
                {"operator_id": "f" * 32},
                {"action": "exported" if found[at].action != "exported" else "read"},
                {"objects": json.dumps([["subject", "0" * 32, 1, "0" * 64]])},
                {"detail": "nothing to see"},
                {"date_confirmed": 1 - found[at].date_confirmed},
                {"mac": rng.randbytes(32)},
                {"hash": rng.randbytes(32)},
                {"previous": rng.randbytes(32)},
            )
            found[at] = replace(found[at], **rng.choice(changes))
        case 1:
            del found[at]
        case 2:
            other = rng.choice([one for one in range(1, len(found)) if one != at])
            found[at], found[other] = found[other], found[at]
            found = [replace(entry, sequence=number) for number, entry in enumerate(found, 1)]
        case 3:
            found.insert(at, replace(found[at], action="read", detail="forged"))
            found = [replace(entry, sequence=number) for number, entry in enumerate(found, 1)]
        case 4:
            del found[at:]
        case 5:
            found.append(replace(found[-1], sequence=len(found) + 1, detail="forged"))
    return found


def recomputed(entries: list[Entry], key: bytes) -> list[Entry]:
    """Make the chain fit again, as somebody can who reads this program; MACs under the key that they find."""
    previous, found = audit.GENESIS, []
    for number, entry in enumerate(entries, 1):
        moved = replace(entry, sequence=number, previous=previous)
        if moved.expected_hash() != moved.hash:
            moved = replace(moved, hash=moved.expected_hash())
            moved = replace(moved, mac=hmac.digest(key, moved.hash, "sha256"))
        found.append(moved)
        previous = moved.hash
    return found


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_edit_of_the_audit_goes_unseen(box: Box, seed: int, count: int) -> None:
    rng, copy = random.Random(seed), Copy(box)
    entries = copy.entries()
    key = bytes(copy.connection.execute("SELECT value FROM meta WHERE name = 'audit_key'").fetchone()[0])
    assert audit.verify(copy.connection, copy.origin).problems == ()
    missed = 0
    for number in range(count):
        edited = tampered(entries, rng)
        if number % 2:
            edited = recomputed(edited, key)
        with copy.undone():
            copy.put(edited)
            # Computing a hash anew may undo what was done to it.
            missed += edited != entries and audit.verify(copy.connection, copy.origin).problems == ()
    assert missed == 0


def test_control_without_the_clinics_key_a_recomputed_chain_passes(box: Box, seed: int) -> None:
    rng, copy = random.Random(seed), Copy(box)
    entries, missed = copy.entries(), 0
    for _ in range(200):
        at = rng.randrange(1, len(entries))
        edited = [*entries[:at], replace(entries[at], operator_id="f" * 32), *entries[at + 1 :]]
        with copy.undone():
            copy.put(recomputed(edited, b"k" * 32))
            missed += audit.verify(copy.connection).problems == ()
            assert audit.verify(copy.connection, copy.origin).problems != ()
    assert missed == 200


def test_older_copy_of_everything_is_told_by_what_was_noted_elsewhere(box: Box) -> None:
    older = Copy(box)
    noted = box.store.note("read", box.lead.user_id)
    assert audit.verify(older.connection, older.origin).problems == ()
    anchors = {noted.sequence: bytes.fromhex(noted.digest)}
    assert "is missing" in audit.verify(older.connection, older.origin, anchors).problems[-1]
    assert audit.verify(Copy(box).connection, older.origin, anchors).problems == ()


def test_dropped_record_is_told(box: Box) -> None:
    copy = Copy(box)
    copy.connection.execute("DELETE FROM captured_image WHERE rowid = 3")
    (problem,) = audit.verify(copy.connection).problems
    assert "captured_image" in problem
    assert "is gone" in problem


def test_digest_is_six_words_of_the_last_entry(box: Box) -> None:
    verdict = box.store.verify_audit()
    assert len(verdict.digest.split("-")) == 6
    assert bytes_from_words(verdict.digest) == box.store.saver.last_entry().hash[:12]
    before = verdict.digest
    box.store.note("read", box.lead.user_id)
    assert box.store.verify_audit().digest != before


def test_locked_box_checks_the_chain_but_not_the_macs(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records").reopen(is_unlocked=False)
    verdict = box.store.verify_audit()
    assert (verdict.problems, verdict.macs_checked) == ((), False)


def test_audit_holds_no_word_that_was_typed(box: Box) -> None:
    written = json.dumps([[entry.objects, entry.detail] for entry in audit.entries(box.store.saver.connection)])
    for word in ("Nomvula", "reason", "visit 1", "N-"):
        assert word not in written
