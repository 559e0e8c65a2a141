"""One safetensors file, read by position: a tensor, or some of its rows, at a time.

It does not map the file into memory: touched pages of a mapping count as the exporter's memory until the kernel takes
them back, and a 5 GB shard would look like a 5 GB process. It knows nothing of models.
Source: safetensors format, https://github.com/huggingface/safetensors#format.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export.errors import CheckpointError, UnsupportedCheckpointError

HEADER_MAX_BYTES: Final = 100_000_000
"""The limit of the reference implementation."""
_CHUNK_VALUES: Final = 4 << 20
"""Values converted at a time: 16 MiB as float32, small beside the tables and large beside the cost of a call."""
_ITEM_BYTES: Final = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies and how to read it as float32."""

    name: str
    """As the file calls it."""
    dtype: str
    """Safetensors' label, such as `BF16`."""
    shape: tuple[int, ...]
    path: Path
    offset_bytes: int
    """From the start of the file."""
    on_read: Callable[[int], None] | None = None
    """Told the bytes of every read, for a progress bar."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor in the file."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]

    def uncounted(self) -> "StoredTensor":
        """Return the same, for a look at what is read and counted elsewhere."""
        return replace(self, on_read=None)

    def read(self) -> NDArray[np.float32]:
        """Read the whole tensor: float32, of `shape`.

        Raises:
            CheckpointError: The file cannot be read, or a value is not finite.
            UnsupportedCheckpointError: It is not stored as bf16, fp16, fp32 or fp64.
        """
        return self._values(0, math.prod(self.shape)).reshape(self.shape)

    def row_chunks(self) -> Iterator[NDArray[np.float32]]:
        """Read a matrix from the first row to the last, some rows at a time: float32 [rows, columns].

        Raises:
            CheckpointError: The file cannot be read, or a value is not finite.
            UnsupportedCheckpointError: It is not stored as bf16, fp16, fp32 or fp64.
        """
        rows, columns = self.shape
        step = max(1, _CHUNK_VALUES // columns)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield self._values(start * columns, (stop - start) * columns).reshape(stop - start, columns)

    def _values(self, start: int, count: int) -> NDArray[np.float32]:
        width = _ITEM_BYTES[self.dtype]
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset_bytes + start * width)
                raw = _read_exactly(file, count * width)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}.") from error
        if len(raw) != count * width:
            raise CheckpointError(f"{self.path} is truncated: the tensor {self.name} is not all there.")
        values = _float32(raw, self)
        if not np.isfinite(values).all():
            raise CheckpointError(f"The tensor {self.name} in {self.path.name} holds a value that is not a number.")
        if self.on_read is not None:
            self.on_read(len(raw))
        return values


def read_header(path: Path, on_read: Callable[[int], None] | None = None) -> dict[str, StoredTensor]:
    """List the tensors of one file and check that all of them are there.

    Raises:
        CheckpointError: The file is missing, truncated or not safetensors; names the first tensor that is cut off.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= HEADER_MAX_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file, or is truncated: it has no header.")
            encoded = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        header = json.loads(encoded) if len(encoded) == length else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not a safetensors file, or is truncated: its header is damaged.")
    header.pop("__metadata__", None)
    tensors = [_tensor(name, entry, path, 8 + length, on_read) for name, entry in header.items()]
    for tensor in sorted(tensors, key=lambda one: one.offset_bytes):
        if tensor.offset_bytes + tensor.size_bytes > size:
            end = tensor.offset_bytes + tensor.size_bytes
            raise CheckpointError(
                f"{path} is truncated: the tensor {tensor.name} ends at byte {end}, the file at {size}."
            )
    return {tensor.name: tensor for tensor in tensors}


def _tensor(name: str, entry: Any, path: Path, base: int, on_read: Callable[[int], None] | None) -> StoredTensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        # A dtype we do not know has no known width; it is refused by name once something wants to read it.
        expected = math.prod(shape) * _ITEM_BYTES.get(dtype, 0)
        sound = start >= 0 and (end - start == expected or dtype not in _ITEM_BYTES)
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError(f"{path} is damaged: its header contradicts itself about the tensor {name}.")
    if dtype not in _ITEM_BYTES:
        raise UnsupportedCheckpointError(
            f"The tensor {name} in {path.name} is stored as {dtype}, which is not supported."
        )
    return StoredTensor(name=name, dtype=dtype, shape=shape, path=path, offset_bytes=base + start, on_read=on_read)


def _read_exactly(file: Any, size: int) -> bytearray:
    """Read `size` bytes, fewer only at the end of the file: one `read` may return less than it was asked for."""
    raw = bytearray(size)
    view = memoryview(raw)
    done = 0
    while done < size:
        got = file.readinto(view[done:])
        if not got:
            break
        done += got
    view.release()
    del raw[done:]
    return raw


def _float32(raw: bytearray, tensor: StoredTensor) -> NDArray[np.float32]:
    if tensor.dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        return np.left_shift(np.frombuffer(raw, "<u2").astype(np.uint32), 16).view(np.float32)
    if tensor.dtype in {"F16", "F32", "F64"}:
        return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor.dtype]).astype(
            np.float32, copy=False
        )
    raise UnsupportedCheckpointError(
        f"The tensor {tensor.name} in {tensor.path.name} is stored as {tensor.dtype}; bf16, fp16 and fp32 are read."
    )
