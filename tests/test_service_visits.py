"""A visit in the records: whose it is, which lesion, that it goes on after the power, and that it ends."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_station import ManualClock, ObedientCamera
from records_boxes import Box, new_box

from appliance.errors import PromptError
from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    ConsentContent,
    DraftContent,
    EncounterContent,
    LesionContent,
    NurseImpressionContent,
    SubjectContent,
)
from appliance.records.errors import LockedError
from appliance.service.answers import Answer
from appliance.service.body_sites import REGIONS, all_sites, site_of
from appliance.service.captures import Captures
from appliance.service.errors import NotFoundError
from appliance.service.person_form import PersonForm
from appliance.service.visits import Visits

WRITTEN = '{"quality":"blurred","description":"A dark spot."}'


class Kiosk:
    """A box, its camera and whoever is at the screen."""

    def __init__(self, box: Box) -> None:
        self.clock = ManualClock()
        self.camera = ObedientCamera(self.clock)
        self.sits(box)

    def sits(self, box: Box, operator: str | None = "") -> None:
        """Start the station on a box; by default the lead is at the screen."""
        self.box = box
        self.operator = box.lead.user_id if operator == "" else operator
        self.visits = Visits(lambda: self.box.store, lambda: self.operator)
        self.form = PersonForm(lambda: self.box.store, lambda: self.operator, self.visits.photos)
        self.captures = Captures(self.camera, self.visits.photos, self.clock)

    def starts_again(self, *, is_unlocked: bool) -> None:
        self.sits(self.box.reopen(is_unlocked=is_unlocked), self.operator)

    def opens(self) -> str:
        return self.captures.open_encounter().encounter_id

    def shoots(self, encounter_id: str) -> str:
        self.camera.take()
        return self.captures.capture(encounter_id).capture_id

    def answers(self, encounter_id: str, capture_id: str, **changed: str | None) -> None:
        sha256 = hashlib.sha256(capture_id.encode()).hexdigest()
        facts = {"question": None, "status": "final", "raw_text": WRITTEN, "model": "demo 0000", **changed}
        self.visits.answers.keep(
            Answer(capture_id=capture_id, encounter_id=encounter_id, capture_sha256=sha256, **facts)  # type: ignore[arg-type] # a plain dict
        )


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    found = Kiosk(new_box(tmp_path / "records"))
    yield found
    found.box.store.close()


def add_person(kiosk: Kiosk, **fields: str) -> str:
    """Fill in the form of a new visit; returns the subject's id."""
    encounter_id = kiosk.opens()
    for name, value in fields.items():
        kiosk.form.type(encounter_id, name, value)
    kiosk.visits.name_person(encounter_id, kiosk.form.content(encounter_id))
    kiosk.visits.close(encounter_id)
    subject_id = kiosk.visits.photos.subject_of(encounter_id)
    assert subject_id is not None
    return subject_id


