"""Blockwise symmetric quantisation to 4 and 8 bits, each beside its inverse, in the layout of `MatMulNBits`.

A row is cut into blocks of consecutive columns; a block has one float32 scale, and the zero point is the middle of the
range (8 or 128), which operators assume when none is given. Rows whose length is no multiple of the block are filled up
with zeros. The same bytes serve `GatherBlockQuantized` as an embedding table.
Source: ONNX Runtime `docs/ContribOperators.md`, MatMulNBits and GatherBlockQuantized.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Bits = Literal[4, 8]
_BLOCK_SIZES: Final[dict[int, tuple[int, ...]]] = {4: (64, 32, 16), 8: (128, 64, 32, 16)}
"""Largest first: larger blocks are faster and lose more. Measured in `export/DESIGN.md`."""
_PADDING_MAX: Final = 0.02
"""Share of a row that may be filling."""
_SCALE_FACTORS: Final = (1.0, 0.92, 0.85, 8 / 7)
"""Scales tried for 4 bits, times |largest| / 8: clipping the largest value a little often loses less in the others."""

_SCALE_MIN: Final = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRows:
    """Some rows, quantised.

    `values`: uint8 [rows, blocks * block_size * bits / 8], low half of a byte first for 4 bits.
    `scales`: float32 [rows, blocks].
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]


def block_size_for(columns: int, bits: Bits) -> int:
    """Choose a block size: the largest that leaves little filling, otherwise the smallest."""
    for size in _BLOCK_SIZES[bits]:
        if -columns % size <= columns * _PADDING_MAX:
            return size
    return _BLOCK_SIZES[bits][-1]


def quantize(rows: NDArray[np.float32], bits: Bits, block_size: int) -> QuantizedRows:
    """Quantise rows: float32 [rows, columns], any columns."""
    count, columns = rows.shape
    blocks = -(-columns // block_size)
    if columns != blocks * block_size:
        rows = np.pad(rows, ((0, 0), (0, blocks * block_size - columns)))
    cut = rows.reshape(count, blocks, block_size)
    if bits == 8:
        return _quantize_int8(cut)
    return _quantize_int4(cut)


def dequantize(quantized: QuantizedRows, bits: Bits, columns: int) -> NDArray[np.float32]:
    """Return what the operators compute with: float32 [rows, columns]."""
    values = quantized.values
    if bits == 4:
        values = np.stack([values & 0x0F, values >> 4], axis=-1)
    count, blocks = quantized.scales.shape
    signed = values.reshape(count, blocks, -1).astype(np.float32) - (1 << (bits - 1))
    rows: NDArray[np.float32] = (signed * quantized.scales[:, :, None]).reshape(count, -1)[:, :columns]
    return rows


def _quantize_int8(cut: NDArray[np.float32]) -> QuantizedRows:
    """Round to nearest over -127..127: at 8 bits no other scale is worth looking for."""
    scales = np.abs(cut).max(axis=2) / np.float32(127)
    signed = np.rint(cut * _inverse(scales)[:, :, None])
    values = (signed + 128).astype(np.uint8)
    return QuantizedRows(values=values.reshape(len(cut), -1), scales=scales)


def _quantize_int4(cut: NDArray[np.float32]) -> QuantizedRows:
    """Round to nearest over -8..7 with the best of a few scales, each refitted by least squares.

    For given integers q the best scale is <w,q>/<q,q>, and what is left of |w|^2 is |w|^2 - <w,q>^2/<q,q>: the scale
    that makes the second term largest loses least.
    """
    low, high = cut.min(axis=2), cut.max(axis=2)
    # Signed so that the value of largest magnitude maps to -8, which the range has and +8 it has not.
    largest = np.where(-low > high, low, high) / np.float32(-8)
    best_gain = np.full(largest.shape, -1, np.float32)
    best_scale = np.zeros_like(largest)
    best = np.zeros(cut.shape, np.int8)
    for factor in _SCALE_FACTORS:
        signed = cut * _inverse(largest * np.float32(factor))[:, :, None]
        np.rint(signed, out=signed)
        np.clip(signed, -8, 7, out=signed)
        along = np.einsum("rbk,rbk->rb", cut, signed)
        square = np.einsum("rbk,rbk->rb", signed, signed)
        scale = along * _inverse(square)
        gain = along * scale
        better = gain > best_gain
        best_gain[better], best_scale[better] = gain[better], scale[better]
        best[better] = signed[better].astype(np.int8)
    values = (best + 8).astype(np.uint8).reshape(len(cut), -1)
    packed: NDArray[np.uint8] = np.bitwise_or(values[:, 0::2], values[:, 1::2] << np.uint8(4))
    return QuantizedRows(values=packed, scales=best_scale)


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1/x, and 0 for 0 and for what is too small to have an inverse: such a block becomes zeros."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=np.abs(scales) >= _SCALE_MIN)
