"""What may leave the box, how long it keeps what, and the list of what it holds."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from manual_clock import ManualClock
from records_boxes import NAME, Box, Visited, erase, open_box, visit

from appliance.records.audit import entries
from appliance.records.backup import make_backup
from appliance.records.consent import exportable, require_tier, tiers_of
from appliance.records.content import ConsentContent, ConsentTier, EncounterContent, SubjectContent
from appliance.records.errors import ForbiddenError, LockedError
from appliance.records.inventory import take_inventory
from appliance.records.people import People
from appliance.records.retention import due_for_erasing


def agree(box: Box, visited: Visited, *tiers: ConsentTier) -> None:
    box.store.add(ConsentContent(tiers=frozenset(tiers)), box.lead.user_id, subject_id=visited.subject_id)


def test_only_what_was_agreed_to_goes_out(box: Box) -> None:
    silent, caring, teaching, withdrawn = (visit(box, name) for name in ("silent", "caring", "teaching", "withdrawn"))
    agree(box, caring, "care", "referral")
    agree(box, teaching, "care", "teaching", "research")
    agree(box, withdrawn, "care", "research")
    agree(box, withdrawn)
    going = {
        tier: {one.encounter.record_id for one in exportable(box.store, tier, box.lead)}
        for tier in ("care", "referral", "teaching", "research")
    }
    assert going == {
        "care": {caring.encounter_id, teaching.encounter_id},
        "referral": {caring.encounter_id},
        "teaching": {teaching.encounter_id},
        "research": {teaching.encounter_id},
    }
    assert tiers_of(box.store, silent.subject_id) == frozenset()
    with pytest.raises(ForbiddenError, match="did not agree to referral"):
        require_tier(box.store, teaching.subject_id, "referral")


def test_name_goes_along_only_where_care_needs_it(box: Box) -> None:
    visited = visit(box, "one")
    agree(box, visited, "referral", "research")
    (referred,) = exportable(box.store, "referral", box.lead)
    (researched,) = exportable(box.store, "research", box.lead)
    assert referred.subject.name == f"{NAME} one"
    bare = researched.subject
    assert (bare.pseudonym, bare.name, bare.local_number, bare.birth_year, bare.contact) == (
        "P-one",
        None,
        None,
        None,
        None,
    )
    assert researched.age_band == 45  # born 1980, seen 2026


def test_export_is_the_leads_and_is_noted(box: Box) -> None:
    visited = visit(box, "one")
    agree(box, visited, "research")
    nurse = People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)
    with pytest.raises(ForbiddenError):
        exportable(box.store, "research", nurse)
    exportable(box.store, "research", box.lead)
    last = list(entries(box.store.saver.connection))[-1]
    assert (last.action, visited.encounter_id in last.detail) == ("exported", True)
    box.store.lock()
    with pytest.raises(LockedError):
        exportable(box.store, "research", box.lead)


class YearsLater(ManualClock):
    def __init__(self, years: float) -> None:
        super().__init__()
        self.passed_s = timedelta(days=365.25 * years).total_seconds()


def test_who_was_not_seen_for_years_is_listed_and_not_erased(box: Box) -> None:
    old = visit(box, "old")
    visit_again = visit(box, "again")
    box.store.close()
    later = open_box(box.folder, box.made, clock=YearsLater(9))
    # Nine years on the shelf: the date must be confirmed before anything is due by it.
    assert due_for_erasing(later.store, 5) == ()
    later.store.confirm_date(later.lead.user_id)
    later.store.add(EncounterContent(), later.lead.user_id, subject_id=visit_again.subject_id)
    (due,) = due_for_erasing(later.store, 5)
    assert (due.subject_id, due.pseudonym, due.visits) == (old.subject_id, "P-old", 1)
    assert due.last_seen_at == datetime(2026, 11, 22, tzinfo=UTC)
    assert due_for_erasing(later.store, 10) == ()
    assert later.store.get(SubjectContent, old.subject_id).content.pseudonym == "P-old"
    with pytest.raises(ValueError, match="a year"):
        due_for_erasing(later.store, 0)
    later.store.close()


def test_visit_of_an_unconfirmed_date_is_never_due(box: Box) -> None:
    box.store.close()
    early = open_box(box.folder, box.made, clock=YearsLater(-50))
    visit(early, "in 1976")
    early.store.close()
    later = open_box(box.folder, box.made, clock=YearsLater(0.001))
    assert later.store.now().is_confirmed
    assert due_for_erasing(later.store, 1) == ()
    later.store.close()


def test_inventory_counts_everything_and_names_nobody(box: Box, stick: Path) -> None:
    visits = [visit(box, f"visit {number}") for number in range(3)]
    nurse = People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)
    erase(box, visits[0].subject_id, nurse)
    make_backup(box.store, stick, label="stick A")
    box.store.lock()
    found = take_inventory(box.store, 10)
    counts = {item.kind: item.count for item in found.items}
    assert (counts["subject"], counts["encounter"], counts["captured image"], counts["user"]) == (2, 2, 2, 2)
    assert (found.erased_subjects, found.photos, found.photo_bytes > 4000) == (1, 2, True)
    text = found.to_text()
    assert "skin tone monk, contact" in " ".join(text.split())
    assert "2026-11-22, stick A" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert json.loads(found.to_json())["photos"] == 2
    for secret in (NAME, "Brother Ben", "P-visit"):
        assert secret not in text + found.to_json()
