"""What a clinician reads of a visit from afar: its photos and what was said of them, and that somebody read it.

It changes nothing but the audit. Worklists, referrals and answers are later issues' and begin here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.records.content import (
    CapturedImageContent,
    DecisionContent,
    EncounterContent,
    NurseImpressionContent,
    SubjectContent,
)
from appliance.records.errors import MissingError
from appliance.records.looking import note_read
from appliance.records.search import Hit, Visit
from appliance.records.store import RecordStore
from appliance.records.users import User
from appliance.service.patients import PhotoSeen, photos_seen
from appliance.service.person import Person, in_words

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
class DayLine:
    """One visit in the day's list."""

    encounter_id: str
    person: Person
    at: datetime
    is_date_confirmed: bool
    photos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The list of visits."""

    visits: tuple[DayLine, ...]
    is_today: bool
    """False when the date is not confirmed: then these are simply the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRead:
    """One visit, to read."""

    encounter_id: str
    person: Person
    at: datetime
    is_date_confirmed: bool
    reason: str
    photos: tuple[PhotoSeen, ...]
    impressions: tuple[str, ...]
    """The nurse's, where she stated one."""
    decisions: tuple[str, ...]


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
        # From the index in memory: a phone must not have the whole table read, which the kiosk waits for.
        hits = self._store.find("", VISITS_MAX)
        newest = sorted(((visit, hit) for hit in hits for visit in hit.visits), key=_sequence, reverse=True)
        if not moment.is_confirmed:
            return Day(visits=tuple(self._line(*one) for one in newest[:RECENT]), is_today=False)
        today = moment.at.astimezone().date()
        found = [one for one in newest[:VISITS_MAX] if _at(one[0]).astimezone().date() == today]
        return Day(visits=tuple(self._line(*one) for one in found), is_today=True)

    def visit(self, encounter_id: str, user: User, device_id: str) -> VisitRead:
        """Open one visit, and note who read it and where.

        Raises:
            ForbiddenError: The role may not read.
            MissingError: There is none; `ErasedError` when it was erased.
            LockedError: The records are locked.
            StorageFailedError: The disk failed.
        """
        user.require("read")
        encounter = self._store.get(EncounterContent, encounter_id)
        subject_id = str(encounter.parents["subject_id"])
        impressions = self._store.of(NurseImpressionContent, encounter_id=encounter_id)
        decisions = self._store.of(DecisionContent, encounter_id=encounter_id)
        read = VisitRead(
            person=in_words(subject_id, self._store.get(SubjectContent, subject_id).content),
            encounter_id=encounter_id,
            at=encounter.recorded_at,
            is_date_confirmed=encounter.is_date_confirmed,
            reason=encounter.content.reason,
            photos=photos_seen(self._store, encounter),
            impressions=tuple(
                _said(one.content.urgency, one.content.words) for one in impressions if one.content.is_stated
            ),
            decisions=tuple(_said(one.content.urgency, one.content.plan) for one in decisions),
        )
        self._note(user, encounter_id, device_id)
        return read

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

    def _line(self, visit: Visit, hit: Hit) -> DayLine:
        return DayLine(
            encounter_id=visit.encounter_id,
            person=in_words(hit.subject_id, hit.subject),
            at=_at(visit),
            is_date_confirmed=visit.is_date_confirmed,
            photos=len(self._store.clear_rows(CapturedImageContent, encounter_id=visit.encounter_id)),
        )


def _said(urgency: str | None, words: str) -> str:
    return ": ".join(part for part in (URGENCY_WORDS.get(urgency or "", ""), words) if part) or "not stated"


def _sequence(one: tuple[Visit, Hit]) -> int:
    return one[0].sequence


def _at(visit: Visit) -> datetime:
    return datetime.fromisoformat(visit.recorded_at)
