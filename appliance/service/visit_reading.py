"""What a clinician reads of a visit from afar: its photos and what was said of them, and that somebody read it.

It changes nothing but the audit. Worklists, referrals and answers are later issues' and begin here.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    DecisionContent,
    EncounterContent,
    NurseImpressionContent,
    SubjectContent,
)
from appliance.records.errors import MissingError
from appliance.records.looking import note_read
from appliance.records.search import Visit
from appliance.records.store import RecordStore
from appliance.records.users import User
from appliance.service.narration import AssessmentNarrator, Finding

VISITS_MAX: Final = 100
RECENT: Final = 20
"""How many visits are shown when the box does not know which day it is."""
_NOTED_MAX: Final = 10_000
URGENCY_WORDS: Final = {
    "emergency": "emergency",
    "urgent": "urgent",
    "routine": "routine",
    "monitor": "look again later",
    "retake": "take the photo again",
    "cannot-assess": "cannot be judged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLine:
    """One visit in the list."""

    encounter_id: str
    pseudonym: str
    local_number: str
    at: datetime
    is_date_confirmed: bool
    photos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoRead:
    """One photo, and what the model said of it."""

    capture_id: str
    view: str
    findings: tuple[Finding, ...]
    description: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRead:
    """One visit, to read."""

    line: VisitLine
    subject: SubjectContent
    reason: str
    photos: tuple[PhotoRead, ...]
    impressions: tuple[str, ...]
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The list of visits."""

    visits: tuple[VisitLine, ...]
    is_today: bool
    """False when the date is not confirmed: then these are simply the newest."""


class VisitReading:
    """Reads visits; every method may be called from any thread."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._noted: set[tuple[str, str, str]] = set()

    def day(self) -> Day:
        """List the visits of today, the newest first.

        Raises:
            LockedError: The records are locked.
        """
        moment = self._store.now()
        newest = sorted(self._store.visits(), key=lambda visit: visit.sequence, reverse=True)
        if not moment.is_confirmed:
            return Day(visits=tuple(self._line(visit) for visit in newest[:RECENT]), is_today=False)
        today = moment.at.astimezone().date()
        found = [visit for visit in newest[:VISITS_MAX] if _at(visit).astimezone().date() == today]
        return Day(visits=tuple(self._line(visit) for visit in found), is_today=True)

    def visit(self, encounter_id: str, user: User, device_id: str) -> VisitRead:
        """Open one visit, and note who read it and where.

        Raises:
            ForbiddenError: The role may not read.
            MissingError: There is none; `ErasedError` when it was erased.
            LockedError: The records are locked.
            StorageFailedError: The disk failed.
        """
        user.require("read")
        found = next((visit for visit in self._store.visits() if visit.encounter_id == encounter_id), None)
        if found is None:
            raise MissingError("There is no such visit.")
        encounter = self._store.get(EncounterContent, encounter_id)
        assessments = self._store.of(AssessmentContent, encounter_id=encounter_id)
        # Answers to questions, and what was cancelled or failed, state nothing.
        stated = [record for record in assessments if record.content.statement]
        by_photo = {record.parents["capture_id"]: record.content for record in stated}
        images = self._store.of(CapturedImageContent, encounter_id=encounter_id)
        impressions = self._store.of(NurseImpressionContent, encounter_id=encounter_id)
        decisions = self._store.of(DecisionContent, encounter_id=encounter_id)
        self._note(user, encounter_id, device_id)
        return VisitRead(
            line=self._line(found),
            subject=self._store.get(SubjectContent, found.subject_id).content,
            reason=encounter.content.reason,
            photos=tuple(
                _photo_read(record.record_id, record.content, by_photo.get(record.record_id)) for record in images
            ),
            impressions=tuple(_said(one.content.urgency, one.content.words) for one in impressions),
            decisions=tuple(_said(one.content.urgency, one.content.plan) for one in decisions),
        )

    def photo(self, encounter_id: str, capture_id: str, user: User, device_id: str) -> tuple[bytes, str]:
        """Return a photo's original bytes and media type; noted with its visit, once for all of its photos.

        Raises:
            ForbiddenError: The role may not read.
            MissingError: There is none in this visit.
            LockedError, TamperedError: As the records.
            StorageFailedError: The disk failed.
        """
        user.require("read")
        record = self._store.get(CapturedImageContent, capture_id)
        if record.parents["encounter_id"] != encounter_id:
            raise MissingError("There is no such photo in this visit.")
        if (user.user_id, encounter_id, device_id) not in self._noted:
            self._note(user, encounter_id, device_id)
        return self._store.photo(record), record.content.media_type

    def _note(self, user: User, encounter_id: str, device_id: str) -> None:
        note_read(self._store, user.user_id, EncounterContent, [encounter_id], detail=f"device {device_id}")
        if len(self._noted) >= _NOTED_MAX:
            self._noted.clear()
        self._noted.add((user.user_id, encounter_id, device_id))

    def _line(self, visit: Visit) -> VisitLine:
        subject = self._store.get(SubjectContent, visit.subject_id).content
        return VisitLine(
            encounter_id=visit.encounter_id,
            pseudonym=subject.pseudonym,
            local_number=subject.local_number or "",
            at=_at(visit),
            is_date_confirmed=visit.is_date_confirmed,
            photos=len(self._store.clear_rows(CapturedImageContent, encounter_id=visit.encounter_id)),
        )


def _photo_read(capture_id: str, image: CapturedImageContent, said: AssessmentContent | None) -> PhotoRead:
    told = list(AssessmentNarrator().push(json.dumps(said.statement, ensure_ascii=False))) if said is not None else []
    return PhotoRead(
        capture_id=capture_id,
        view=image.view,
        findings=tuple(one for one in told if isinstance(one, Finding)),
        description="".join(one.text for one in told if not isinstance(one, Finding)),
        model=said.model if said is not None else "",
    )


def _said(urgency: str | None, words: str) -> str:
    return ": ".join(part for part in (URGENCY_WORDS.get(urgency or "", ""), words) if part) or "not stated"


def _at(visit: Visit) -> datetime:
    return datetime.fromisoformat(visit.recorded_at)
