"""A day's work at the station, and the search for everything that was acknowledged on what a cut left of it."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manual_clock import ManualClock
from records_boxes import Box, Visited, box_of, erase, visit

from appliance.records.content import CapturedImageContent, EncounterContent, SubjectContent
from appliance.records.drafts import Drafts
from appliance.records.errors import ErasedError, MissingError, RecordsError
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.setup import SetUp

VISITS = 8
Fact = dict[str, Any]
"""One thing that was acknowledged: its kind, and what is needed to look for it."""


def one_day(box: Box, acknowledge: Callable[[str], None]) -> None:
    """Visits, a change, drafts, a counted PIN and an erasure; each is acknowledged once it counts as saved."""
    store, people = box.store, People(box.store, clock=box.clock, boot="boot")
    witness = people.add("Brother Ben", "nurse", "739105", box.lead)
    made = []
    for number in range(VISITS):
        made.append(visit(box, f"visit {number}"))
        acknowledge(json.dumps({"visit": _visited(made[-1])}))
        Drafts(store).save(made[-1].encounter_id, "history", {"words": f"draft {number}"}, box.lead.user_id)
        acknowledge(json.dumps({"draft": [made[-1].encounter_id, f"draft {number}"]}))
        if number % 4 == 3:
            subject = store.get(SubjectContent, made[0].subject_id)
            store.revise(subject, SubjectContent(pseudonym=f"revision {number}"), box.lead.user_id)
            acknowledge(json.dumps({"revised": [made[0].subject_id, subject.revision + 1]}))
            box.clock.passed_s += 400
            _guess(people, witness.user_id)
            acknowledge(json.dumps({"guesses": [witness.user_id, number // 4 + 1]}))
    erase(box, made[1].subject_id, witness)
    acknowledge(json.dumps({"erased": made[1].subject_id}))


def _guess(people: People, user_id: str) -> None:
    try:
        people.sign_in(user_id, "000001")
    except RecordsError:
        return
    raise AssertionError("a wrong PIN signed somebody in")


def _visited(visited: Visited) -> list[str]:
    return [visited.subject_id, visited.encounter_id, visited.capture_id, visited.content.decode("latin-1")]


@dataclass(slots=True)
class Found:
    """What the cuts left, counted."""

    cuts: int = 0
    lost: int = 0
    corrupt: int = 0
    acknowledged: int = 0
    first: str = ""

    def add(self, problem: str, *, is_lost: bool) -> None:
        self.lost += is_lost
        self.corrupt += not is_lost
        self.first = self.first or problem


def check(folder: Path, made: SetUp, acknowledged: list[Fact], found: Found) -> None:
    """Start the station on what a cut left, and look for everything that was acknowledged."""
    found.cuts += 1
    found.acknowledged += len(acknowledged)
    opening = open_records(folder, clock=ManualClock(), ballast_bytes=0)
    if opening.store is None:
        found.add(f"does not open: {opening.found}", is_lost=False)
        return
    try:
        box = box_of(opening.store, made, ManualClock())
        _check_whole(box, found)
        for fact in acknowledged:
            problem = _missing(box, fact, acknowledged)
            if problem:
                found.add(problem, is_lost=True)
    except (RecordsError, sqlite3.Error, OSError, ValueError) as error:
        found.add(f"{type(error).__name__}: {error}", is_lost=False)
    finally:
        opening.store.close()


def _check_whole(box: Box, found: Found) -> None:
    """No half records, no photos without a record or records without a photo, no gap in the audit."""
    for image in box.store.all_readable(CapturedImageContent):
        box.store.photo(image)
    box.store.all_readable(EncounterContent)
    if box.store.saver.blobs.names() != box.store.photo_ids():
        found.add("a photo without a record", is_lost=False)
    for problem in box.store.verify_audit().problems:
        found.add(problem, is_lost=False)


def _missing(box: Box, fact: Fact, all_facts: list[Fact]) -> str:
    """Say what of an acknowledged fact is not there."""
    ((kind, facts),) = fact.items()
    erased = {str(one["erased"]) for one in all_facts if "erased" in one}
    try:
        if kind == "visit":
            return _missing_visit(box, facts, erased)
        if kind == "draft":
            rows = [one.encounter_id for one in Drafts(box.store).waiting(box.lead.user_id)]
            subject_id = box.store.clear_parent(EncounterContent, facts[0], "subject_id")
            draft = Drafts(box.store).open(facts[0], "history", box.lead.user_id) if facts[0] in rows else None
            is_there = draft is not None and draft.content.fields["words"] == facts[1]
            return "" if is_there or subject_id in erased or _is_erased(box, subject_id) else "draft lost"
        if kind == "revised":
            return "" if box.store.get(SubjectContent, facts[0]).revision >= int(facts[1]) else "revision lost"
        if kind == "guesses":
            row = box.store.saver.connection.execute(
                "SELECT guesses FROM pin_guard WHERE user_id = ?", (facts[0],)
            ).fetchone()
            return "" if row is not None and row[0] >= int(facts[1]) else "guess given back"
        return "" if _is_erased(box, str(facts)) else "erased subject is back"
    except MissingError:
        return f"{kind} lost"


def _missing_visit(box: Box, facts: list[str], erased: set[str]) -> str:
    subject_id, _, capture_id, content = facts
    try:
        image = box.store.get(CapturedImageContent, capture_id)
    except ErasedError:
        # Erased before the cut, acknowledged or not.
        return "" if subject_id in erased or _is_erased(box, subject_id) else "photo lost"
    return "" if box.store.photo(image) == content.encode("latin-1") else "photo is another one"


def _is_erased(box: Box, subject_id: str) -> bool:
    try:
        box.store.get(SubjectContent, subject_id)
    except ErasedError:
        return True
    return False
