"""The lesions of whoever is on the screen: choosing one, or a new one, before its photos are taken."""

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.records.content import CapturedImageContent, Laterality, LesionContent
from appliance.records.drafts import Drafts
from appliance.records.errors import LockedError, MissingError
from appliance.records.rows import Record
from appliance.records.store import RecordStore, new_id
from appliance.records.write import next_revision
from appliance.service.body_sites import BodySite, all_sites
from appliance.service.errors import NotFoundError
from appliance.service.record_captures import VISIT_FORM, RecordCaptureStore

SIDES: Final[dict[Laterality, str]] = {"L": "left", "R": "right", "B": "both sides", "U": ""}
_UUID_ROOT: Final = "2.25."
"""DICOM PS3.5, B.2: a UID made of a random UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionLine:
    """One lesion in the list to choose from."""

    lesion_id: str
    words: str
    """Left palm."""
    photos: int
    newest_capture_id: str | None


class Lesions:
    """The lesions of the subjects; every method may be called from any thread."""

    def __init__(
        self, records: Callable[[], RecordStore], operator: Callable[[], str | None], photos: RecordCaptureStore
    ) -> None:
        self._records = records
        self._operator = operator
        self._photos = photos

    def of_subject(self, subject_id: str) -> tuple[LesionLine, ...]:
        """List a subject's lesions, the newest first.

        Raises:
            LockedError: The records are locked.
        """
        store = self._records()
        return tuple(
            self._line(store, record.record_id, record.content)
            for record in reversed(store.of(LesionContent, subject_id=subject_id))
        )

    def words(self, encounter_id: str) -> str:
        """Return where the lesion on the screen lies; empty when none was chosen, or it cannot be read."""
        content = self._chosen(encounter_id)
        return "" if content is None else words_of(content)

    def site_key(self, encounter_id: str) -> str | None:
        """Return the place of the lesion on the screen, as `[shots.sites]` of the settings calls it."""
        content = self._chosen(encounter_id)
        if content is None:
            return None
        return next((site.key for site in all_sites() if site.words == content.where), None)

    def choose(self, encounter_id: str, lesion_id: str) -> None:
        """Say which lesion the next photos show, and those of this visit of which it was not said.

        Raises:
            NotFoundError: It is another subject's, or there is none of that id.
            LockedError: The records are locked.
            NotSavedError: It is as it was.
        """
        store = self._records()
        with self._photos.lock, store.saver.lock:
            self._photos.ensure_visit(encounter_id)
            rows = store.clear_rows(LesionContent, lesion_id=lesion_id)
            if not rows or rows[0].parents["subject_id"] != self._photos.subject_of(encounter_id):
                raise NotFoundError("This lesion is not one of this patient's.")
            store.get(LesionContent, lesion_id)
            self._remember(encounter_id, lesion_id)

    def add(self, encounter_id: str, site: BodySite, laterality: Laterality) -> str:
        """Save a new lesion of the visit's subject and choose it.

        Raises:
            NotSavedError: It was not saved.
        """
        store, lesion_id = self._records(), new_id()
        content = LesionContent(
            body_site_code=site.code,
            body_site_display=site.display,
            laterality=laterality if site.is_paired else "U",
            tracking_uid=f"{_UUID_ROOT}{uuid.uuid4().int}",
            where=site.words,
        )
        with self._photos.lock, store.saver.lock:
            self._photos.ensure_visit(encounter_id)
            subject_id = self._photos.subject_of(encounter_id)
            store.add(content, self._operator(), subject_id=subject_id, record_id=lesion_id)
            self._remember(encounter_id, lesion_id)
        return lesion_id

    def recall(self, encounter_id: str) -> None:
        """Choose again what was chosen before the box was started, where that can be read."""
        try:
            draft = Drafts(self._records()).open(encounter_id, VISIT_FORM, self._operator())
        except LockedError:
            return  # the newest photo tells it; `RecordCaptureStore.resume` has looked
        if draft is not None and (lesion_id := draft.content.fields.get("lesion_id")):
            self._photos.choose_lesion(encounter_id, lesion_id)

    def _remember(self, encounter_id: str, lesion_id: str) -> None:
        """Note the choice in the visit's draft and, in the same save, in the photos of which no lesion was said."""
        store, operator = self._records(), self._operator()
        unsaid = [
            self._readable(row.record_id)
            for row in store.clear_rows(CapturedImageContent, encounter_id=encounter_id)
            if row.parents["lesion_id"] is None
        ]
        writes = [next_revision(photo, photo.content, lesion_id=lesion_id) for photo in unsaid if photo is not None]
        if writes:
            store.change_all("moved", operator, writes)
        # While locked an earlier draft cannot be opened; the photos to come tell the lesion then.
        with contextlib.suppress(LockedError):
            Drafts(store).save(encounter_id, VISIT_FORM, {"lesion_id": lesion_id}, operator)
        self._photos.choose_lesion(encounter_id, lesion_id)

    def _readable(self, capture_id: str) -> Record[CapturedImageContent] | None:
        try:
            return self._records().get(CapturedImageContent, capture_id)
        except LockedError:
            return None

    def _chosen(self, encounter_id: str) -> LesionContent | None:
        lesion_id = self._photos.lesion_of(encounter_id)
        try:
            return None if lesion_id is None else self._records().get(LesionContent, lesion_id).content
        except (LockedError, MissingError):
            return None

    def _line(self, store: RecordStore, lesion_id: str, content: LesionContent) -> LesionLine:
        rows = store.clear_rows(CapturedImageContent, lesion_id=lesion_id)
        return LesionLine(
            lesion_id=lesion_id,
            words=words_of(content),
            photos=len(rows),
            newest_capture_id=rows[-1].record_id if rows else None,
        )


def words_of(content: LesionContent) -> str:
    """Say where a lesion lies: "Palm, left"."""
    place = content.where or content.body_site_display
    return ", ".join(filter(None, (place, SIDES[content.laterality])))
