"""The decoder's memory: keys and values of every token so far, in buffers that the graph reads and writes in place."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from appliance.medgemma.bundle import past_name, present_name
from appliance.medgemma.spec import TextSpec

if TYPE_CHECKING:
    import onnxruntime as ort


class KvCache:
    """Fixed buffers for one sequence: float32 [1, num_key_value_heads, C, head_dim], two a layer.

    On the CPU the pages are zeroed by the kernel when they are first touched: a long context costs memory only as far
    as it is used.
    """

    def __init__(self, spec: TextSpec, context_length: int, device: Literal["cpu", "cuda"]) -> None:
        self.context_length = context_length
        """C: tokens that fit."""
        self.length = 0
        """Tokens whose keys and values are valid; what lies behind is overwritten."""
        shape = (1, spec.num_key_value_heads, context_length, spec.head_dim)
        self._buffers = {
            (past_name(layer, part), present_name(layer, part)): _buffer(shape, device)
            for layer in range(spec.num_hidden_layers)
            for part in _PARTS
        }

    def bind(self, binding: "ort.IOBinding") -> None:
        """Bind each buffer as past and as present, so that a run appends to it without a copy."""
        for (past, present), buffer in self._buffers.items():
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)


_PARTS: tuple[Literal["key"], Literal["value"]] = ("key", "value")


def _buffer(shape: tuple[int, ...], device: Literal["cpu", "cuda"]) -> "ort.OrtValue":
    import onnxruntime as ort

    if device == "cpu":
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.float32))
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device)
