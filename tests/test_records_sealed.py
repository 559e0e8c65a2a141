"""C6: what is sealed opens whole, in its own place, or not at all."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from records_boxes import Box, Visited, new_box, visit

from appliance.records.content import CapturedImageContent, Content, EncounterContent, SubjectContent
from appliance.records.errors import RecordsError, TamperedError, WrongSecretError
from appliance.records.rows import Row
from appliance.records.sealing import seal, unseal
from appliance.records.setup import prepare
from appliance.records.words import (
    bytes_from_words,
    key_from_sheet,
    pseudonym_of,
    sheet_from_key,
    words_from_bytes,
)

KEY = bytes(range(32))
CHUNK = 64


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 10 * CHUNK + 7])
def test_sealed_content_opens_in_its_place(size: int) -> None:
    content = random.Random(size).randbytes(size)
    sealed = seal(KEY, content, b"here", CHUNK)
    assert unseal(KEY, sealed, b"here") == content
    for key, identity in ((KEY, b"there"), (bytes(32), b"here")):
        with pytest.raises(TamperedError):
            unseal(key, sealed, identity)
    assert len(content) < 16 or content not in sealed  # a single byte may be there by chance


def test_sealed_layout_is_as_written_down() -> None:
    """Opened here by the module's own description, not by its code."""
    sealed = seal(KEY, b"a" * 20 + b"b" * 4, b"here", 20)
    assert sealed[:8] == b"DSS1" + (20).to_bytes(4, "big")
    header, body = sealed[:24], sealed[24:]
    derived = HKDF(algorithm=SHA256(), length=32, salt=header[8:], info=b"dermstation sealed v1").derive(KEY)
    pieces = [body[:36], body[36:]]
    for number, (piece, plain, last) in enumerate(zip(pieces, (b"a" * 20, b"b" * 4), (b"\0", b"\1"), strict=True)):
        associated = header + (4).to_bytes(4, "big") + b"here" + number.to_bytes(8, "big") + last
        assert AESGCM(derived).decrypt(number.to_bytes(11, "big") + last, piece, associated) == plain


def test_no_edit_of_sealed_bytes_opens(seed: int) -> None:
    rng = random.Random(seed)
    content = rng.randbytes(5 * CHUNK + 9)
    sealed = seal(KEY, content, b"here", CHUNK)
    step = CHUNK + 16
    for _ in range(1000):
        edited = bytearray(sealed)
        match rng.randrange(6):
            case 0:
                edited[rng.randrange(len(edited))] ^= 1 << rng.randrange(8)
            case 1:
                del edited[rng.randrange(len(edited)) :]
            case 2:
                edited += rng.randbytes(rng.randint(1, 40))
            case 3:  # two chunks change places
                first, second = rng.sample(range(5), 2)
                a, b = 24 + first * step, 24 + second * step
                edited[a : a + step], edited[b : b + step] = edited[b : b + step], edited[a : a + step]
            case 4:  # a chunk is dropped
                at = 24 + rng.randrange(5) * step
                del edited[at : at + step]
            case 5:  # a chunk is there twice
                at = 24 + rng.randrange(5) * step
                edited[at:at] = edited[at : at + step]
        with pytest.raises(TamperedError):
            unseal(KEY, bytes(edited), b"here")


def test_words_come_back_and_a_slip_of_the_pen_is_told(seed: int) -> None:
    rng = random.Random(seed)
    assert words_from_bytes(bytes([127, 0, 0, 1])) == "lusab-babad"  # the proposal's own example
    key = rng.randbytes(16)
    sheet = sheet_from_key(key)
    assert key_from_sheet(f"  {sheet.upper().replace('-', ' ')}\n") == key
    assert bytes_from_words(words_from_bytes(key)) == key
    letters = [at for at, char in enumerate(sheet) if char != "-"]
    missed = 0
    for _ in range(2000):
        at = rng.choice(letters)
        wrong = (
            sheet[:at] + rng.choice([char for char in "abdfghijklmnoprstuvz" if char != sheet[at]]) + sheet[at + 1 :]
        )
        try:
            key_from_sheet(wrong)
        except WrongSecretError:
            continue
        missed += 1
    assert missed <= 3  # one check word lets 1 in 65,536 through
    with pytest.raises(WrongSecretError, match="9 words; 8"):
        key_from_sheet(sheet.rpartition("-")[0])
    assert pseudonym_of("7f000001" + "0" * 24) == "lusab-babad"


