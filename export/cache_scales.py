"""Scales of a cache in int8: how large keys and values can become, told from the weights alone.

No prompt is run for it, so an export needs neither ONNX Runtime nor memory for the model. What the rounding costs is
measured in `export/DESIGN.md`, "Cache".
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.safetensors_file import StoredTensor

_LARGEST_INTEGER: Final = 127
_DEVIATIONS: Final = 24
"""How many standard deviations a value may be from zero before it is clipped: three to four times as far as the
demonstration model's go. A deviation is that of an input without a preferred direction."""
_LEAST_SCALE: Final = 1e-12
"""In place of 0, for a channel that is always 0."""


def key_scales(norm_weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return scales of keys, none of which is ever clipped: float32 [1, heads, 1, head_dim].

    The norm gives every key the length sqrt(head_dim) before its weight is applied, and the rotation after it turns
    channel c into channel c + head_dim / 2: what comes out is no larger than the larger of both weights allows.

    Args:
        norm_weight: float32 [head_dim], what normed keys are multiplied with.
        heads: Heads of keys and values.
    """
    head_dim = len(norm_weight)
    in_pair = np.abs(norm_weight).reshape(2, -1).max(axis=0)
    return _scales(np.tile(in_pair, (heads, 2)) * math.sqrt(head_dim))


def value_scales(matrix: StoredTensor, norm_weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return scales of values: float32 [1, heads, 1, head_dim].

    Values are products of a row and a normed input, whose length is sqrt(hidden_size) before its weight is applied.
    One along the row itself would be sqrt(hidden_size) deviations from zero, and none can be further.

    Args:
        matrix: The value projection, [heads * head_dim, hidden_size].
        norm_weight: float32 [hidden_size], what normed inputs are multiplied with.
        heads: Heads of keys and values.

    Raises:
        CheckpointError: The matrix cannot be read.
    """
    deviations = np.concatenate([np.linalg.norm(rows * norm_weight, axis=1) for rows in matrix.row_chunks()])
    return _scales(min(_DEVIATIONS, math.sqrt(len(norm_weight))) * deviations.reshape(heads, -1))


def _scales(largest: NDArray[np.floating]) -> NDArray[np.float32]:
    """Turn the largest magnitude of each channel, [heads, head_dim], into what one step of an integer is worth."""
    steps: NDArray[np.float32] = np.maximum(largest / _LARGEST_INTEGER, _LEAST_SCALE).astype(np.float32)
    return steps[np.newaxis, :, np.newaxis, :]
