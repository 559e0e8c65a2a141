"""Looking at records leaves a trace: who opened whose, in the audit, with the state in which it was seen.

Reading itself is `reading.py`; what only the station looks at, as for its index, is not noted.
"""

import logging
from collections.abc import Sequence

from appliance.records.content import Content
from appliance.records.errors import DiskFullError, ReadOnlyError
from appliance.records.saving import Saved
from appliance.records.store import RecordStore

logger = logging.getLogger(__name__)


def note_read(
    store: RecordStore, operator_id: str | None, kind: type[Content], ids: Sequence[str], *, detail: str = ""
) -> Saved | None:
    """Note that somebody looked at records, and in `detail` from where when that was not the kiosk.

    Returns:
        The receipt; None on a disk that is full or takes no writes, where reading must go on.

    Raises:
        StorageFailedError: The disk failed.
    """
    # One moment: a record that changes in between would be noted as it never was afterwards.
    with store.saver.lock:
        rows = [row for one in ids for row in store.clear_rows(kind, **{kind.ID_COLUMN: one})]
        try:
            return store.note("read", operator_id, objects=[row.state() for row in rows], detail=detail)
        except (DiskFullError, ReadOnlyError) as error:
            logger.warning("audit entry not written action=read reason=%s", error)
            return None
