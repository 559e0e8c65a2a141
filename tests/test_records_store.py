"""The records as a screen uses them: locked and unlocked, saved and read, found and erased."""

import random
import sqlite3
from pathlib import Path

import pytest
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, NAME, Box, assess, described, erase, open_box, photo, set_up, visit

from appliance.records.clinic_key import PhraseKey, SheetKey, WrappingKey
from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    ConsentContent,
    EncounterContent,
    LesionContent,
    NurseImpressionContent,
    SubjectContent,
)
from appliance.records.errors import (
    ErasedError,
    ForbiddenError,
    LockedError,
    MissingError,
    NotSavedError,
    OrderError,
    WrongSecretError,
)
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.search import SearchIndex, Visit
from appliance.records.setup import SetUpAnswers, complete, prepare
from appliance.records.slots import change_phrase, new_sheets


def test_saved_records_are_there_after_a_new_start(box: Box) -> None:
    visited = visit(box, "one")
    again = box.reopen()
    subject = again.store.get(SubjectContent, visited.subject_id)
    assert subject.content.name == f"{NAME} one"
    (image,) = again.store.of(CapturedImageContent, encounter_id=visited.encounter_id)
    assert again.store.photo(image) == visited.content
    assert again.store.verify_audit().problems == ()


def test_each_receipt_has_the_next_number_of_the_audit(box: Box) -> None:
    first = box.store.add(SubjectContent(pseudonym="a"), box.lead.user_id)
    second = box.store.add(SubjectContent(pseudonym="b"), None)
    assert second.sequence == first.sequence + 1
    assert box.store.get(SubjectContent, second.record_ids[0]).operator_id is None


def test_locked_box_takes_a_whole_visit_and_reads_none_of_the_others(box: Box) -> None:
    before = visit(box, "before")
    locked = box.reopen(is_unlocked=False)
    made = visit(locked, "while locked")
    # What was just made can be shown; what was there cannot.
    (image,) = locked.store.of(CapturedImageContent, encounter_id=made.encounter_id)
    assert locked.store.photo(image) == made.content
    with pytest.raises(LockedError, match="phrase"):
        locked.store.get(SubjectContent, before.subject_id)
    with pytest.raises(LockedError):
        locked.store.find("before")
    locked.store.unlock(box.sheet())
    assert {hit.subject_id for hit in locked.store.find()} == {before.subject_id, made.subject_id}


def test_visit_goes_on_while_locked_with_a_key_of_its_own(box: Box) -> None:
    visited = visit(box, "one")
    locked = box.reopen(is_unlocked=False)
    content = photo("more")
    locked.store.add(described(content), None, photo=content, encounter_id=visited.encounter_id)
    with pytest.raises(LockedError):
        locked.store.of(CapturedImageContent, encounter_id=visited.encounter_id)
    locked.store.unlock(box.sheet())
    images = locked.store.of(CapturedImageContent, encounter_id=visited.encounter_id)
    assert [locked.store.photo(image) for image in images] == [visited.content, content]


def test_lock_lets_go_of_everything_that_was_read(box: Box) -> None:
    visited = visit(box, "one")
    box.store.lock(box.lead.user_id)
    for reading in (
        lambda: box.store.get(SubjectContent, visited.subject_id),
        lambda: box.store.of(CapturedImageContent, encounter_id=visited.encounter_id),
        lambda: box.store.all_readable(EncounterContent),
    ):
        with pytest.raises(LockedError):
            reading()
    assert len(box.store.index) == 0


def test_phrase_opens_whatever_its_case_and_hyphens(box: Box) -> None:
    box.store.lock()
    box.store.unlock(PhraseKey(box.made.phrase.upper().replace("-", " ")))
    assert box.store.is_unlocked


def test_wrong_phrase_and_foreign_sheet_open_nothing(box: Box) -> None:
    box.store.lock()
    secrets: list[tuple[WrappingKey, str]] = [
        (PhraseKey("lusab-babad-gutih-tugad"), "not the clinic's phrase"),
        (SheetKey(prepare().sheets[0]), "no sheet of this box"),
        (SheetKey(box.made.sheets[0].replace("-", " ")[:-1] + "x"), "misspelt"),
    ]
    for secret, message in secrets:
        with pytest.raises(WrongSecretError, match=message):
            box.store.unlock(secret)
    assert not box.store.is_unlocked


def test_new_phrase_and_new_sheets_replace_the_old_ones(box: Box) -> None:
    change_phrase(box.store, box.sheet(), "fudag lunid zopur hasib", box.lead.user_id)
    sheets = new_sheets(box.store, PhraseKey("fudag-lunid-zopur-hasib"), box.lead.user_id)
    box.store.lock()
    old_ones: list[WrappingKey] = [box.phrase(), box.sheet(), SheetKey(box.made.sheets[1])]
    for old in old_ones:
        with pytest.raises(WrongSecretError):
            box.store.unlock(old)
    new_ones: list[WrappingKey] = [PhraseKey("fudag lunid zopur hasib"), *map(SheetKey, sheets)]
    for new in new_ones:
        box.store.unlock(new)
        box.store.lock()


