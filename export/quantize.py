"""Blockwise symmetric quantisation to 4 and 8 bits, each beside its inverse, in the layout of `MatMulNBits`.

8 bits also come in two halves of 4, each in that layout: the coarse half alone is a rough matrix of half the size.

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
_BLOCK_SIZES: Final = (256, 128, 64, 32, 16)
"""Largest first: larger blocks are faster and lose more. Measured in `export/DESIGN.md`."""
_WIDE_COLUMNS: Final = 2048
_NARROW_SIZE: Final[dict[int, int]] = {4: 64, 8: 128}
"""Largest block of a matrix with fewer columns: there speed is not worth the error."""
_LARGEST: Final = 256
_LOSS_MAX: Final = 0.1
"""Share by which the error may grow from blocks of half the size to the largest. Normally distributed weights lose 5 %
more, a Laplace distribution's 8 %; Student's t with 5 degrees of freedom 11 %, so those keep the smaller ones."""

_PADDING_MAX: Final = 0.02
"""Share of a row that may be filling."""
_SCALE_FACTORS: Final = tuple(np.linspace(0.7, 1.2, 8, dtype=np.float32))
"""Scales tried for 4 bits, times |largest| / 8: clipping the largest value a little often loses less in the others."""
_REFITS: Final = 2
"""Times that the best scale is fitted to its integers and the integers to it: a third changes nothing measurable."""
_TILE_VALUES: Final = 1 << 15
"""Values searched at a time: 128 KiB, so that the passes over them stay in the core's own cache."""

