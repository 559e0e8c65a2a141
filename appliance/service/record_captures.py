"""The kiosk's photos in the records: a kept photo is sealed, fsynced, read back, and there after a power cut.

Nothing is ever let go of on the disk: a closed visit only leaves the screen. A visit that nobody announced gets an
unnamed subject, as when the box is locked and nobody can be looked up; `RecordStore.revise` moves it later.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

from appliance.records.content import CapturedImageContent, Content, EncounterContent, SubjectContent
from appliance.records.errors import DiskFullError, MissingError
from appliance.records.rows import Record
from appliance.records.store import RecordStore, new_id
from appliance.records.words import pseudonym_of
from appliance.service.errors import LimitError, NotFoundError
from appliance.types import CapturedImage, keep_reason_of

VISIT_MAX_BYTES: Final = 256 << 20


class RecordCaptureStore:
    """A `CaptureStore` over the records; every method may be called from any thread."""

    def __init__(
        self, store: RecordStore, operator: Callable[[], str | None], *, max_bytes: int = VISIT_MAX_BYTES
    ) -> None:
        """Take the photos of a station.

        Args:
            store: The records, locked or not.
            operator: Tells who is at the screen; None without a PIN in an emergency.
            max_bytes: Room for one visit's photos.
        """
        self._store = store
        self._operator = operator
        self._max_bytes = max_bytes
        self._subjects: dict[str, str] = {}
        self._on_screen: dict[str, str] = {}
        self._lock = threading.Lock()

    def announce(self, encounter_id: str, subject_id: str) -> None:
        """Say whose visit it will be, before its first photo."""
        with self._lock:
            self._subjects[encounter_id] = subject_id

    def keep(self, image: CapturedImage) -> None:
        """Save one photo, with its visit if that is new.

        Raises:
            LimitError: There is no room.
            NotSavedError: It was not kept, for the reason that the sentence says.
        """
        with self._lock:
            kept = self._records(image.encounter_id)
            if sum(record.content.size_bytes for record in kept) + len(image.content) > self._max_bytes:
                raise LimitError("There is no room for another photo in this visit; close it and open a new one.")
            records = self._visit_of(image.encounter_id)
            records.append((_described(image), image.capture_id, {"encounter_id": image.encounter_id}, image.content))
            try:
                self._store.add_all(records, self._operator())
            except DiskFullError as error:
                raise LimitError(str(error)) from error
            self._on_screen[image.capture_id] = image.encounter_id

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo of a visit on the screen.

        Raises:
            NotFoundError: There is none of that id.
        """
        with self._lock:
            if capture_id not in self._on_screen:
                raise NotFoundError("This photo is not kept any more: its visit is closed.")
            return self._image(self._store.get(CapturedImageContent, capture_id))

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return the photos of a visit on the screen, in the order they were taken."""
        with self._lock:
            return tuple(self._image(record) for record in self._records(encounter_id))

    def forget_encounter(self, encounter_id: str) -> None:
        """Take a visit's photos off the screen; on the disk they stay."""
        with self._lock:
            self._subjects.pop(encounter_id, None)
            self._on_screen = {key: value for key, value in self._on_screen.items() if value != encounter_id}

    def _records(self, encounter_id: str) -> list[Record[CapturedImageContent]]:
        ids = [key for key, value in self._on_screen.items() if value == encounter_id]
        return [self._store.get(CapturedImageContent, capture_id) for capture_id in ids]

    def _visit_of(self, encounter_id: str) -> list[tuple[Content, str, dict[str, str | None], bytes | None]]:
        """Return what must be saved before a visit's photo: nothing, the visit, or also an unnamed subject."""
        try:
            self._store.clear_parent(EncounterContent, encounter_id, "subject_id")
        except MissingError:
            subject_id = self._subjects.get(encounter_id)
        else:
            return []
        visit: list[tuple[Content, str, dict[str, str | None], bytes | None]] = []
        if subject_id is None:
            subject_id = new_id()
            visit.append((SubjectContent(pseudonym=pseudonym_of(subject_id)), subject_id, {}, None))
        visit.append((EncounterContent(), encounter_id, {"subject_id": subject_id}, None))
        return visit

    def _image(self, record: Record[CapturedImageContent]) -> CapturedImage:
        return CapturedImage(
            capture_id=record.record_id,
            encounter_id=str(record.parents["encounter_id"]),
            content=self._store.photo(record),
            media_type=record.content.media_type,
            sha256=record.content.sha256,
            modality=record.content.modality,
            captured_at=datetime.fromisoformat(record.content.captured_at),
            quality=record.content.quality or None,
            keep_reason=keep_reason_of(record.content.keep_reason),
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
    )
