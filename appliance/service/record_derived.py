"""What was measured of a photo, in the records: a later revision of its description; the bytes stay untouched."""

from collections.abc import Callable

import msgspec

from appliance.records.content import CapturedImageContent
from appliance.records.store import RecordStore


class RecordDerived:
    """A `DerivedResults` over the records; any thread.

    Args:
        records: Gives the records, locked or not, or raises the sentence why there are none.
        has_records: Whether there are any.
    """

    def __init__(self, records: Callable[[], RecordStore], has_records: Callable[[], bool]) -> None:
        self._records = records
        self._has_records = has_records

    def keep_derived(self, capture_id: str, name: str, value: str) -> None:
        """Keep one result beside its photo, by the station itself.

        Raises:
            LockedError: The photo's description cannot be read now.
            MissingError: The photo is not in the records.
            NotSavedError: It is as it was.
        """
        if not self._has_records():
            return
        store = self._records()
        record = store.get(CapturedImageContent, capture_id)
        content = msgspec.structs.replace(record.content, derived={**record.content.derived, name: value})
        store.revise(record, content, None)
