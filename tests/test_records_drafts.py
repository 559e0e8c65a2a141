"""Forms in the middle: kept at every field, and never under another subject or another operator."""

import pytest
from records_boxes import Box, visit

from appliance.records.content import ChecklistAnswerContent, EncounterContent, SubjectContent
from appliance.records.drafts import Drafts
from appliance.records.errors import LockedError, MissingError, TamperedError
from appliance.records.people import People


def test_draft_holds_every_field_typed_so_far_after_a_power_cut(box: Box) -> None:
    visited, drafts = visit(box, "one"), Drafts(box.store)
    for fields in ({"itch": "y"}, {"itch": "yes"}, {"itch": "yes", "since": "May"}):
        drafts.save(visited.encounter_id, "history", fields, box.lead.user_id)
    again = box.reopen()
    draft = Drafts(again.store).open(visited.encounter_id, "history", box.lead.user_id)
    assert draft is not None
    assert draft.content.fields == {"itch": "yes", "since": "May"}
    assert again.store.verify_audit().problems == ()


def test_draft_is_the_operators_own(box: Box) -> None:
    visited, drafts = visit(box, "one"), Drafts(box.store)
    ben = People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)
    drafts.save(visited.encounter_id, "history", {"itch": "asha's"}, box.lead.user_id)
    assert drafts.open(visited.encounter_id, "history", ben.user_id) is None
    drafts.save(visited.encounter_id, "history", {"itch": "ben's"}, ben.user_id)
    mine = drafts.open(visited.encounter_id, "history", box.lead.user_id)
    assert mine is not None
    assert mine.content.fields == {"itch": "asha's"}
    assert [one.encounter_id for one in drafts.waiting(ben.user_id)] == [visited.encounter_id]


def test_draft_never_opens_under_another_subject(box: Box) -> None:
    """ODK Collect once recovered a form into the wrong one."""
    one, other, drafts = visit(box, "one"), visit(box, "other"), Drafts(box.store)
    drafts.save(one.encounter_id, "history", {"itch": "yes"}, box.lead.user_id)
    encounter = box.store.get(EncounterContent, one.encounter_id)
    box.store.revise(encounter, encounter.content, box.lead.user_id, subject_id=other.subject_id)
    with pytest.raises(TamperedError, match="somebody else"):
        drafts.open(one.encounter_id, "history", box.lead.user_id)
    # Nor does a hand in the database carry it over.
    box.store.saver.connection.execute("UPDATE draft SET subject_id = ?", (other.subject_id,))
    with pytest.raises(TamperedError):
        drafts.open(one.encounter_id, "history", box.lead.user_id)


def test_waiting_drafts_are_listed_while_locked_and_not_written_over(box: Box) -> None:
    visited = visit(box, "one")
    Drafts(box.store).save(visited.encounter_id, "history", {"itch": "yes"}, box.lead.user_id)
    locked = box.reopen(is_unlocked=False)
    drafts = Drafts(locked.store)
    (waiting,) = drafts.waiting(box.lead.user_id)
    assert (waiting.encounter_id, waiting.subject_id, waiting.form) == (
        visited.encounter_id,
        visited.subject_id,
        "history",
    )
    for refused in (
        lambda: drafts.open(visited.encounter_id, "history", box.lead.user_id),
        lambda: drafts.save(visited.encounter_id, "history", {}, box.lead.user_id),
    ):
        with pytest.raises(LockedError):
            refused()
    fresh = visit(locked, "made while locked")
    drafts.save(fresh.encounter_id, "history", {"itch": "a little"}, None)
    drafts.save(fresh.encounter_id, "history", {"itch": "a lot"}, None)
    draft = drafts.open(fresh.encounter_id, "history", None)
    assert draft is not None
    assert draft.content.fields == {"itch": "a lot"}


def test_draft_goes_with_the_save_of_its_form_or_when_its_operator_says_so(box: Box) -> None:
    visited, drafts = visit(box, "one"), Drafts(box.store)
    lead_id = box.lead.user_id
    drafts.save(visited.encounter_id, "history", {"itch": "yes"}, lead_id)
    drafts.save(visited.encounter_id, "plan", {"words": "cream"}, lead_id)
    answer = ChecklistAnswerContent(checklist="history/1", question="itch", answer="yes")
    box.store.add_all(
        [(answer, "a" * 32, {"encounter_id": visited.encounter_id}, None)],
        lead_id,
        also=drafts.removal(visited.encounter_id, "history", lead_id),
    )
    assert [one.form for one in drafts.waiting(lead_id)] == ["plan"]
    drafts.discard(visited.encounter_id, "plan", lead_id)
    assert drafts.waiting(lead_id) == ()
    assert box.store.verify_audit().problems == ()


def test_draft_of_no_visit_is_refused(box: Box) -> None:
    with pytest.raises(MissingError):
        Drafts(box.store).save("0" * 32, "history", {}, box.lead.user_id)
    assert box.store.all_readable(SubjectContent) == ()