def test_changed_record_keeps_what_it_said(box: Box) -> None:
    visited = visit(box, "one")
    first = box.store.get(SubjectContent, visited.subject_id)
    box.store.revise(first, SubjectContent(pseudonym="P-one", name="Nomvula Khumalo"), box.lead.user_id)
    now = box.store.get(SubjectContent, visited.subject_id)
    assert (now.revision, now.content.name) == (2, "Nomvula Khumalo")
    assert [record.content.name for record in box.store.earlier(SubjectContent, visited.subject_id)] == [f"{NAME} one"]
    with pytest.raises(NotSavedError, match="meanwhile"):
        box.store.revise(first, first.content, box.lead.user_id)
    assert box.store.verify_audit().problems == ()


def test_visit_made_while_locked_is_moved_to_its_subject(box: Box) -> None:
    known, unnamed = visit(box, "known"), visit(box, "unnamed")
    encounter = box.store.get(EncounterContent, unnamed.encounter_id)
    box.store.revise(encounter, encounter.content, box.lead.user_id, subject_id=known.subject_id)
    (hit,) = box.store.find("known")
    assert {found.encounter_id for found in hit.visits} == {known.encounter_id, unnamed.encounter_id}
    again = box.reopen()
    assert len(again.store.of(EncounterContent, subject_id=known.subject_id)) == 2


@pytest.mark.parametrize("typed", ["nomvula one", "N-ONE", "P-one", "1980", "NOMVULA  dlamini one", "Nómvula one"])
def test_subject_is_found_by_any_of_its_words(box: Box, typed: str) -> None:
    visited = visit(box, "one")
    visit(box, "two" if "1980" not in typed else "one more")
    assert visited.subject_id in {hit.subject_id for hit in box.store.find(typed)}
    assert box.store.find("nobody") == ()
    assert [hit.subject_id for hit in box.store.find_number("n-one")] == [visited.subject_id]


def test_search_finds_what_a_look_at_each_subject_finds(seed: int) -> None:
    texts: dict[str, str] = {}
    rng, index = random.Random(seed), SearchIndex()
    for number in range(500):
        subject_id = f"s{rng.randrange(300)}"
        content = SubjectContent(
            pseudonym=rng.choice("abc") * 2, name=f"{rng.choice(['Ana', 'Bo'])} {rng.randrange(30)}"
        )
        index.put_subject(subject_id, content)
        index.put_visit(
            Visit(
                encounter_id=f"e{number}",
                subject_id=subject_id,
                sequence=number,
                recorded_at="",
                is_date_confirmed=True,
            )
        )
        texts.pop(subject_id, None)
        texts[subject_id] = f"{content.name} {content.pseudonym}".lower()
        if number % 50 == 49:
            gone = rng.choice(list(texts))
            index.drop_subject(gone)
            del texts[gone]
        typed = rng.choice(["", "ana", "2", "bo 1", "aa b", "nobody", "ana ana 7"])
        expected = [key for key in reversed(texts) if all(word in texts[key] for word in typed.split())]
        assert [hit.subject_id for hit in index.find(typed, limit=9)] == expected[:9]


def test_impression_comes_before_assessment_and_stays(box: Box) -> None:
    visited = visit(box, "one")
    other = visit(box, "other")
    with pytest.raises(OrderError, match="impression comes before"):
        assess_only(box, visited.encounter_id)
    assess(box, visited.encounter_id, "a mole")
    with pytest.raises(OrderError):
        box.store.add(NurseImpressionContent(words="late"), box.lead.user_id, encounter_id=visited.encounter_id)
    (impression,) = box.store.of(NurseImpressionContent, encounter_id=visited.encounter_id)
    with pytest.raises(OrderError):
        box.store.revise(impression, NurseImpressionContent(words="as the model said"), box.lead.user_id)
    # Each visit by itself.
    assess(box, other.encounter_id, "another")


def assess_only(box: Box, encounter_id: str, lesion_id: str | None = None) -> None:
    statement = AssessmentContent(statement={}, raw_text="", model="demo")
    box.store.add(statement, None, encounter_id=encounter_id, lesion_id=lesion_id)


def test_each_lesion_has_its_own_first_look(box: Box) -> None:
    visited = visit(box, "one")
    lesions = [
        box.store.add(
            LesionContent(body_site_code="368208006", body_site_display="Left upper arm", tracking_uid="2.25.1"),
            box.lead.user_id,
            subject_id=visited.subject_id,
        ).record_ids[0]
        for _ in range(2)
    ]
    for lesion_id in lesions:
        visit_id = visited.encounter_id
        box.store.add(
            NurseImpressionContent(words="flat"), box.lead.user_id, encounter_id=visit_id, lesion_id=lesion_id
        )
        assess_only(box, visit_id, lesion_id)


