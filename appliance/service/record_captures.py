"""The kiosk's photos in the records: a kept photo is sealed, fsynced, read back, and there after a power cut.

Nothing is ever let go of on the disk: a closed visit only leaves the screen. A visit that nobody announced gets an
unnamed subject, as when the box is locked and nobody can be looked up; `RecordStore.revise` moves it later. With the
first thing that a visit keeps comes a draft that says whose screen it is on, so that it is found after a power cut.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from appliance.records.content import CapturedImageContent, Content, DraftContent, EncounterContent, SubjectContent
from appliance.records.errors import DiskFullError, LockedError
from appliance.records.rows import Record
from appliance.records.store import RecordStore, new_id
from appliance.records.words import pseudonym_of
from appliance.service.errors import LimitError, NotFoundError
from appliance.types import CapturedImage, keep_reason_of, light_of, retake_reason_of, shot_kind_of

VISIT_MAX_BYTES: Final = 256 << 20
VISIT_FORM: Final = "visit"
"""The draft that marks a visit as open, and its nurse; gone once the visit is closed."""
Records = list[tuple[Content, str, dict[str, str | None], bytes | None]]


@dataclass(slots=True, kw_only=True)
class _OnScreen:
    """What is known of a visit while it is on the screen."""

    subject_id: str | None = None
    lesion_id: str | None = None
    capture_ids: list[str] = field(default_factory=list)
    used_bytes: int = 0


class RecordCaptureStore:
    """A `CaptureStore` over the records; every method may be called from any thread."""

    def __init__(
        self,
        records: Callable[[], RecordStore],
        operator: Callable[[], str | None],
        *,
        max_bytes: int = VISIT_MAX_BYTES,
    ) -> None:
        """Take the photos of a station.

        Args:
            records: Gives the records, locked or not, or raises the sentence why there are none.
            operator: Tells who is at the screen; None without a PIN in an emergency.
            max_bytes: Room for one visit's photos.
        """
        self._records = records
        self._operator = operator
        self._max_bytes = max_bytes
        self._visits: dict[str, _OnScreen] = {}
        self.lock = threading.RLock()
        """Taken before the records' own, by whoever needs both."""

    def announce(self, encounter_id: str, subject_id: str) -> None:
        """Say whose visit it will be, before anything of it is saved."""
        with self.lock:
            self._visit(encounter_id).subject_id = subject_id

    def choose_lesion(self, encounter_id: str, lesion_id: str | None) -> None:
        """Say which lesion the next photos show."""
        with self.lock:
            self._visit(encounter_id).lesion_id = lesion_id

    def subject_of(self, encounter_id: str) -> str | None:
        """Return whose visit it is, saved or only announced; None while nobody was named and nothing saved."""
        with self.lock:
            rows = self._records().clear_rows(EncounterContent, encounter_id=encounter_id)
            return rows[0].parents["subject_id"] if rows else self._visit(encounter_id).subject_id

    def lesion_of(self, encounter_id: str) -> str | None:
        """Return which lesion the next photos show."""
        with self.lock:
            return self._visit(encounter_id).lesion_id

    def keep(self, image: CapturedImage) -> None:
        """Save one photo, with its visit if that is new.

        Raises:
            LimitError: There is no room.
            NotSavedError: It was not kept, for the reason that the sentence says.
        """
        with self.lock:
            visit = self._visit(image.encounter_id)
            if visit.used_bytes + len(image.content) > self._max_bytes:
                raise LimitError("There is no room for another photo in this visit; close it and open a new one.")
            records = self._new_visit(image.encounter_id)
            parents = {"encounter_id": image.encounter_id, "lesion_id": visit.lesion_id}
            records.append((_described(image), image.capture_id, parents, image.content))
            try:
                self._records().add_all(records, self._operator())
            except DiskFullError as error:
                raise LimitError(str(error)) from error
            visit.capture_ids.append(image.capture_id)
            visit.used_bytes += len(image.content)

    def ensure_visit(self, encounter_id: str) -> None:
        """Save the visit itself, unless it is.

        Raises:
            NotSavedError: It was not kept, for the reason that the sentence says.
        """
        with self.lock:
            if records := self._new_visit(encounter_id):
                self._records().add_all(records, self._operator())

    def resume(self, encounter_id: str) -> None:
        """Put a visit of the records on the screen again, with its photos and the lesion of the newest."""
        with self.lock:
            rows = self._records().clear_rows(CapturedImageContent, encounter_id=encounter_id)
            visit = self._visits[encounter_id] = _OnScreen(capture_ids=[row.record_id for row in rows])
            visit.lesion_id = rows[-1].parents["lesion_id"] if rows else None
            visit.used_bytes = sum(record.content.size_bytes for record in self._readable(encounter_id))

    def count(self, encounter_id: str) -> int:
        """Count a visit's photos on the screen, those included that cannot be shown while locked."""
        with self.lock:
            return len(self._visit(encounter_id).capture_ids)

    def count_readable(self, encounter_id: str) -> int:
        """Count those that can be shown now."""
        with self.lock:
            return len(self._readable(encounter_id))

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo of a visit on the screen.

        Raises:
            NotFoundError: There is none of that id.
            LockedError: It was taken before the box was started, and the phrase was not typed since.
        """
        with self.lock:
            if not any(capture_id in visit.capture_ids for visit in self._visits.values()):
                raise NotFoundError("This photo is not on the screen any more: its visit is closed.")
            return self._image(self._records().get(CapturedImageContent, capture_id))

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return the photos of a visit on the screen that can be shown, in the order they were taken."""
        with self.lock:
            return tuple(self._image(record) for record in self._readable(encounter_id))

    def of_lesion(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return those that show the lesion on the screen."""
        with self.lock:
            chosen = self._visit(encounter_id).lesion_id
            found = self._readable(encounter_id)
            return tuple(self._image(record) for record in found if record.parents["lesion_id"] == chosen)

    def forget_encounter(self, encounter_id: str) -> None:
        """Take a visit off the screen; on the disk it stays."""
        with self.lock:
            self._visits.pop(encounter_id, None)

    def _visit(self, encounter_id: str) -> _OnScreen:
        return self._visits.setdefault(encounter_id, _OnScreen())

    def _readable(self, encounter_id: str) -> list[Record[CapturedImageContent]]:
        found = []
        for capture_id in self._visit(encounter_id).capture_ids:
            try:
                found.append(self._records().get(CapturedImageContent, capture_id))
            except LockedError:
                continue  # taken before the box was started: it is there, and shown once the phrase was typed
        return found

    def _new_visit(self, encounter_id: str) -> Records:
        """Return what must be saved before anything of a visit: nothing, the visit, or also an unnamed subject."""
        if self._records().clear_rows(EncounterContent, encounter_id=encounter_id):
            return []
        subject_id, records = self._visit(encounter_id).subject_id, Records()
        if subject_id is None:
            subject_id = new_id()
            records.append((SubjectContent(pseudonym=pseudonym_of(subject_id)), subject_id, {}, None))
        content = EncounterContent(is_unattended=self._operator() is None)
        records.append((content, encounter_id, {"subject_id": subject_id}, None))
        place: dict[str, str | None] = {"encounter_id": encounter_id, "subject_id": subject_id, "form": VISIT_FORM}
        records.append((DraftContent(fields={}), new_id(), place, None))
        return records

    def _image(self, record: Record[CapturedImageContent]) -> CapturedImage:
        return CapturedImage(
            capture_id=record.record_id,
            encounter_id=str(record.parents["encounter_id"]),
            content=self._records().photo(record),
            media_type=record.content.media_type,
            sha256=record.content.sha256,
            modality=record.content.modality,
            captured_at=datetime.fromisoformat(record.content.captured_at),
            quality=record.content.quality or None,
            keep_reason=keep_reason_of(record.content.keep_reason),
            shot=shot_kind_of(record.content.view),
            retake_reason=retake_reason_of(record.content.retake_reason),
            light=light_of(record.content.light),
        )


def _described(image: CapturedImage) -> CapturedImageContent:
    return CapturedImageContent(
        media_type=image.media_type,
        sha256=image.sha256,
        size_bytes=len(image.content),
        modality=image.modality,
        captured_at=image.captured_at.isoformat(),
        quality=image.quality or "",
        keep_reason=image.keep_reason or "",
        view=image.shot or "",
        retake_reason=image.retake_reason or "",
        light=image.light or "",
    )
