"""Whole rows of an embedding table that lies in two halves, read from its files one by one.

Read, not mapped: a page fault maps its neighbours too, and 32 rows a token would soon be the whole table in memory.
Layout: `export/quantize.py`, `HalvedRows`.
"""

import os
import weakref
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.bundle import HalvedTableRecord, StoredBytes
from appliance.medgemma.sessions import InferenceError

_MIDDLE: Final = 16 * 8 + 8
"""What stands for zero: both halves have theirs at 8, and a step of the coarse one is 16 of the fine one's."""
_FLOAT_BYTES: Final = 4


class HalvedTable:
    """An open table, closed with the last reference to it.

    Args:
        folder: The bundle's; its files have been checked.
        record: Where the table lies in it.
        hidden_size: Columns.
    """

    def __init__(self, folder: Path, record: HalvedTableRecord, hidden_size: int) -> None:
        self._hidden_size = hidden_size
        self._blocks = -(-hidden_size // record.block_size)
        self._half_bytes = self._blocks * record.block_size // 2
        self._coarse, self._fine, self._scales = (
            self._open(folder, part) for part in (record.coarse, record.fine, record.scales)
        )

    def rows(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return whole rows: float32 [n, H] for int64 [n].

        Raises:
            InferenceError: A file does not give them.
        """
        coarse = self._read(self._coarse, token_ids, self._half_bytes).view(np.uint8)
        fine = self._read(self._fine, token_ids, self._half_bytes).view(np.uint8)
        scales = self._read(self._scales, token_ids, self._blocks * _FLOAT_BYTES).view(np.float32)
        values = np.empty((len(token_ids), 2 * self._half_bytes), np.float32)
        values[:, 0::2] = (coarse << 4) | (fine & 0x0F)
        values[:, 1::2] = (coarse & 0xF0) | (fine >> 4)
        values -= _MIDDLE
        blocks = values.reshape(len(token_ids), self._blocks, -1)
        blocks *= scales[:, :, np.newaxis]
        return values[:, : self._hidden_size]

    def _open(self, folder: Path, part: StoredBytes) -> tuple[int, int]:
        descriptor = os.open(folder / part.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        # A model is closed by letting go of its parts, once the run that has begun is over.
        weakref.finalize(self, os.close, descriptor)
        return descriptor, part.offset_bytes

    def _read(self, place: tuple[int, int], token_ids: NDArray[np.int64], row_bytes: int) -> NDArray[np.uint8]:
        """Read rows of one part: uint8 [n, row_bytes]."""
        descriptor, offset_bytes = place
        try:
            pieces = [os.pread(descriptor, row_bytes, offset_bytes + row_bytes * int(row)) for row in token_ids]
        except OSError as error:
            raise InferenceError(f"The model's table cannot be read: {error.strerror}.") from error
        content = b"".join(pieces)
        if len(content) != row_bytes * len(token_ids):
            raise InferenceError("The model's table ends too early.")
        return np.frombuffer(content, np.uint8).reshape(len(token_ids), row_bytes)
