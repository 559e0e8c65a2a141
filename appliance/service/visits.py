"""The visit on the screen, in the records: whose it is, that it goes on after a power cut, and that it ends.

A visit is open as long as its nurse's draft of it is there; the draft comes with the first thing that is saved. What
the records cannot tell while locked is said to be there all the same. The photos are `record_captures`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from appliance.records.content import (
    CapturedImageContent,
    ConsentContent,
    ConsentTier,
    DraftContent,
    EncounterContent,
    SubjectContent,
)
from appliance.records.drafts import Drafts
from appliance.records.errors import LockedError, MissingError, RecordsError
from appliance.records.looking import note_read
from appliance.records.rows import Record
from appliance.records.saving import Also
from appliance.records.store import RecordStore, new_id
from appliance.records.words import pseudonym_of
from appliance.records.write import next_revision
from appliance.service.earlier_photos import RecordEarlierPhotos
from appliance.service.errors import NotFoundError
from appliance.service.lesions import Lesions
from appliance.service.patients import Patients
from appliance.service.person import Person, consent_of, is_named, person_of
from appliance.service.person_form import PERSON_FORM, PersonForm
from appliance.service.record_answers import RecordAnswers
from appliance.service.record_captures import VISIT_FORM, RecordCaptureStore
from appliance.service.record_derived import RecordDerived
from appliance.service.thumbnails import Thumbnails
from appliance.service.unkept_captures import CapturesWhereverTheyGo
from appliance.types import Encounter

logger = logging.getLogger(__name__)
CLOSED_FORM: Final = "closed"
"""The draft of a visit that was closed while it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVisit:
    """A visit that waits to be gone on with, as far as a locked box can tell."""

    encounter_id: str
    opened_at: datetime
    is_date_confirmed: bool
    photos: int
    person: Person
    is_without_pin: bool
    """Begun by somebody without a PIN: any nurse may take it over."""