Attack = Callable[[sqlite3.Connection, random.Random, list[Visited]], None]
_TABLES: dict[str, tuple[type[Content], Callable[[Visited], str]]] = {
    "subject": (SubjectContent, lambda one: one.subject_id),
    "encounter": (EncounterContent, lambda one: one.encounter_id),
    "captured_image": (CapturedImageContent, lambda one: one.capture_id),
}


def swap_column(column: str) -> Attack:
    """Exchange one column of two records of the same kind."""

    def attack(connection: sqlite3.Connection, rng: random.Random, visits: list[Visited]) -> None:
        table = rng.choice([name for name in _TABLES if column != "subject_id" or name == "encounter"])
        kind, id_of = _TABLES[table]
        one, other = (id_of(visited) for visited in rng.sample(visits, 2))
        read = f"SELECT {column} FROM {table} WHERE {kind.ID_COLUMN} = ?"
        values = [connection.execute(read, (record_id,)).fetchone()[0] for record_id in (one, other)]
        for record_id, value in zip((one, other), reversed(values), strict=True):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {kind.ID_COLUMN} = ?", (value, record_id))

    return attack


def swap_ids(connection: sqlite3.Connection, rng: random.Random, visits: list[Visited]) -> None:
    """Let each of two photos claim to be of the other's visit."""
    one, other = rng.sample(visits, 2)
    for capture_id, encounter_id in ((one.capture_id, other.encounter_id), (other.capture_id, one.encounter_id)):
        connection.execute(
            "UPDATE captured_image SET encounter_id = ? WHERE capture_id = ?", (encounter_id, capture_id)
        )


def swap_data_keys(connection: sqlite3.Connection, rng: random.Random, visits: list[Visited]) -> None:
    """Give two owners each other's sealed keys."""
    one, other = rng.sample(visits, 2)
    owner = rng.choice(["subject_id", "encounter_id"])
    ids = (getattr(one, owner), getattr(other, owner))
    read = "SELECT sealed FROM data_key WHERE owner_id = ?"
    values = [connection.execute(read, (owner_id,)).fetchone()[0] for owner_id in ids]
    for owner_id, value in zip(ids, reversed(values), strict=True):
        connection.execute("UPDATE data_key SET sealed = ? WHERE owner_id = ?", (value, owner_id))


EDITS = (
    "recorded_at = '2020-01-01T00:00:00.000+00:00'",
    "operator_id = NULL",
    "date_confirmed = 1 - date_confirmed",
    "revision = revision + 1",
    "sequence = sequence - 1",
)


def edit_clear_column(connection: sqlite3.Connection, rng: random.Random, visits: list[Visited]) -> None:
    """Date, author or number of a record."""
    kind, id_of = _TABLES[rng.choice(list(_TABLES))]
    record_id = id_of(rng.choice(visits))
    connection.execute(f"UPDATE {kind.TABLE} SET {rng.choice(EDITS)} WHERE {kind.ID_COLUMN} = ?", (record_id,))


ATTACKS: list[Attack] = [
    swap_column("sealed"),
    swap_column("key_id"),
    swap_column("subject_id"),
    swap_ids,
    swap_data_keys,
    edit_clear_column,
]


@contextmanager
def attacked(box: Box) -> Iterator[sqlite3.Connection]:
    """A database whose edits are undone."""
    connection = box.store.saver.connection
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN")
    box.store.saver.keyring._opened.clear()
    try:
        yield connection
    finally:
        connection.execute("ROLLBACK")
        box.store.saver.keyring._opened.clear()


