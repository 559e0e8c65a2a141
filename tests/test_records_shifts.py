"""The change of shift: what is counted, and that the words in the paper book tell a changed past."""

from pathlib import Path

import pytest
from records_boxes import LEAD_PIN, Box, new_box, visit

from appliance.records.errors import WrongSecretError
from appliance.records.people import People
from appliance.records.shifts import Shift, present_shift

PIN = "730164"


def people_of(box: Box) -> tuple[People, str]:
    people = People(box.store, clock=box.clock)
    return people, people.add("Nurse", "nurse", PIN, box.lead).user_id


def shift_of(box: Box) -> Shift:
    found = present_shift(box.store.saver.connection)
    assert found is not None
    return found


def test_before_anybody_signed_in_there_is_no_shift(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    assert present_shift(box.store.saver.connection) is None


def test_a_shift_counts_what_was_done_since_the_other_one_came(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    people, nurse_id = people_of(box)
    people.sign_in(box.lead.user_id, LEAD_PIN)
    for number in range(3):
        visit(box, f"CANARY{number}")
    with pytest.raises(WrongSecretError):
        people.sign_in(box.lead.user_id, "730165")
    box.clock.passed_s += 10
    people.sign_in(box.lead.user_id, LEAD_PIN)
    people.sign_in(nurse_id, PIN)
    shift = shift_of(box)
    assert (shift.visits, shift.photos, shift.without_pin, shift.wrong_pins) == (3, 3, 0, 1)
    assert (shift.began.user_id, shift.before and shift.before.user_id) == (nurse_id, box.lead.user_id)
    assert len(shift.began.words.split("-")) == 6
    # The same person again is no change, and the next one is told the words that the book has.
    people.sign_in(nurse_id, PIN)
    assert shift_of(box).began == shift.began
    people.sign_in(box.lead.user_id, LEAD_PIN)
    assert shift_of(box).before == shift.began


def test_a_changed_past_has_other_words(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    people, nurse_id = people_of(box)
    people.sign_in(box.lead.user_id, LEAD_PIN)
    people.sign_in(nurse_id, PIN)
    people.sign_in(box.lead.user_id, LEAD_PIN)
    written = shift_of(box).before
    assert written is not None
    connection = box.store.saver.connection
    entry = connection.execute("SELECT hash FROM audit WHERE sequence = ?", (written.sequence,)).fetchone()
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    changed = bytes([entry[0][0] ^ 1]) + entry[0][1:]
    connection.execute("UPDATE audit SET hash = ? WHERE sequence = ?", (changed, written.sequence))
    assert shift_of(box).before != written