def test_visit_of_which_nothing_was_saved_leaves_nothing(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.visits.close(encounter_id)
    assert kiosk.visits.waiting() == ()
    assert kiosk.box.store.find() == ()


def test_open_visit_goes_on_after_a_restart_with_its_photos_and_lesion(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    site = site_of("palm")
    assert site is not None
    lesion_id = kiosk.visits.lesions.add(encounter_id, site, "L")
    kiosk.shoots(encounter_id)
    kiosk.starts_again(is_unlocked=True)
    (waiting,) = kiosk.visits.waiting()
    assert (waiting.encounter_id, waiting.photos, waiting.is_without_pin) == (encounter_id, 2, False)
    encounter = kiosk.visits.resume_own()
    assert encounter is not None
    assert len(kiosk.visits.photos.of_encounter(encounter_id)) == 2
    assert kiosk.visits.photos.lesion_of(encounter_id) == lesion_id
    assert kiosk.visits.lesions.words(encounter_id) == "Palm, left"
    assert kiosk.visits.lesions.site_key(encounter_id) == "palm"


def test_open_visit_goes_on_while_locked_and_shows_its_photos_after_the_phrase(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.starts_again(is_unlocked=False)
    encounter = kiosk.visits.resume_own()
    assert encounter is not None
    assert encounter.encounter_id == encounter_id
    assert kiosk.visits.photos.count(encounter_id) == 1
    assert kiosk.visits.photos.of_encounter(encounter_id) == ()
    kiosk.captures.put_on_screen(encounter)
    shown = kiosk.shoots(encounter_id)
    assert [image.capture_id for image in kiosk.visits.photos.of_encounter(encounter_id)] == [shown]
    kiosk.box.store.unlock(kiosk.box.sheet())
    assert len(kiosk.visits.photos.of_encounter(encounter_id)) == 2


def test_lesion_chosen_while_unlocked_is_known_by_its_photo_while_locked(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    site = site_of("heel")
    assert site is not None
    lesion_id = kiosk.visits.lesions.add(encounter_id, site, "R")
    kiosk.shoots(encounter_id)
    kiosk.starts_again(is_unlocked=False)
    kiosk.visits.resume_own()
    assert kiosk.visits.photos.lesion_of(encounter_id) == lesion_id
    assert kiosk.visits.lesions.words(encounter_id) == ""


def test_closed_visit_does_not_come_back(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.visits.close(encounter_id)
    kiosk.starts_again(is_unlocked=True)
    assert kiosk.visits.waiting() == ()
    assert kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed
    with pytest.raises(NotFoundError, match="closed"):
        kiosk.visits.resume(encounter_id)


def test_visit_from_before_a_restart_can_be_closed_while_locked(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.starts_again(is_unlocked=False)
    kiosk.visits.resume_own()
    kiosk.visits.close(encounter_id)
    assert kiosk.visits.waiting() == ()
    # What it says is written after the phrase, in the name of who closed it, also when the box was started again.
    closed_by = kiosk.visits.operator()
    kiosk.starts_again(is_unlocked=True)
    assert not kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed
    kiosk.visits.settle()
    visit = kiosk.box.store.get(EncounterContent, encounter_id)
    assert (visit.content.is_closed, visit.operator_id) == (True, closed_by)
    kiosk.visits.settle()
    assert kiosk.box.store.get(EncounterContent, encounter_id).revision == visit.revision
    assert kiosk.box.store.clear_rows(DraftContent, encounter_id=encounter_id) == ()
    assert kiosk.box.store.verify_audit().problems == ()


def test_visit_that_was_taken_up_again_is_not_closed_by_what_waited(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.starts_again(is_unlocked=False)
    kiosk.visits.resume_own()
    kiosk.visits.close(encounter_id)
    kiosk.box.store.unlock(kiosk.box.sheet())
    kiosk.visits.take_up(encounter_id)
    kiosk.visits.settle()
    assert not kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed
    assert [one.encounter_id for one in kiosk.visits.waiting()] == [encounter_id]
    kiosk.visits.close(encounter_id)
    assert kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed


def test_each_nurse_finds_her_own_visit(kiosk: Kiosk) -> None:
    first = kiosk.opens()
    kiosk.shoots(first)
    kiosk.operator = "f" * 32
    second = kiosk.opens()
    kiosk.shoots(second)
    assert [one.encounter_id for one in kiosk.visits.waiting()] == [second]
    with pytest.raises(NotFoundError):
        kiosk.visits.resume(first)
    kiosk.operator = kiosk.box.lead.user_id
    assert [one.encounter_id for one in kiosk.visits.waiting()] == [first]


def test_visit_without_a_pin_is_marked_hidden_from_the_next_and_taken_over_by_a_nurse(kiosk: Kiosk) -> None:
    kiosk.operator = None
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    assert kiosk.visits.waiting() == ()
    kiosk.operator = kiosk.box.lead.user_id
    (waiting,) = kiosk.visits.waiting()
    assert waiting.is_without_pin
    kiosk.visits.resume(encounter_id)
    (waiting,) = kiosk.visits.waiting()
    assert not waiting.is_without_pin
    assert kiosk.box.store.get(EncounterContent, encounter_id).content.is_unattended
    assert kiosk.box.store.verify_audit().problems == ()


def test_unfinished_form_goes_on_after_a_restart(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.form.type(encounter_id, "local_number", " 0417 ")
    kiosk.form.type(encounter_id, "skin_tone_fitzpatrick", "V")
    kiosk.starts_again(is_unlocked=True)
    kiosk.visits.resume_own()
    assert kiosk.form.fields(encounter_id) == {"local_number": "0417", "skin_tone_fitzpatrick": "V"}
    kiosk.form.type(encounter_id, "local_number", "")
    assert kiosk.form.fields(encounter_id) == {"skin_tone_fitzpatrick": "V"}


def test_unfinished_form_says_so_while_locked_and_is_not_written_over(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.form.type(encounter_id, "name", "Nomvula")
    kiosk.starts_again(is_unlocked=False)
    kiosk.visits.resume_own()
    with pytest.raises(LockedError):
        kiosk.form.type(encounter_id, "name", "Sipho")
    kiosk.box.store.unlock(kiosk.box.sheet())
    assert kiosk.form.fields(encounter_id) == {"name": "Nomvula"}


def test_person_is_saved_with_what_was_typed_and_nothing_of_the_form_is_left(kiosk: Kiosk) -> None:
    subject_id = add_person(
        kiosk, local_number="0417", birth_year="1968", sex="female", skin_tone_fitzpatrick="VI", skin_tone_monk="9"
    )
    content = kiosk.box.store.get(SubjectContent, subject_id).content
    assert (content.local_number, content.birth_year, content.sex) == ("0417", 1968, "female")
    assert (content.skin_tone_fitzpatrick, content.skin_tone_monk) == (6, 9)
    assert content.pseudonym
    assert kiosk.box.store.saver.connection.execute("SELECT count(*) FROM draft").fetchone() == (0,)
    assert kiosk.box.store.verify_audit().problems == ()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("birth_year", "68", "four digits"),
        ("birth_year", "1789", "from 18"),
        ("sex", "yes", "offered"),
        ("skin_tone_fitzpatrick", "VII", "I to VI"),
        ("skin_tone_monk", "11", "1 to 10"),
        ("name", "x" * 61, "too long"),
        ("blood", "A", "no such field"),
    ],
)
def test_field_that_does_not_fit_is_refused_in_words(kiosk: Kiosk, field: str, value: str, words: str) -> None:
    encounter_id = kiosk.opens()
    with pytest.raises(PromptError, match=words):
        kiosk.form.type(encounter_id, field, value)
    assert not kiosk.visits.is_saved(encounter_id)


def test_number_of_somebody_else_is_refused(kiosk: Kiosk) -> None:
    add_person(kiosk, local_number="0417", name="Sipho")
    encounter_id = kiosk.opens()
    kiosk.form.type(encounter_id, "local_number", "0417")
    with pytest.raises(PromptError, match="already Sipho's"):
        kiosk.form.content(encounter_id)


def test_empty_form_makes_nobody(kiosk: Kiosk) -> None:
    with pytest.raises(PromptError, match="Nothing was filled in"):
        kiosk.form.content(kiosk.opens())


def test_unnamed_visit_is_named_later(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    assert kiosk.visits.person(encounter_id).title == "Not named yet"
    before = kiosk.visits.photos.subject_of(encounter_id)
    kiosk.form.type(encounter_id, "name", "Nomvula")
    kiosk.visits.name_person(encounter_id, kiosk.form.content(encounter_id))
    assert kiosk.visits.photos.subject_of(encounter_id) == before
    assert kiosk.visits.person(encounter_id).title == "Nomvula"
    (hit,) = kiosk.box.store.find("nomvula")
    assert [seen.encounter_id for seen in hit.visits] == [encounter_id]


def test_visit_with_photos_is_given_to_somebody_who_is_known(kiosk: Kiosk) -> None:
    subject_id = add_person(kiosk, local_number="0417")
    encounter_id = kiosk.opens()
    capture_id = kiosk.shoots(encounter_id)
    site = site_of("palm")
    assert site is not None
    kiosk.visits.lesions.add(encounter_id, site, "L")
    kiosk.visits.choose_person(encounter_id, subject_id)
    assert kiosk.visits.photos.subject_of(encounter_id) == subject_id
    assert kiosk.visits.person(encounter_id).title == "No. 0417"
    (hit,) = kiosk.box.store.find_number("0417")
    assert encounter_id in [seen.encounter_id for seen in hit.visits]
    # The lesion was the unnamed subject's.
    assert kiosk.box.store.get(CapturedImageContent, capture_id).parents["lesion_id"] is None
    assert [one.encounter_id for one in kiosk.visits.waiting()] == [encounter_id]
    kiosk.form.type(encounter_id, "name", "somebody else")
    assert kiosk.box.store.verify_audit().problems == ()


def test_named_visit_given_to_a_new_person_leaves_the_first_as_they_were(kiosk: Kiosk) -> None:
    subject_id = add_person(kiosk, local_number="0417")
    encounter_id = kiosk.opens()
    kiosk.visits.choose_person(encounter_id, subject_id)
    kiosk.form.type(encounter_id, "local_number", "0500")
    kiosk.visits.name_person(encounter_id, kiosk.form.content(encounter_id))
    assert kiosk.visits.person(encounter_id).title == "No. 0500"
    assert kiosk.box.store.get(SubjectContent, subject_id).content.local_number == "0417"


def test_choosing_somebody_needs_the_phrase_and_is_noted(kiosk: Kiosk) -> None:
    subject_id = add_person(kiosk, local_number="0417")
    kiosk.visits.choose_person(kiosk.opens(), subject_id)
    actions = [row[0] for row in kiosk.box.store.saver.connection.execute("SELECT action FROM audit")]
    assert "read" in actions
    kiosk.starts_again(is_unlocked=False)
    with pytest.raises(LockedError):
        kiosk.visits.choose_person(kiosk.opens(), subject_id)


def test_photos_and_choices_at_the_same_time_hold_each_other_up_but_not_for_ever(kiosk: Kiosk) -> None:
    subjects = [add_person(kiosk, local_number=str(number)) for number in range(2)]
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    site = site_of("palm")
    assert site is not None

    def choose() -> None:
        for number in range(10):
            kiosk.visits.choose_person(encounter_id, subjects[number % 2])
            kiosk.visits.lesions.add(encounter_id, site, "L")

    chooser = threading.Thread(target=choose, daemon=True)
    chooser.start()
    while chooser.is_alive():
        kiosk.shoots(encounter_id)
        assert kiosk.clock.passed_s < 10, "they wait for each other"
    chooser.join(10)
    assert kiosk.box.store.verify_audit().problems == ()


def test_consent_is_asked_once_and_the_newest_holds(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    assert kiosk.visits.consent(encounter_id) is None
    kiosk.visits.note_consent(encounter_id, ConsentContent(tiers=frozenset({"care", "referral"})))
    kiosk.visits.note_consent(encounter_id, ConsentContent(tiers=frozenset({"care"})))
    assert kiosk.visits.consent(encounter_id) == frozenset({"care"})


def test_photos_taken_before_a_lesion_was_chosen_are_its(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    before = kiosk.shoots(encounter_id)
    site = site_of("ear")
    assert site is not None
    lesion_id = kiosk.visits.lesions.add(encounter_id, site, "R")
    second = kiosk.visits.lesions.add(encounter_id, site, "L")
    after = kiosk.shoots(encounter_id)
    of_photo = {
        row.record_id: row.parents["lesion_id"]
        for row in kiosk.box.store.clear_rows(CapturedImageContent, encounter_id=encounter_id)
    }
    assert of_photo == {before: lesion_id, after: second}


def test_lesion_of_somebody_else_is_refused(kiosk: Kiosk) -> None:
    site = site_of("nose")
    assert site is not None
    lesion_id = kiosk.visits.lesions.add(kiosk.opens(), site, "L")
    content = kiosk.box.store.get(LesionContent, lesion_id).content
    assert (content.laterality, content.body_site_code) == ("U", "113179006")
    with pytest.raises(NotFoundError, match="not one of this patient"):
        kiosk.visits.lesions.choose(kiosk.opens(), lesion_id)


def test_earlier_photo_is_of_the_same_lesion_and_view_and_noted_once(kiosk: Kiosk) -> None:
    subject_id = add_person(kiosk, local_number="0417")
    site = site_of("palm")
    assert site is not None
    first = kiosk.opens()
    kiosk.visits.choose_person(first, subject_id)
    lesion_id = kiosk.visits.lesions.add(first, site, "L")
    capture_id = kiosk.shoots(first)
    photo = kiosk.box.store.get(CapturedImageContent, capture_id)
    described = CapturedImageContent(
        media_type="image/jpeg",
        sha256=photo.content.sha256,
        size_bytes=photo.content.size_bytes,
        captured_at=photo.content.captured_at,
        view="close_up",
    )
    kiosk.box.store.revise(photo, described, None)
    kiosk.visits.close(first)
    second = kiosk.opens()
    kiosk.visits.choose_person(second, subject_id)
    assert kiosk.visits.earlier.newest(second, "close_up") is None
    kiosk.visits.lesions.choose(second, lesion_id)
    assert kiosk.visits.earlier.newest(second, "overview") is None
    before = kiosk.box.store.saver.last_entry().sequence
    for _ in range(3):
        found = kiosk.visits.earlier.newest(second, "close_up")
        assert found is not None
        assert found.capture_id == capture_id
    assert kiosk.box.store.saver.last_entry().sequence == before + 1
    kiosk.box.store.lock()
    assert kiosk.visits.earlier.newest(second, "close_up") is None


def test_answer_is_saved_with_its_photo_and_after_an_impression(kiosk: Kiosk) -> None:
    encounter_id = kiosk.opens()
    capture_id = kiosk.shoots(encounter_id)
    kiosk.answers(encounter_id, capture_id, asked_by=kiosk.operator)
    kiosk.answers(encounter_id, capture_id, question="How large is it?", raw_text="6 mm")
    kiosk.answers(encounter_id, capture_id, status="cancelled", raw_text='{"qual', told="Cancelled.")
    stored = kiosk.box.store.of(AssessmentContent, encounter_id=encounter_id)
    assert [record.parents["capture_id"] for record in stored] == [capture_id] * 3
    assert [record.content.status for record in stored] == ["final", "final", "cancelled"]
    assert stored[0].content.statement["quality"] == "blurred"
    assert stored[0].content.prompt_version.startswith("assessment ")
    assert stored[2].content.statement == {}
    (impression,) = kiosk.box.store.of(NurseImpressionContent, encounter_id=encounter_id)
    assert not impression.content.is_stated
    kept = kiosk.visits.answers.of_capture(encounter_id, capture_id)
    assert [answer.question for answer in kept] == [None, "How large is it?"]
    kiosk.starts_again(is_unlocked=False)
    assert kiosk.visits.answers.of_capture(encounter_id, capture_id) == ()


def test_body_sites_are_coded_and_their_keys_differ() -> None:
    keys = [site.key for site in all_sites()]
    assert len(set(keys)) == len(keys)
    words = [site.words for site in all_sites()]
    assert len(set(words)) == len(words)
    assert max(len(region.sites) for region in REGIONS) <= 6
    for site in all_sites():
        assert _is_sctid(site.code), site
    assert not _is_sctid("43067005")


def _is_sctid(code: str) -> bool:
    """Check the last digit. Source: SNOMED CT release file specification, "Check-digit" (Verhoeff)."""
    times, check = [[0] * 10 for _ in range(10)], 0
    for left in range(10):
        for right in range(10):
            if left < 5:
                times[left][right] = (left + right) % 5 if right < 5 else 5 + (left + right) % 5
            else:
                times[left][right] = 5 + (left - right) % 5 if right < 5 else (left - right) % 5
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    for place, digit in enumerate(map(int, reversed(code))):
        turned = digit
        for _ in range(place % 8):
            turned = turn[turned]
        check = times[check][turned]
    return check == 0
