"""A weight matrix on its way from the checkpoint into a graph: stored in a precision, then used as a linear layer.

Matrices are stored as the checkpoint has them, one output a row, so that rows stream through and layers that share an
input (q, k, v; gate, up) become one matrix by standing below each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Literal, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from export.external_data import ExternalDataFile, StoredValue
from export.graph_builder import MICROSOFT, GraphBuilder
from export.quantize import Bits, block_size_for, quantize
from export.safetensors_file import StoredTensor

MatrixPrecision = Literal["int4", "int8", "float16", "float32"]
_BITS: Final[dict[MatrixPrecision, Bits]] = {"int4": 4, "int8": 8}
ACCURACY_LEVEL: Final = 4
"""MatMulNBits may quantise its input to int8 a block: twice the speed of float32 input."""


_SAMPLE_ROWS: Final = 64
"""Rows of each part that the block size is chosen by."""


class Rows(Protocol):
    """A matrix that can be read some rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows (outputs), columns (inputs)."""

    def row_chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 [some rows, columns], from the first row to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transposed:
    """A stored matrix [inputs, outputs], turned round; read whole."""

    tensor: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows (outputs), columns (inputs)."""
        return self.tensor.shape[::-1]

    def row_chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the one chunk."""
        yield np.ascontiguousarray(self.tensor.read().T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """Rows that fill a matrix up."""

    shape: tuple[int, ...]
    """Rows (outputs), columns (inputs)."""

    def row_chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the one chunk."""
        yield np.zeros(self.shape, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMatrix:
    """A matrix in an external-data file."""

    rows: int
    columns: int
    precision: MatrixPrecision
    values: StoredValue
    """float [rows, columns], or uint8 [rows, blocks, block_size * bits / 8]."""
    scales: StoredValue | None = None
    """float32 [rows, blocks]."""
    block_size: int = 0

    @property
    def bits(self) -> Bits:
        """Bits a value, of a quantised matrix."""
        return _BITS[self.precision]

    @property
    def filling(self) -> int:
        """Columns of zeros that fill the last block."""
        return -self.columns % self.block_size if self.block_size else 0

    def filled(self) -> "StoredMatrix":
        """Return the same with its filling as columns, for an input that has as many zeros."""
        return replace(self, columns=self.columns + self.filling)


def store_matrix(data: ExternalDataFile, name: str, parts: Sequence[Rows], precision: MatrixPrecision) -> StoredMatrix:
    """Write matrices of equally many columns as one, below each other.

    Raises:
        CheckpointError: A part cannot be read.
        StorageError: The file cannot be written.
    """
    rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
    sample, chunks = sampled(parts)
    if precision not in _BITS:
        dtype = np.float16 if precision == "float16" else np.float32
        values = data.store(name, (rows, columns), (chunk.astype(dtype, copy=False) for chunk in chunks))
        return StoredMatrix(rows=rows, columns=columns, precision=precision, values=values)
    bits = _BITS[precision]
    block_size = block_size_for(sample, bits)
    blocks = -(-columns // block_size)
    scales: list[NDArray[np.float32]] = []

    def quantized() -> Iterator[NDArray[np.uint8]]:
        for chunk in chunks:
            result = quantize(chunk, bits, block_size)
            scales.append(result.scales)
            yield result.values

    values = data.store(name, (rows, blocks, block_size * bits // 8), quantized())
    stored_scales = data.store(f"{name} (scales)", (rows, blocks), scales)
    return StoredMatrix(
        rows=rows, columns=columns, precision=precision, values=values, scales=stored_scales, block_size=block_size
    )


def sampled(parts: Sequence[Rows]) -> tuple[NDArray[np.float32], Iterator[NDArray[np.float32]]]:
    """Return some rows of every part (q, k and v may be distributed differently), and all rows, each read once.

    Returns:
        float32 [some rows, columns]; and all rows in chunks of the same kind.
    """
    readers = [part.row_chunks() for part in parts]
    firsts = [next(reader) for reader in readers]
    sample = np.concatenate([first[:_SAMPLE_ROWS] for first in firsts])
    return sample, chain.from_iterable(chain([first], reader) for first, reader in zip(firsts, readers, strict=True))


def add_linear(builder: GraphBuilder, name: str, value: str, matrix: StoredMatrix, bias: str = "") -> str:
    """Add `value @ matrix.T + bias`: float32 [..., columns] becomes float32 [..., rows].

    Args:
        builder: The graph.
        name: Of the node; its initializers begin with it.
        value: What to multiply.
        matrix: Where the weights are.
        bias: Name of a float32 [rows], or nothing.
    """
    if matrix.scales is not None:
        inputs = [
            value,
            builder.stored(f"{name}.weight", matrix.values),
            builder.stored(f"{name}.scales", matrix.scales),
        ]
        inputs += ["", "", bias] if bias else []
        sizes = {"K": matrix.columns, "N": matrix.rows, "bits": matrix.bits, "block_size": matrix.block_size}
        return builder.node("MatMulNBits", name, inputs, domain=MICROSOFT, accuracy_level=ACCURACY_LEVEL, **sizes)
    weight = builder.stored(f"{name}.weight", matrix.values)
    if matrix.precision == "float16":
        weight = builder.node("Cast", f"{name}/cast", [weight], to=onnx.TensorProto.FLOAT)
    # ONNX's own MatMul cannot take its right side transposed; this one can, and streams rows as they are stored.
    product_name = f"{name}/product" if bias else name
    product = builder.node("FusedMatMul", product_name, [value, weight], domain=MICROSOFT, transB=1)
    return builder.node("Add", name, [product, bias]) if bias else product
