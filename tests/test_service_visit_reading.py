"""The day's list and one visit, as a clinician reads them from afar."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from records_boxes import Box, new_box, visit

from appliance.records.content import AssessmentContent, DecisionContent, NurseImpressionContent
from appliance.records.errors import ForbiddenError, LockedError, MissingError
from appliance.records.people import People
from appliance.records.store import new_id
from appliance.service.visit_reading import RECENT, VisitReading

DAY_S = timedelta(days=1).total_seconds()


@pytest.fixture
def box(box: Box) -> Box:
    """Its date was confirmed."""
    box.store.confirm_date(box.lead.user_id)
    return box


def titles(reading: VisitReading) -> list[str]:
    return [line.person.title for line in reading.day().visits]


def test_the_day_lists_todays_visits_the_newest_first(box: Box) -> None:
    reading = VisitReading(box.store)
    assert reading.day().visits == ()
    visit(box, "yesterday")
    box.clock.passed_s += DAY_S
    for mark in ("first", "second"):
        visit(box, mark)
    assert reading.day().is_today
    assert titles(reading) == ["No. N-second", "No. N-first"]
    assert [line.photos for line in reading.day().visits] == [1, 1]


def test_without_a_date_the_newest_are_listed_and_it_says_so(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    for number in range(RECENT + 2):
        visit(box, str(number), size=100)
    box.clock.passed_s += 400 * DAY_S
    reopened = box.reopen()
    day = VisitReading(reopened.store).day()
    assert (day.is_today, len(day.visits)) == (False, RECENT)
    assert day.visits[0].person.title == f"No. N-{RECENT + 1}"
    reopened.store.close()


def test_a_visit_shows_what_the_nurse_said_and_each_answer_under_its_photo(box: Box) -> None:
    seen, lead = visit(box, "read"), box.lead.user_id
    box.store.add(NurseImpressionContent(urgency="urgent", words="dark"), lead, encounter_id=seen.encounter_id)
    statement = {"border": "irregular", "description": "A dark spot."}
    said = AssessmentContent(statement=statement, raw_text=json.dumps(statement), model="demo")
    asked = AssessmentContent(statement={}, raw_text="Yes.", question="Is it raised?", model="demo")
    for content in (said, asked):
        box.store.add(content, None, encounter_id=seen.encounter_id, capture_id=seen.capture_id)
    box.store.add(DecisionContent(urgency="monitor"), lead, encounter_id=seen.encounter_id)
    read = VisitReading(box.store).visit(seen.encounter_id, box.lead, "d")
    (photo,) = read.photos
    assert (read.impressions, read.decisions) == (("urgent: dark",), ("look again later",))
    assert [(one.question, one.text) for one in photo.written] == [(None, "A dark spot."), ("Is it raised?", "Yes.")]
    assert [finding.words for finding in photo.written[0].findings] == ["irregular"]


def test_an_impression_that_was_not_stated_is_not_shown(box: Box) -> None:
    seen = visit(box, "silent")
    box.store.add(NurseImpressionContent(is_stated=False), box.lead.user_id, encounter_id=seen.encounter_id)
    assert VisitReading(box.store).visit(seen.encounter_id, box.lead, "d").impressions == ()


def test_who_may_not_read_gets_nothing(box: Box) -> None:
    seen = visit(box, "closed")
    technician = People(box.store, clock=box.clock).add("Pieter", "technician", "906241", box.lead)
    reading = VisitReading(box.store)
    with pytest.raises(ForbiddenError):
        reading.visit(seen.encounter_id, technician, "d")
    with pytest.raises(ForbiddenError):
        reading.photo(seen.encounter_id, seen.capture_id, technician, "d")


def test_what_is_not_there_or_locked_is_one_sentence(box: Box) -> None:
    seen, reading = visit(box, "there"), VisitReading(box.store)
    with pytest.raises(MissingError):
        reading.visit(new_id(), box.lead, "d")
    box.store.lock()
    with pytest.raises(LockedError):
        reading.visit(seen.encounter_id, box.lead, "d")
    with pytest.raises(LockedError):
        reading.day()
