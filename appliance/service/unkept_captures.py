"""Photos on a box whose records do not open: kept in memory for the visit, as the screen says, and never refused."""

from collections.abc import Callable

from appliance.service.capture_store import CaptureStore, MemoryCaptureStore
from appliance.types import CapturedImage


class CapturesWhereverTheyGo:
    """A `CaptureStore` that asks the records where there are any, and else memory."""

    def __init__(self, records: CaptureStore, has_records: Callable[[], bool]) -> None:
        self._records = records
        self._memory = MemoryCaptureStore()
        self._has_records = has_records

    def keep(self, image: CapturedImage) -> None:
        """Keep one photo, as the store that serves now."""
        self._store().keep(image)

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo, as the store that serves now."""
        return self._store().get(capture_id)

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return an encounter's photos in the order they were taken."""
        return self._store().of_encounter(encounter_id)

    def forget_encounter(self, encounter_id: str) -> None:
        """Let go of an encounter's photos, wherever they are."""
        self._memory.forget_encounter(encounter_id)
        self._records.forget_encounter(encounter_id)

    def _store(self) -> CaptureStore:
        return self._records if self._has_records() else self._memory
