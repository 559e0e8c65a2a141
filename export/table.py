"""The embedding table on its way into a bundle: written once, read as rows by one graph and as a head by another.

In 8 bits it lies in two halves (`quantize.py`): the head multiplies with the coarse one, a look-up takes both. What the
coarse half leaves undecided is settled by `appliance.medgemma.shortlist`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.bundle import HalvedTableRecord, StoredBytes
from export.external_data import ExternalDataFile, StoredValue
from export.graph_builder import MICROSOFT, GraphBuilder
from export.matrix import Rows, StoredMatrix, add_linear, sampled
from export.quantize import block_size_for, quantize_halves

_FINE_STEPS: Final = 16
"""Steps of the fine half in one of the coarse half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvedTable:
    """A table of 8 bits in two halves."""

    coarse: StoredMatrix
    """4 bits, but its scales are those of the fine half: a sixteenth of its own."""
    fine: StoredValue
    """uint8 [rows, blocks * block_size / 2]."""


EmbeddingTable = StoredMatrix | HalvedTable


def store_halves(data: ExternalDataFile, fine_data: ExternalDataFile, name: str, table: Rows) -> HalvedTable:
    """Write a table in one pass, its fine half into a file of its own, of which only looked-up rows are ever read.

    Raises:
        CheckpointError: It cannot be read.
        StorageError: A file cannot be written.
    """
    rows, columns = table.shape
    sample, chunks = sampled([table])
    block_size = block_size_for(sample, 8)
    blocks = -(-columns // block_size)
    fine = fine_data.open_value(f"{name} (fine half)")
    scales: list[NDArray[np.float32]] = []

    def coarse_pieces() -> Iterator[NDArray[np.uint8]]:
        for chunk in chunks:
            halves = quantize_halves(chunk, block_size)
            fine.append(halves.fine)
            scales.append(halves.scales)
            yield halves.coarse

    values = data.store(name, (rows, blocks, block_size // 2), coarse_pieces())
    coarse = StoredMatrix(
        rows=rows,
        columns=columns,
        precision="int4",
        values=values,
        scales=data.store(f"{name} (scales)", (rows, blocks), scales),
        block_size=block_size,
    )
    return HalvedTable(coarse=coarse, fine=fine.close((rows, blocks * block_size // 2)))


def table_record(table: EmbeddingTable) -> HalvedTableRecord | None:
    """Return where a table's halves lie, for the manifest; None of a table that is whole."""
    if isinstance(table, StoredMatrix) or table.coarse.scales is None:
        return None
    coarse, fine, scales = (
        StoredBytes(file=value.file, offset_bytes=value.offset_bytes)
        for value in (table.coarse.values, table.fine, table.coarse.scales)
    )
    return HalvedTableRecord(coarse=coarse, fine=fine, scales=scales, block_size=table.coarse.block_size)


def add_coarse_head(builder: GraphBuilder, name: str, value: str, table: HalvedTable) -> str:
    """Add `value @ coarse.T`: float32 [..., columns] becomes float32 [..., rows]."""
    steps = builder.constant(f"{name}.fine_steps", np.array(_FINE_STEPS, np.float32))
    return add_linear(builder, name, builder.node("Mul", f"{name}/scaled", [value, steps]), table.coarse)


def add_lookup(builder: GraphBuilder, name: str, ids: str, table: EmbeddingTable) -> str:
    """Add the look-up of rows: int64 [1, T] becomes float32 [1, T, columns]."""
    if isinstance(table, StoredMatrix):
        return _lookup(builder, name, ids, table, table.values)
    steps = builder.constant(f"{name}.fine_steps", np.array(_FINE_STEPS, np.float32))
    coarse = _lookup(builder, f"{name}/coarse", ids, table.coarse, table.coarse.values)
    coarse = builder.node("Mul", f"{name}/coarse/scaled", [coarse, steps])
    fine = _lookup(builder, f"{name}/fine", ids, table.coarse, table.fine)
    return builder.node("Add", name, [coarse, fine])


def _lookup(builder: GraphBuilder, name: str, ids: str, matrix: StoredMatrix, values: StoredValue) -> str:
    """Look up rows of `values`, which lie as those of `matrix` and have its scales."""
    if matrix.scales is None:
        return builder.node("Gather", name, [builder.stored(f"{name}.weight", values), ids], axis=0)
    # The bytes of MatMulNBits, seen as rows instead of blocks.
    row_bytes = values.size_bytes // matrix.rows
    flat = replace(values, shape=(matrix.rows, row_bytes))
    inputs = [builder.stored(f"{name}.weight", flat), ids, builder.stored(f"{name}.scales", matrix.scales)]
    rows = builder.node(
        "GatherBlockQuantized",
        name,
        inputs,
        domain=MICROSOFT,
        bits=matrix.bits,
        block_size=matrix.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if row_bytes * 8 // matrix.bits == matrix.columns:
        return rows
    start, stop, axis = (
        builder.constant(key, np.array([value], np.int64))
        for key, value in (("first", 0), ("columns", matrix.columns), ("last_axis", 2))
    )
    return builder.node("Slice", f"{name}/unfilled", [rows, start, stop, axis])