def test_record_of_nobody_is_refused_before_anything_is_written(box: Box) -> None:
    with pytest.raises(ValueError, match="belongs to"):
        box.store.add(EncounterContent(), box.lead.user_id)
    with pytest.raises(NotSavedError, match="does not fit"):
        box.store.add(EncounterContent(), box.lead.user_id, subject_id="0" * 32)
    visited = visit(box, "one")
    with pytest.raises(ValueError, match="not as its description"):
        box.store.add(described(b"\xff\xd8\xffa"), None, photo=b"\xff\xd8\xffb", encounter_id=visited.encounter_id)
    with pytest.raises(ValueError, match="skin_tone_monk"):
        box.store.add(SubjectContent(pseudonym="x", skin_tone_monk=11), box.lead.user_id)


def test_erased_subject_opens_for_nobody_and_leaves_a_trace(box: Box) -> None:
    gone, kept = visit(box, "gone"), visit(box, "kept")
    assess(box, gone.encounter_id, "a mole")
    witness = People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)
    connection = box.store.saver.connection
    sealed = [bytes(one[0]) for one in connection.execute("SELECT sealed FROM data_key")]
    erase(box, gone.subject_id, witness)
    with pytest.raises(ErasedError):
        box.store.get(SubjectContent, gone.subject_id)
    assert box.store.of(CapturedImageContent, encounter_id=gone.encounter_id) == ()
    assert not box.store.saver.blobs.path(gone.capture_id).exists()
    assert box.store.find("gone") == ()
    assert box.store.get(SubjectContent, kept.subject_id).content.pseudonym == "P-kept"
    verdict = box.store.verify_audit()
    assert verdict.problems == ()
    left = {bytes(one[0]) for one in connection.execute("SELECT sealed FROM data_key")}
    destroyed = [key for key in sealed if key not in left]
    assert len(destroyed) == 2
    # C5: not in the database's pages, free ones included, nor in its journal.
    written = b"".join(path.read_bytes() for path in box.folder.glob("records.sqlite*"))
    assert [key for key in destroyed if key in written] == []
    assert all(key in written for key in left)
    with pytest.raises(ErasedError):
        erase(box, gone.subject_id, witness)


def test_erasing_takes_a_lead_and_somebody_else(box: Box) -> None:
    visited = visit(box, "one")
    nurse = People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)
    for lead, witness in ((nurse, box.lead), (box.lead, box.lead)):
        with pytest.raises(ForbiddenError):
            erase(box, visited.subject_id, witness, lead=lead)
    with pytest.raises(MissingError):
        erase(box, "0" * 32, nurse)
    assert box.store.get(SubjectContent, visited.subject_id).content.pseudonym == "P-one"


def test_newest_consent_is_the_last(box: Box) -> None:
    visited = visit(box, "one")
    for tiers in ({"care", "teaching"}, {"care"}):
        box.store.add(ConsentContent(tiers=frozenset(tiers)), box.lead.user_id, subject_id=visited.subject_id)  # type: ignore[arg-type]  # literals in a loop
    consents = box.store.of(ConsentContent, subject_id=visited.subject_id)
    assert consents[-1].content.tiers == {"care"}


def test_nothing_says_what_a_record_holds_in_a_log(box: Box) -> None:
    visited = visit(box, "one")
    record = box.store.get(SubjectContent, visited.subject_id)
    assert NAME not in repr(record)
    assert box.made.phrase not in repr(box.made) + repr(box.phrase())


def test_set_up_ends_only_after_both_sheets_were_typed_back(tmp_path: Path) -> None:
    made = prepare()

    def answers(**changes: object) -> SetUpAnswers:
        right: dict[str, object] = {
            "clinic_name": "Kliniek",
            "phrase": made.phrase,
            "typed_sheets": made.sheets,
            "lead_name": "Asha",
            "lead_pin": LEAD_PIN,
        }
        return SetUpAnswers(**{**right, **changes})  # type: ignore[arg-type]  # one wrong answer at a time

    for wrong in (
        answers(typed_sheets=made.sheets[:1]),
        answers(typed_sheets=(made.sheets[1], made.sheets[0])),
        answers(phrase="too short"),
        answers(lead_pin="123456"),
        answers(lead_pin="12345"),
        answers(lead_pin="777777"),
        answers(lead_name=" "),
    ):
        with pytest.raises(WrongSecretError):
            complete(tmp_path, made, wrong)
        assert open_records(tmp_path).state == "first-run"
    set_up(tmp_path, made).close()
    with pytest.raises(ForbiddenError, match="already"):
        set_up(tmp_path, made)
    open_box(tmp_path, made, clock=ManualClock()).store.close()


def test_second_program_is_told_to_use_the_screens(box: Box) -> None:
    opening = open_records(box.folder)
    assert (opening.state, opening.store) == ("in-use", None)
    assert "screens" in opening.action


def test_settings_of_the_database_are_read_back(box: Box) -> None:
    connection = box.store.saver.connection
    expected = {"persist": 3, "wal": 2}
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == expected[journal]
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute("DELETE FROM audit")