def is_told(box: Box, visits: list[Visited]) -> bool:
    """Whether opening what is there refuses something."""
    try:
        for visited in visits:
            box.store.get(SubjectContent, visited.subject_id)
            box.store.get(EncounterContent, visited.encounter_id)
            for image in box.store.of(CapturedImageContent, encounter_id=visited.encounter_id):
                box.store.photo(image)
    except TamperedError:
        return True
    return False


def attack_often(box: Box, count: int, rng: random.Random) -> int:
    """Attack so often; return how often nothing was told."""
    visits = [visit(box, f"attacked {number}") for number in range(2)]
    assert not is_told(box, visits)
    missed = 0
    for number in range(count):
        if number % (len(ATTACKS) + 1) == len(ATTACKS):
            missed += not photo_files_change_places(box, visits, rng)
            continue
        with attacked(box) as connection:
            ATTACKS[number % (len(ATTACKS) + 1)](connection, rng, visits)
            missed += not is_told(box, visits)
    return missed


def photo_files_change_places(box: Box, visits: list[Visited], rng: random.Random) -> bool:
    one, other = (box.store.saver.blobs.path(visited.capture_id) for visited in rng.sample(visits, 2))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    told = is_told(box, visits)
    one.write_bytes(contents[0])
    other.write_bytes(contents[1])
    return told


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_record_opens_in_anothers_place(tmp_path: Path, seed: int, count: int) -> None:
    assert attack_often(new_box(tmp_path / "records"), count, random.Random(seed)) == 0


def test_control_rows_without_their_place_can_be_swapped(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Row, "identity", lambda _: b"anywhere")
    assert attack_often(new_box(tmp_path / "records"), 140, random.Random(seed)) > 30


def test_older_revision_put_back_is_told_by_the_audit(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    visited = visit(box, "one")
    columns = "revision, sequence, recorded_at, date_confirmed, operator_id, key_id, sealed"
    connection = box.store.saver.connection
    old = connection.execute(f"SELECT {columns} FROM subject").fetchone()
    record = box.store.get(SubjectContent, visited.subject_id)
    box.store.revise(record, SubjectContent(pseudonym="allergic"), box.lead.user_id)
    settings = ", ".join(f"{name} = ?" for name in columns.split(", "))
    connection.execute(f"UPDATE subject SET {settings}", old)
    # It is authentic, for it was true once.
    assert box.store.get(SubjectContent, visited.subject_id).content.pseudonym == "P-one"
    assert any("not as it was written" in problem for problem in box.store.verify_audit().problems)


def test_missing_photo_and_missing_key_are_told(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    visited = visit(box, "one")
    (image,) = box.store.of(CapturedImageContent, encounter_id=visited.encounter_id)
    box.store.saver.blobs.path(visited.capture_id).unlink()
    with pytest.raises(TamperedError, match="missing"):
        box.store.photo(image)
    again = box.reopen()
    again.store.saver.connection.execute("DELETE FROM data_key WHERE owner_id = ?", (visited.encounter_id,))
    with pytest.raises(RecordsError, match="key is missing"):
        again.store.get(EncounterContent, visited.encounter_id)


def test_one_damaged_subject_does_not_close_the_others(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    good, bad = visit(box, "good"), visit(box, "bad")
    box.store.saver.connection.execute("UPDATE subject SET sealed = x'00' WHERE subject_id = ?", (bad.subject_id,))
    again = box.reopen()
    assert again.store.damaged_subjects == (bad.subject_id,)
    assert {hit.subject_id for hit in again.store.find()} == {good.subject_id}
    with pytest.raises(TamperedError):
        again.store.get(SubjectContent, bad.subject_id)


def test_foreign_key_in_place_of_the_clinics_is_told_at_unlock(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    foreign = prepare().clinic_key.private_key.public_key().public_bytes_raw()
    box.store.saver.connection.execute("UPDATE meta SET value = ? WHERE name = 'public_key'", (foreign,))
    again = box.reopen(is_unlocked=False)
    with pytest.raises(TamperedError, match="was changed"):
        again.store.unlock(box.sheet())
