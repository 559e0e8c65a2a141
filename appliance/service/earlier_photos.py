"""The photos of earlier visits of the lesion on the screen, from the records; the protocol is in `earlier`."""

import threading
from collections.abc import Callable
from datetime import datetime

from appliance.records.content import CapturedImageContent
from appliance.records.errors import ErasedError, LockedError, TamperedError
from appliance.records.looking import note_read
from appliance.records.store import RecordStore
from appliance.service.earlier import EarlierPhoto
from appliance.service.record_captures import RecordCaptureStore
from appliance.types import ShotKind


class RecordEarlierPhotos:
    """Answers from the records; every method may be called from any thread."""

    def __init__(
        self, records: Callable[[], RecordStore], operator: Callable[[], str | None], photos: RecordCaptureStore
    ) -> None:
        self._records = records
        self._operator = operator
        self._photos = photos
        self._noted: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def newest(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
        """Return the newest earlier photo of the lesion and the view, and note that it was looked at.

        Args:
            encounter_id: The visit on the screen.
            shot: The view.

        Returns:
            The photo; None when there is none, no lesion was chosen, or the records cannot be read now.
        """
        lesion_id = self._photos.lesion_of(encounter_id)
        if lesion_id is None:
            return None
        store = self._records()
        for row in reversed(store.clear_rows(CapturedImageContent, lesion_id=lesion_id)):
            if row.parents["encounter_id"] == encounter_id:
                continue
            try:
                record = store.get(CapturedImageContent, row.record_id)
                if record.content.view != shot:
                    continue
                content = store.photo(record)
            except LockedError:
                return None
            except (TamperedError, ErasedError):
                continue  # told where the records are upheld; another one serves here
            self._note(encounter_id, record.record_id)
            return EarlierPhoto(
                capture_id=record.record_id,
                content=content,
                media_type=record.content.media_type,
                captured_at=datetime.fromisoformat(record.content.captured_at),
                is_date_confirmed=record.is_date_confirmed,
                shot=shot,
            )
        return None

    def _note(self, encounter_id: str, capture_id: str) -> None:
        """Note it once a visit: the screen asks for the same photo again and again."""
        with self._lock:
            if (encounter_id, capture_id) in self._noted:
                return
            self._noted = {one for one in self._noted if one[0] == encounter_id} | {(encounter_id, capture_id)}
        note_read(self._records(), self._operator(), CapturedImageContent, [capture_id])
