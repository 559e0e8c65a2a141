"""Small copies of stored photos, for lists: decoded in the confined process, kept in memory only, gone at lock."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from appliance.imaging.decode import image_from_bytes
from appliance.records.content import CapturedImageContent
from appliance.records.errors import LockedError
from appliance.records.store import RecordStore

WIDTH_PX: Final = 192
HEIGHT_PX: Final = 144
_KEPT: Final = 256
"""About 2 MB of small JPEG files."""
_QUALITY: Final = 80


class Thumbnails:
    """The small copies; every method may be called from any thread."""

    def __init__(self, records: Callable[[], RecordStore]) -> None:
        """Take the records from a function that raises a sentence when there are none."""
        self._records = records
        self._made: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, capture_id: str) -> bytes:
        """Return a JPEG file of at most 192 x 144 pixels.

        Raises:
            MissingError: There is no such photo.
            LockedError: It cannot be opened now; then no copy of it is shown either.
            ImageError: It cannot be decoded.
        """
        # Opened each time: a copy outlives neither the lock nor the photo.
        try:
            record = self._records().get(CapturedImageContent, capture_id)
        except LockedError:
            self.forget()
            raise
        with self._lock:
            known = self._made.get(capture_id)
        if known is not None:
            return known
        made = _small(self._records().photo(record))
        with self._lock:
            self._made[capture_id] = made
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made

    def forget(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._made.clear()


def _small(content: bytes) -> bytes:
    pixels = image_from_bytes(content)
    # Every n-th pixel first: a large photo is not worth a fine filter in a list.
    step = max(1, min(pixels.shape[0] // (2 * HEIGHT_PX), pixels.shape[1] // (2 * WIDTH_PX)))
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    image.thumbnail((WIDTH_PX, HEIGHT_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
