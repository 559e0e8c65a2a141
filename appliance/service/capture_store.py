"""Where kept photos lie: the protocol, and memory for a station without records (`record_captures` has the records)."""

import threading
from typing import Protocol

from appliance.service.errors import LimitError, NotFoundError
from appliance.types import CapturedImage


class CaptureStore(Protocol):
    """Where kept photos lie; the encrypted store of the records will stand here."""

    def keep(self, image: CapturedImage) -> None:
        """Keep one photo; once this returns, it is kept.

        Raises:
            LimitError: There is no room.
        """

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo.

        Raises:
            NotFoundError: There is none of that id.
        """

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return an encounter's photos in the order they were taken."""

    def forget_encounter(self, encounter_id: str) -> None:
        """Let go of an encounter's photos."""


class MemoryCaptureStore:
    """Keeps photos in memory until their encounter is closed; nothing touches a disk."""

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._max_bytes = max_bytes
        self._images: dict[str, CapturedImage] = {}
        self._lock = threading.Lock()

    def keep(self, image: CapturedImage) -> None:
        """Keep one photo in memory."""
        with self._lock:
            used = sum(len(kept.content) for kept in self._images.values())
            if used + len(image.content) > self._max_bytes:
                raise LimitError("There is no room for another photo in this visit; close it and open a new one.")
            self._images[image.capture_id] = image

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo."""
        with self._lock:
            image = self._images.get(capture_id)
        if image is None:
            raise NotFoundError("This photo is not kept any more: its visit is closed.")
        return image

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return an encounter's photos in the order they were taken."""
        with self._lock:
            return tuple(image for image in self._images.values() if image.encounter_id == encounter_id)

    def forget_encounter(self, encounter_id: str) -> None:
        """Let go of an encounter's photos."""
        with self._lock:
            self._images = {key: image for key, image in self._images.items() if image.encounter_id != encounter_id}