_HALVES_LARGEST: Final = 119
"""Largest value of 8 bits in two halves: 7 * 16 + 7, the last whose upper half is one of 4 bits."""
_SCALE_MIN: Final = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedRows:
    """Some rows, quantised.

    `values`: uint8 [rows, blocks * block_size * bits / 8], low half of a byte first for 4 bits.
    `scales`: float32 [rows, blocks].
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvedRows:
    """Some rows in 8 bits, cut in two: a value is (16 * coarse + fine) * scale.

    `coarse` and `fine`: uint8 [rows, blocks * block_size / 2], each as the values of 4 bits.
    `scales`: float32 [rows, blocks], of the fine half.
    """

    coarse: NDArray[np.uint8]
    fine: NDArray[np.uint8]
    scales: NDArray[np.float32]


def block_size_for(sample: NDArray[np.float32], bits: Bits) -> int:
    """Choose a matrix's block size: the largest that leaves little filling and, at 4 bits, costs little error.

    A matrix of 8 bits in two halves has the same: its coarse half is multiplied as 4 bits are.

    Args:
        sample: Some of its rows, float32 [rows, columns].
        bits: What it will be quantised to.
    """
    columns = sample.shape[1]
    for size in _BLOCK_SIZES:
        if size > _NARROW_SIZE[bits] and columns < _WIDE_COLUMNS:
            continue
        if -columns % size > columns * _PADDING_MAX:
            continue
        if bits == 4 and size == _LARGEST and _loss(sample, size) > _LOSS_MAX:
            continue
        return size
    return _BLOCK_SIZES[-1]


def quantize(rows: NDArray[np.float32], bits: Bits, block_size: int) -> QuantizedRows:
    """Quantise rows: float32 [rows, columns], any columns."""
    cut = _cut(rows, block_size)
    if bits == 8:
        return _quantize_int8(cut)
    return _quantize_int4(cut)


def quantize_halves(rows: NDArray[np.float32], block_size: int) -> HalvedRows:
    """Quantise rows to 8 bits in two halves: float32 [rows, columns], any columns."""
    cut = _cut(rows, block_size)
    scales = np.abs(cut).max(axis=2) / np.float32(_HALVES_LARGEST)
    signed = np.rint(cut * _inverse(scales)[:, :, None]).astype(np.int16)
    coarse = (signed + 8) >> 4
    halves = (_packed((half + 8).astype(np.uint8).reshape(len(cut), -1)) for half in (coarse, signed - 16 * coarse))
    return HalvedRows(coarse=next(halves), fine=next(halves), scales=scales)


def dequantize_halves(halved: HalvedRows, columns: int) -> NDArray[np.float32]:
    """Return what both halves together stand for: float32 [rows, columns]."""
    coarse, fine = (
        dequantize(QuantizedRows(values=half, scales=halved.scales), 4, columns)
        for half in (halved.coarse, halved.fine)
    )
    whole: NDArray[np.float32] = 16 * coarse + fine
    return whole


def _loss(rows: NDArray[np.float32], block_size: int) -> float:
    """Return the share by which blocks of 4 bits round more than blocks of half the size do."""
    larger, smaller = (
        np.linalg.norm(dequantize(quantize(rows, 4, size), 4, rows.shape[1]) - rows)
        for size in (block_size, block_size // 2)
    )
    return float(larger / smaller) - 1 if smaller > 0 else 0.0


def dequantize(quantized: QuantizedRows, bits: Bits, columns: int) -> NDArray[np.float32]:
    """Return what the operators compute with: float32 [rows, columns]."""
    values = quantized.values
    if bits == 4:
        values = np.stack([values & 0x0F, values >> 4], axis=-1)
    count, blocks = quantized.scales.shape
    signed = values.reshape(count, blocks, -1).astype(np.float32) - (1 << (bits - 1))
    rows: NDArray[np.float32] = (signed * quantized.scales[:, :, None]).reshape(count, -1)[:, :columns]
    return rows


def _cut(rows: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Fill rows up with zeros and cut them: float32 [rows, blocks, block_size]."""
    count, columns = rows.shape
    blocks = -(-columns // block_size)
    if columns != blocks * block_size:
        rows = np.pad(rows, ((0, 0), (0, blocks * block_size - columns)))
    return rows.reshape(count, blocks, block_size)


def _packed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put two values of 4 bits into a byte, the first one low: uint8 [rows, n] becomes [rows, n / 2]."""
    packed: NDArray[np.uint8] = np.bitwise_or(values[:, 0::2], values[:, 1::2] << np.uint8(4))
    return packed


def _quantize_int8(cut: NDArray[np.float32]) -> QuantizedRows:
    """Round to nearest over -127..127: at 8 bits no other scale is worth looking for."""
    scales = np.abs(cut).max(axis=2) / np.float32(127)
    signed = np.rint(cut * _inverse(scales)[:, :, None])
    values = (signed + 128).astype(np.uint8)
    return QuantizedRows(values=values.reshape(len(cut), -1), scales=scales)


def _quantize_int4(cut: NDArray[np.float32]) -> QuantizedRows:
    """Search the scale of each block that loses least over -8..7."""
    count, blocks, size = cut.shape
    flat = cut.reshape(-1, size)
    scales = np.empty(len(flat), np.float32)
    values = np.empty(flat.shape, np.uint8)
    tile = max(_TILE_VALUES // size, 1)
    for start in range(0, len(flat), tile):
        part = slice(start, start + tile)
        signed, scales[part] = _search(flat[part])
        np.add(signed, 8, out=values[part], casting="unsafe")
    return QuantizedRows(values=_packed(values.reshape(count, -1)), scales=scales.reshape(count, blocks))


def _search(cut: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find integers and scales: float32 [blocks, size] and [blocks], from float32 [blocks, size].

    For given integers q the best scale is <w,q>/<q,q>, and what is left of |w|^2 is |w|^2 - <w,q>^2/<q,q>: the scale
    that makes the second term largest loses least. After the factors, the best scale is improved by turns (alternating
    least squares): integers for the scale, then the scale for the integers.
    """
    low, high = cut.min(axis=1), cut.max(axis=1)
    # Signed so that the value of largest magnitude maps to -8, which the range has and +8 it has not.
    largest = np.where(-low > high, low, high) / np.float32(-8)
    signed = np.empty_like(cut)

    def fit(scale: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Round with a scale; returns the scale that fits the integers best, and its gain."""
        np.multiply(cut, _inverse(scale)[:, None], out=signed)
        np.rint(signed, out=signed)
        np.clip(signed, -8, 7, out=signed)
        along = np.einsum("bk,bk->b", cut, signed)
        fitted = along * _inverse(np.einsum("bk,bk->b", signed, signed))
        return fitted, along * fitted

    best, best_gain, next_scale = largest, np.full(len(cut), -1, np.float32), largest
    for scale in (*(largest * factor for factor in _SCALE_FACTORS), *[None] * _REFITS):
        tried = next_scale if scale is None else scale
        fitted, gain = fit(tried)
        is_better = gain > best_gain
        best = np.where(is_better, tried, best)
        next_scale = np.where(is_better, fitted, next_scale)
        best_gain = np.maximum(gain, best_gain)
    fitted, _ = fit(best)
    return signed, fitted


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1/x, and 0 for 0 and for what is too small to have an inverse: such a block becomes zeros."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=np.abs(scales) >= _SCALE_MIN)
