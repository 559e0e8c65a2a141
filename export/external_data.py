"""The file beside a graph that holds its matrices, written from front to back, one piece in memory at a time.

It knows bytes, not models: what is written is what the graph's initializers point at by offset and length.
Source: ONNX `docs/ExternalData.md`.
"""

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from appliance.medgemma.file_record import FileRecord
from export.errors import StorageError

ALIGNMENT_BYTES: Final = 4096
"""Every value starts on a page, so that ONNX Runtime can map it straight from the file."""
_FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredValue:
    """Where one value lies and what it is."""

    file: str
    """Name of the file, beside the graph."""
    offset_bytes: int
    size_bytes: int
    data_type: int
    """`onnx.TensorProto.DataType`."""
    shape: tuple[int, ...]

    def to_initializer(self, name: str) -> onnx.TensorProto:
        """Return an initializer that points here."""
        tensor = onnx.TensorProto(name=name, data_type=self.data_type, dims=self.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self.file), ("offset", self.offset_bytes), ("length", self.size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class ExternalDataFile:
    """One external-data file being written; a context manager. After it closes, `record` describes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _create(path)
        self._digest = hashlib.sha256()
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as cause:
            raise storage_error(self.path, cause) from cause
        finally:
            self._file.close()

    @property
    def record(self) -> FileRecord:
        """Size and digest of everything written so far."""
        return FileRecord(size_bytes=self._offset, sha256=self._digest.hexdigest())

    def store(self, name: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> StoredValue:
        """Write one value.

        Args:
            name: Whose bytes they are, for the sentence when the disk is full.
            shape: Of the whole value.
            pieces: Its consecutive parts, all of one dtype; row-major.

        Raises:
            StorageError: The file cannot be written.
        """
        value = self.open_value(name)
        for piece in pieces:
            value.append(piece)
        return value.close(shape)

    def open_value(self, name: str) -> "ValueWriter":
        """Begin a value that comes in pieces beside others; as `store`, and nothing else is written until it closes."""
        self.write(name, b"\0" * (-self._offset % ALIGNMENT_BYTES))
        return ValueWriter(self, name, self._offset)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Append bytes of the value `name`.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            self._file.write(content)
        except OSError as error:
            raise storage_error(self.path, error, writing=name) from error
        self._digest.update(content)
        self._offset += len(content)


class ValueWriter:
    """One value on its way into a file; from `ExternalDataFile.open_value`."""

    def __init__(self, file: ExternalDataFile, name: str, offset_bytes: int) -> None:
        self._file = file
        self._name = name
        self._offset_bytes = offset_bytes
        self._size_bytes = 0
        self._dtype = np.dtype(np.float32)

    def append(self, piece: NDArray[Any]) -> None:
        """Write the next piece, row-major, of the dtype of the others.

        Raises:
            StorageError: The file cannot be written.
        """
        self._dtype = piece.dtype
        self._size_bytes += piece.nbytes
        self._file.write(self._name, np.ascontiguousarray(piece).data.cast("B"))

    def close(self, shape: tuple[int, ...]) -> StoredValue:
        """End the value.

        Raises:
            ValueError: What was written is not of this shape.
        """
        if self._size_bytes != self._dtype.itemsize * int(np.prod(shape)):
            raise ValueError(f"{self._name}: {self._size_bytes} bytes written for shape {shape} of {self._dtype}")
        return StoredValue(
            file=self._file.path.name,
            offset_bytes=self._offset_bytes,
            size_bytes=self._size_bytes,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(self._dtype),
            shape=shape,
        )


def storage_error(path: Path, error: OSError, writing: str = "") -> StorageError:
    """Say in one sentence why a file could not be written."""
    what = f"{path.name} cannot be written"
    if writing:
        what += f" (at the tensor {writing})"
    if error.errno in _FULL_DISK:
        return StorageError(f"{what}: the disk under {path.parent} is full or the file too large for it.")
    return StorageError(f"{what}: {error.strerror or error}.")


def _create(path: Path) -> Any:
    try:
        return path.open("xb", buffering=0)
    except OSError as error:
        raise storage_error(path, error) from error
