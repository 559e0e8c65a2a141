"""Patients of earlier days: finding one, and their visits with photos and answers; each that is opened is noted.

It reads only. Everything here needs the morning unlock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    ConsentTier,
    EncounterContent,
    LesionContent,
    SubjectContent,
)
from appliance.records.looking import note_read
from appliance.records.rows import Record
from appliance.records.search import HITS_MAX, Hit, Visit
from appliance.records.store import RecordStore
from appliance.service.lesions import words_of
from appliance.service.narration import AssessmentNarrator, Finding
from appliance.service.person import Person, consent_of, in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientLine:
    """One patient in the list of those found."""

    subject_id: str
    person: Person
    visits: int
    last_seen_at: datetime | None
    is_date_confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLine:
    """One visit in a patient's list."""

    encounter_id: str
    at: datetime
    is_date_confirmed: bool
    capture_ids: tuple[str, ...]
    lesions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A patient, opened."""

    person: Person
    consent: frozenset[ConsentTier] | None
    visits: tuple[VisitLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the model wrote about a photo then."""

    question: str | None
    findings: tuple[Finding, ...]
    text: str
    ended: str
    """How it ended, where it did not end well; empty where it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoSeen:
    """A photo of an earlier visit."""

    capture_id: str
    lesion: str
    written: tuple[Written, ...]


class Patients:
    """The patients; every method may be called from any thread, and raises LockedError while locked."""

    def __init__(self, records: Callable[[], RecordStore], operator: Callable[[], str | None]) -> None:
        self._records = records
        self._operator = operator

    def find(self, text: str) -> tuple[PatientLine, ...]:
        """Find patients by typed words, those who came last first; without words, the last ones."""
        # An unnamed subject whose visit was given to somebody else is nobody any more.
        hits = [hit for hit in self._records().find(text, 2 * HITS_MAX) if hit.visits or _line(hit).person.is_named]
        return tuple(_line(hit) for hit in hits[:HITS_MAX])

    def open(self, subject_id: str) -> Patient:
        """Open a patient, and note it.

        Raises:
            MissingError: There is nobody of that id.
            TamperedError: They were changed on the disk.
        """
        store = self._records()
        content = store.get(SubjectContent, subject_id).content
        note_read(store, self._operator(), SubjectContent, [subject_id])
        lesions = {one.record_id: words_of(one.content) for one in store.of(LesionContent, subject_id=subject_id)}
        visits = sorted(store.visits(subject_id), key=lambda visit: visit.sequence, reverse=True)
        return Patient(
            person=in_words(subject_id, content),
            consent=consent_of(store, subject_id),
            visits=tuple(_visit_line(store, visit, lesions) for visit in visits),
        )

    def photos(self, encounter_id: str) -> tuple[PhotoSeen, ...]:
        """Open a visit's photos and what was written about them, and note it.

        Raises:
            MissingError: There is no such visit.
            TamperedError: They were changed on the disk.
        """
        store = self._records()
        encounter = store.get(EncounterContent, encounter_id)
        note_read(store, self._operator(), EncounterContent, [encounter_id])
        return photos_seen(store, encounter)

    def subject_of(self, encounter_id: str) -> str:
        """Return whose visit it was.

        Raises:
            MissingError: There is no such visit.
        """
        return str(self._records().get(EncounterContent, encounter_id).parents["subject_id"])

    def photo(self, capture_id: str) -> tuple[bytes, str]:
        """Return a photo's original bytes and media type; its visit was noted when it was opened.

        Raises:
            MissingError: There is none.
            TamperedError: The file is missing or was changed.
        """
        store = self._records()
        record = store.get(CapturedImageContent, capture_id)
        return store.photo(record), record.content.media_type


def photos_seen(store: RecordStore, encounter: Record[EncounterContent]) -> tuple[PhotoSeen, ...]:
    """Open a visit's photos and what was written about them; the caller notes that somebody looked.

    Raises:
        LockedError: The records are locked.
        TamperedError: They were changed on the disk.
    """
    of_subject = store.of(LesionContent, subject_id=str(encounter.parents["subject_id"]))
    lesions = {one.record_id: words_of(one.content) for one in of_subject}
    answers = store.of(AssessmentContent, encounter_id=encounter.record_id)
    return tuple(
        PhotoSeen(
            capture_id=image.record_id,
            lesion=lesions.get(image.parents["lesion_id"] or "", ""),
            written=tuple(_written(one.content) for one in answers if one.parents["capture_id"] == image.record_id),
        )
        for image in store.of(CapturedImageContent, encounter_id=encounter.record_id)
    )


def _line(hit: Hit) -> PatientLine:
    newest = hit.visits[0] if hit.visits else None
    return PatientLine(
        subject_id=hit.subject_id,
        person=in_words(hit.subject_id, hit.subject),
        visits=len(hit.visits),
        last_seen_at=datetime.fromisoformat(newest.recorded_at) if newest is not None else None,
        is_date_confirmed=newest is not None and newest.is_date_confirmed,
    )


def _visit_line(store: RecordStore, visit: Visit, lesions: dict[str, str]) -> VisitLine:
    rows = store.clear_rows(CapturedImageContent, encounter_id=visit.encounter_id)
    named = (lesions.get(row.parents["lesion_id"] or "", "") for row in rows)
    return VisitLine(
        encounter_id=visit.encounter_id,
        at=datetime.fromisoformat(visit.recorded_at),
        is_date_confirmed=visit.is_date_confirmed,
        capture_ids=tuple(row.record_id for row in rows),
        lesions=tuple(dict.fromkeys(filter(None, named))),
    )


def _written(content: AssessmentContent) -> Written:
    ended = "" if content.status == "final" else content.told or "This answer was not finished."
    if content.question:
        return Written(question=content.question, findings=(), text=content.raw_text, ended=ended)
    if content.status != "final":
        return Written(question=None, findings=(), text="", ended=ended)
    parts = tuple(AssessmentNarrator().push(content.raw_text))
    return Written(
        question=None,
        findings=tuple(part for part in parts if isinstance(part, Finding)),
        text="".join(part.text for part in parts if not isinstance(part, Finding)),
        ended=ended,
    )