class Visits:
    """The visits of the kiosk; every method may be called from any thread."""

    def __init__(
        self,
        records: Callable[[], RecordStore],
        operator: Callable[[], str | None],
        *,
        has_records: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take the records.

        Args:
            records: Gives the records, locked or not, or raises the sentence why there are none.
            operator: Tells who is at the screen; None without a PIN in an emergency.
            has_records: Whether there are any.
        """
        self.records = records
        self.has_records = has_records
        self.operator = operator
        self.photos = RecordCaptureStore(records, operator)
        self.captures = CapturesWhereverTheyGo(self.photos, has_records)
        self.answers = RecordAnswers(records)
        self.lesions = Lesions(records, operator, self.photos)
        self.earlier = RecordEarlierPhotos(records, operator, self.photos)
        self.derived = RecordDerived(records, has_records)
        self.form = PersonForm(records, operator, self.photos)
        self.patients = Patients(records, operator)
        self.thumbnails = Thumbnails(records)

    def waiting(self) -> tuple[OpenVisit, ...]:
        """Return the visits to go on with: the nurse's own, newest first, then those begun without a PIN."""
        drafts, operator = Drafts(self.records()), self.operator()
        if operator is None:
            return ()  # whoever comes without a PIN sees nothing of the one before
        found = [(one, False) for one in drafts.waiting(operator)] + [(one, True) for one in drafts.waiting(None)]
        return tuple(
            self.summary(one.encounter_id, is_without_pin=is_without_pin)
            for one, is_without_pin in found
            if one.form == VISIT_FORM
        )

    def resume(self, encounter_id: str) -> Encounter:
        """Make a visit ready for the screen again; one begun without a PIN becomes the nurse's.

        Raises:
            NotFoundError: It is not open, or another nurse's.
            NotSavedError: It could not be taken over.
        """
        visit = next((one for one in self.waiting() if one.encounter_id == encounter_id), None)
        if visit is None:
            raise NotFoundError("This visit is closed, or another nurse's.")
        if visit.is_without_pin:
            Drafts(self.records()).hand_over(encounter_id, VISIT_FORM, None, self.operator())
        self.photos.resume(encounter_id)
        self.lesions.recall(encounter_id)
        return Encounter(encounter_id=encounter_id, opened_at=visit.opened_at)

    def resume_own(self) -> Encounter | None:
        """Make the nurse's newest open visit ready for the screen; None when there is none."""
        own = next((one for one in self.waiting() if not one.is_without_pin), None)
        return None if own is None else self.resume(own.encounter_id)

    def may_take_up(self, encounter_id: str) -> bool:
        """Whether a nurse may go on with a visit that is not hers: one left open, or whose person has no name yet."""
        store = self.records()
        rows = store.clear_rows(EncounterContent, encounter_id=encounter_id)
        if self.operator() is None or not rows:
            return False
        return bool(self._marks(encounter_id)) or not person_of(store, rows[0].parents["subject_id"]).is_named

    def take_up(self, encounter_id: str) -> None:
        """Make a visit the nurse's own, to be gone on with.

        Raises:
            NotFoundError: It is closed, and its person has a name.
            LockedError: The records are locked.
            NotSavedError: It is as it was.
        """
        if not self.may_take_up(encounter_id):
            raise NotFoundError("This visit is closed; open a new one.")
        store, operator, marks = self.records(), self.operator(), self._marks(encounter_id)
        visit = store.get(EncounterContent, encounter_id)
        if not marks:
            opened = msgspec.structs.replace(visit.content, is_closed=False)
            store.revise(visit, opened, operator)
            Drafts(store).save(encounter_id, VISIT_FORM, {}, operator)
        elif operator not in marks:
            Drafts(store).hand_over(encounter_id, VISIT_FORM, marks[0], operator)

    def _marks(self, encounter_id: str) -> list[str | None]:
        """Return with whom a visit is open."""
        rows = self.records().clear_rows(DraftContent, encounter_id=encounter_id)
        return [row.operator_id for row in rows if row.parents["form"] == VISIT_FORM]

    def close(self, encounter_id: str) -> None:
        """Note that a visit is over; nothing happens to one of which nothing was saved.

        Raises:
            NotSavedError: It is as it was.
        """
        store, operator = self.records(), self.operator()
        if not store.clear_rows(EncounterContent, encounter_id=encounter_id):
            return
        try:
            visit = store.get(EncounterContent, encounter_id)
        except LockedError:
            # What it says cannot be read, so not said anew either: `settle` does that after the phrase.
            Drafts(store).leave_mark(encounter_id, VISIT_FORM, CLOSED_FORM, operator)
        else:
            self._write_closed(visit, operator, Drafts(store).removal(encounter_id, VISIT_FORM, operator))

    def settle(self) -> None:
        """Write down that visits are closed which were closed while the records were locked; after the phrase.

        What cannot be written now is tried again after the next one.
        """
        store = self.records()
        for encounter_id, operator_id in Drafts(store).marked(CLOSED_FORM):
            removal = Drafts(store).removal(encounter_id, CLOSED_FORM, operator_id)
            try:
                if self._marks(encounter_id):  # opened again meanwhile
                    store.note("draft-discarded", operator_id, also=removal)
                else:
                    self._write_closed(store.get(EncounterContent, encounter_id), operator_id, removal)
            except RecordsError as error:
                logger.warning("visit not marked as closed reason=%s", error)

    def _write_closed(self, visit: Record[EncounterContent], operator_id: str | None, also: Also) -> None:
        closed = msgspec.structs.replace(visit.content, is_closed=True)
        self.records().revise(visit, closed, operator_id, also=also)

    def is_saved(self, encounter_id: str) -> bool:
        """Whether anything of a visit was saved."""
        return bool(self.records().clear_rows(EncounterContent, encounter_id=encounter_id))

    # Whose visit it is

    def person(self, encounter_id: str) -> Person:
        """Tell whose visit it is, as far as that was said and can be read."""
        return person_of(self.records(), self.photos.subject_of(encounter_id))

    def choose_person(self, encounter_id: str, subject_id: str) -> None:
        """Say that the visit is that of somebody whom the records know; noted as looked at.

        Raises:
            LockedError: The records are locked.
            MissingError: There is nobody of that id.
            NotSavedError: It is as it was.
        """
        store = self.records()
        with self.photos.lock, store.saver.lock:
            store.get(SubjectContent, subject_id)
            note_read(store, self.operator(), SubjectContent, [subject_id])
            if self.is_saved(encounter_id):
                self._move(encounter_id, subject_id)
            else:
                self.photos.announce(encounter_id, subject_id)
                self.photos.ensure_visit(encounter_id)
        self.photos.choose_lesion(encounter_id, None)

    def name_person(self, encounter_id: str, content: SubjectContent) -> None:
        """Save who a visit's unnamed subject is, and drop the unfinished form; somebody else if it had a name already.

        Raises:
            LockedError: The visit was begun before the box was started.
            NotSavedError: It is as it was.
        """
        store = self.records()
        with self.photos.lock, store.saver.lock:
            self.photos.ensure_visit(encounter_id)
            subject = store.get(SubjectContent, str(self.photos.subject_of(encounter_id)))
            removal = Drafts(store).removal(encounter_id, PERSON_FORM, self.operator())
            if is_named(subject.content):
                subject_id = new_id()
                made = msgspec.structs.replace(content, pseudonym=pseudonym_of(subject_id))
                store.add_all([(made, subject_id, {}, None)], self.operator(), also=removal)
                self._move(encounter_id, subject_id)
                self.photos.choose_lesion(encounter_id, None)
            else:
                named = msgspec.structs.replace(content, pseudonym=subject.content.pseudonym)
                store.revise(subject, named, self.operator(), also=removal)

    def consent(self, encounter_id: str) -> frozenset[ConsentTier] | None:
        """Return what the subject agreed to; None when it was never asked, or cannot be read."""
        subject_id = self.photos.subject_of(encounter_id)
        return None if subject_id is None else consent_of(self.records(), subject_id)

    def note_consent(self, encounter_id: str, consent: ConsentContent) -> None:
        """Save what the subject agrees to now.

        Raises:
            NotSavedError: It is as it was.
        """
        self.photos.ensure_visit(encounter_id)
        self.records().add(consent, self.operator(), subject_id=self.photos.subject_of(encounter_id))

    def _move(self, encounter_id: str, subject_id: str) -> None:
        """Give a saved visit to another subject, in one save with the draft that keeps it open."""
        store, operator = self.records(), self.operator()
        visit = store.get(EncounterContent, encounter_id)
        if visit.parents["subject_id"] == subject_id:
            return
        writes = [next_revision(visit, visit.content, subject_id=subject_id)]
        for row in store.clear_rows(DraftContent, encounter_id=encounter_id):
            draft = store.get(DraftContent, row.record_id)
            writes.append(next_revision(draft, draft.content, subject_id=subject_id))
        # A lesion is somebody's: with another subject it is not known any more which one a photo shows.
        writes += [
            next_revision(photo, photo.content, lesion_id=None)
            for photo in store.of(CapturedImageContent, encounter_id=encounter_id)
            if photo.parents["lesion_id"] is not None
        ]
        store.change_all("moved", operator, writes)

    def summary(self, encounter_id: str, *, is_without_pin: bool = True) -> OpenVisit:
        """Tell of a visit what a locked box can tell.

        Raises:
            MissingError: There is none.
        """
        store = self.records()
        rows = store.clear_rows(EncounterContent, encounter_id=encounter_id)
        if not rows:
            raise MissingError("There is no such visit.")
        row = rows[0]
        return OpenVisit(
            encounter_id=encounter_id,
            opened_at=datetime.fromisoformat(row.recorded_at),
            is_date_confirmed=bool(row.date_confirmed),
            photos=len(store.clear_rows(CapturedImageContent, encounter_id=encounter_id)),
            person=person_of(store, row.parents["subject_id"]),
            is_without_pin=is_without_pin,
        )
