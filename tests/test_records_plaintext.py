"""C1: whoever takes the disk, and the memory's leavings on it, finds nothing that was told to the station."""

import logging
import re
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest
from records_boxes import LEAD_PIN, Box, assess, described, new_box, photo

from appliance.records import blobs, rows
from appliance.records.content import (
    ChecklistAnswerContent,
    ConsentContent,
    DecisionContent,
    EncounterContent,
    FollowUpContent,
    LesionContent,
    OutcomeContent,
    ReportContent,
    SubjectContent,
)
from appliance.records.drafts import Drafts
from appliance.records.store import new_id


def marked_visit(box: Box, number: int) -> None:
    """Put a mark into every field that takes words, and one into the photo."""
    store, lead_id, mark = box.store, box.lead.user_id, f"CANARY{number:04d}"
    subject_id, encounter_id = new_id(), new_id()
    content = photo(f"{mark}-pixels")
    store.add_all(
        [
            (
                SubjectContent(pseudonym=f"{mark}-p", name=f"{mark}-n", local_number=f"{mark}-l", contact=f"{mark}-c"),
                subject_id,
                {},
                None,
            ),
            (EncounterContent(reason=f"{mark}-r", history=f"{mark}-h"), encounter_id, {"subject_id": subject_id}, None),
            (described(content), new_id(), {"encounter_id": encounter_id}, content),
            (
                ConsentContent(tiers=frozenset({"care"}), language=f"{mark}-g"),
                new_id(),
                {"subject_id": subject_id},
                None,
            ),
            (
                LesionContent(
                    body_site_code="368208006", body_site_display=f"{mark}-b", tracking_uid="2.25.42", where=f"{mark}-w"
                ),
                new_id(),
                {"subject_id": subject_id},
                None,
            ),
        ],
        lead_id,
    )
    Drafts(store).save(encounter_id, "history", {"words": f"{mark}-d"}, lead_id)
    assess(box, encounter_id, f"{mark}-a")
    for filled in (
        ChecklistAnswerContent(checklist="7-point", question="itch", answer=f"{mark}-k"),
        DecisionContent(urgency="urgent", plan=f"{mark}-pl", reason=f"{mark}-re"),
        ReportContent(payload=f"{mark}-pay".encode()),
        FollowUpContent(due_on="2026-12-24", reason=f"{mark}-f"),
        OutcomeContent(words=f"{mark}-o", said_by=f"{mark}-s"),
    ):
        store.add(filled, lead_id, encounter_id=encounter_id)


def leaks(folder: Path, secrets: list[str], by_chance: frozenset[str] = frozenset()) -> list[str]:
    """Search every byte of every file, and every name.

    Six digits stand somewhere in the ids of a hundred visits for one PIN in a hundred and fifty; what overlaps one of
    the random values `by_chance` was not written.
    """
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        name = str(path.relative_to(folder)).encode()
        for secret in secrets:
            forms = (secret.encode(), secret.encode().hex().encode(), secret.encode("utf-16-le"))
            found += [f"{secret} in {path.name}" for form in forms if is_written(content, form, by_chance)]
            if is_written(name, secret.encode(), by_chance):
                found.append(f"{secret} in a name")
    return found


def is_written(content: bytes, form: bytes, by_chance: frozenset[str]) -> bool:
    """Whether a secret stands there otherwise than inside, or across the ends of, a random value."""
    return any(not is_chance(content, hit.span(), by_chance) for hit in re.finditer(re.escape(form), content))


def is_chance(content: bytes, span: tuple[int, int], by_chance: frozenset[str]) -> bool:
    start, end = span
    return any(
        content.find(value.encode(), max(0, start - len(value) + 1), end + len(value) - 1) >= 0 for value in by_chance
    )


def random_values(connection: sqlite3.Connection) -> frozenset[str]:
    """Every id and digest that the database holds as text: each is a column's value, or quoted in one."""
    tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    texts = (
        value
        for table in tables
        for row in connection.execute(f"SELECT * FROM {table}")
        for value in row
        if isinstance(value, str)
    )
    return frozenset(found for text in texts for found in re.findall(r"\b(?:[0-9a-f]{32}|[0-9a-f]{64})\b", text))


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_nothing_that_was_told_lies_on_the_disk(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    box = new_box(tmp_path / "records")
    for number in range(count):
        marked_visit(box, number)
        if number % 25 == 24:
            record = box.store.all_readable(SubjectContent)[-1]
            box.store.revise(record, SubjectContent(pseudonym="CANARY-revised"), box.lead.user_id)
            box = box.reopen(is_unlocked=number % 2 == 0)
            box.store.unlock(box.phrase())
    assert len(box.store.find("CANARY", limit=2 * count)) == count
    words = [*box.made.sheets, box.made.phrase, *box.made.phrase.split("-"), LEAD_PIN]
    private_key = box.made.clinic_key.private_key.private_bytes_raw().hex()
    secrets = ["CANARY", *words, private_key]
    # Open and in the middle of things, then closed.
    by_chance = random_values(box.store.saver.connection)
    assert leaks(tmp_path, secrets, by_chance) == []
    keys = [bytes(key) for key in box.store.saver.keyring._opened.values()]
    box.store.close()
    assert leaks(tmp_path, secrets, by_chance) == []
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(keys) > 10
    assert [key for key in [*keys, bytes.fromhex(private_key)] if key in written] == []
    assert [record.message for record in caplog.records if "CANARY" in record.getMessage()] == []


@pytest.mark.parametrize("module", [rows, blobs])
def test_control_what_is_stored_unsealed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    """The marks reach the disk by the same way as what is told: without sealing they are there."""
    monkeypatch.setattr(module, "seal", lambda _, content, *__: content)
    monkeypatch.setattr(module, "unseal", lambda _, content, *__: content)
    box = new_box(tmp_path / "records")
    marked_visit(box, 1)
    box.store.close()
    found = {where.rpartition(" ")[2] for where in leaks(tmp_path, ["CANARY0001"])}
    assert found
    # Rows lie in the database, photos each in a file of its own.
    assert ("records.sqlite" in found) == (module is rows)


def test_control_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"...CANARY...")
    (tmp_path / "CANARY.jpg").write_bytes("CANARY".encode("utf-16-le"))
    assert len(leaks(tmp_path, ["CANARY"])) == 3


def test_control_a_written_pin_is_found_beside_an_id_and_no_id_is_taken_for_one(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    marked_visit(box, 1)
    connection = box.store.saver.connection
    by_chance = random_values(connection)
    value = next(found for found in sorted(by_chance) if re.search(r"\d{6}", found))
    chance = re.findall(r"\d{6}", value)[0]
    assert leaks(tmp_path, [chance]) != []
    assert leaks(tmp_path, [chance], by_chance) == []
    # The name's neighbour on the page is an id, with nothing in between.
    connection.execute("UPDATE user SET name = ?", (chance,))
    assert leaks(tmp_path, [chance], by_chance) != []
    box.store.close()
