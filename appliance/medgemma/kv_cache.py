"""The decoder's memory: keys and values of the tokens so far, in buffers that the graph reads and writes in place.

Full layers keep every token. Sliding layers never look further back than their window, so theirs is a shorter buffer
whose content moves to the front when it is full: a context of 32,768 tokens takes 0.5 GB instead of 2.3 GB at the 4B
shape. It knows nothing of what the tokens were.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.bundle import past_name, present_name
from appliance.medgemma.spec import CachePrecision, TextSpec

if TYPE_CHECKING:
    import onnxruntime as ort

Layer = tuple[int, Literal["key", "value"]]
CacheValues = NDArray[np.int8 | np.float32]
_PARTS: Final[tuple[Literal["key"], Literal["value"]]] = ("key", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSnapshot:
    """A copy of the first tokens of a cache, to go on from later."""

    length: int
    """Tokens in it."""
    buffers: Mapping[Layer, CacheValues] = field(repr=False)
    """int8 or float32 [1, num_key_value_heads, length, head_dim] of each layer and part."""

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return sum(buffer.nbytes for buffer in self.buffers.values())


class KvCache:
    """Fixed buffers for one sequence: int8 or float32 [1, num_key_value_heads, C or W, head_dim], two a layer.

    On the CPU the pages are zeroed by the kernel when they are first touched: a long context costs memory only as far
    as it is used.
    """

    def __init__(
        self,
        spec: TextSpec,
        context_length: int,
        longest_run: int,
        device: Literal["cpu", "cuda"],
        precision: CachePrecision,
    ) -> None:
        """Make room.

        Args:
            spec: The decoder's shape.
            context_length: C, tokens that fit into the full layers' buffers.
            longest_run: Tokens that one run appends at most.
            device: Where the buffers lie. On "cuda" sliding layers keep everything too: moving their content would
                need kernels of our own.
            precision: What the graph keeps.
        """
        self.context_length = context_length
        """C: tokens that fit."""
        self.length = 0
        """Tokens that have been appended; the next one's position."""
        self.sliding_start = 0
        """Position of the first token that the sliding layers still hold."""
        self._window = spec.sliding_window
        self.sliding_length = sliding_length(spec.sliding_window, context_length, longest_run, device)
        """W: tokens that fit into the sliding layers' buffers."""
        self._sliding_layers = {layer for layer, kind in enumerate(spec.layer_types) if kind == "sliding_attention"}
        self._memories: list[mmap.mmap] = []
        self._arrays: dict[Layer, CacheValues] = {}
        self._values: dict[Layer, ort.OrtValue] = {}
        for layer in range(spec.num_hidden_layers):
            length = self.sliding_length if layer in self._sliding_layers else context_length
            shape = (1, spec.num_key_value_heads, length, spec.head_dim)
            for part in _PARTS:
                self._allocate((layer, part), shape, np.dtype(precision), device)

    def bind(self, binding: "ort.IOBinding") -> None:
        """Bind each buffer as past and as present, so that a run appends to it without a copy."""
        for layer, value in self._values.items():
            binding.bind_ortvalue_input(past_name(*layer), value)
            binding.bind_ortvalue_output(present_name(*layer), value)

    def make_room(self, tokens: int) -> None:
        """Have the sliding layers forget what no later token can see, if the next `tokens` would not fit otherwise."""
        if self.length - self.sliding_start + tokens <= self.sliding_length:
            return
        kept = min(self._window - 1, self.length - self.sliding_start)
        first = self.length - self.sliding_start - kept
        for (layer, _), array in self._arrays.items():
            if layer in self._sliding_layers:
                # numpy copies through a buffer of its own where source and target overlap.
                array[:, :, :kept] = array[:, :, first : first + kept]
        self.sliding_start = self.length - kept

    def can_rewind(self, length: int) -> bool:
        """Whether the sequence can go on after its first `length` tokens: whether what they need is still there."""
        return length <= self.length and self.sliding_start <= max(0, length - self._window + 1)

    def clear(self) -> None:
        """Forget everything."""
        self.length = self.sliding_start = 0

    def forget(self) -> None:
        """Forget everything, and give the memory that it lay in back to the kernel, which hands it out zeroed."""
        self.clear()
        for memory in self._memories:
            memory.madvise(mmap.MADV_DONTNEED)

    def copy(self, length: int) -> KvSnapshot | None:
        """Copy the first tokens; `None` where the sliding layers have forgotten some of them, or on a device."""
        if length > self.length or self.sliding_start > 0 or not self._arrays:
            return None
        return KvSnapshot(
            length=length, buffers={layer: array[:, :, :length].copy() for layer, array in self._arrays.items()}
        )

    def restore(self, snapshot: KvSnapshot) -> None:
        """Go on from a copy made by this cache."""
        for layer, buffer in snapshot.buffers.items():
            self._arrays[layer][:, :, : snapshot.length] = buffer
        self.length, self.sliding_start = snapshot.length, 0

    def _allocate(
        self, layer: Layer, shape: tuple[int, ...], dtype: np.dtype[Any], device: Literal["cpu", "cuda"]
    ) -> None:
        import onnxruntime as ort

        if device == "cuda":
            self._values[layer] = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, device)
            return
        memory = _lazy_zeros(int(np.prod(shape)) * dtype.itemsize)
        self._memories.append(memory)
        self._arrays[layer] = np.frombuffer(memory, dtype=dtype).reshape(shape)
        # Refers to the array's memory and keeps it alive.
        self._values[layer] = ort.OrtValue.ortvalue_from_numpy(self._arrays[layer])


def _lazy_zeros(size_bytes: int) -> mmap.mmap:
    """Return zeros whose memory is taken page by page as it is written.

    numpy asks for huge pages, and a head's first token would take 2 MB: 540 MB at the 4B shape for one token.
    """
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def sliding_length(window: int, context_length: int, longest_run: int, device: Literal["cpu", "cuda"]) -> int:
    """Return the tokens that a sliding layer's buffer holds.

    Two windows and a run: content moves once a window of new tokens, which costs nothing that can be measured, and a
    question about what was read less than a window ago needs nothing again.
    """
    return context_length if device == "cuda" else min(context_length, 2 * window + longest_run)


def cache_bytes(spec: TextSpec, tokens: int, sliding_tokens: int, precision: CachePrecision) -> int:
    """Return the memory of a cache that holds `tokens`, of which sliding layers hold at most `sliding_tokens`."""
    sliding = sum(kind == "sliding_attention" for kind in spec.layer_types)
    a_layer = 2 * spec.num_key_value_heads * spec.head_dim * np.dtype(precision).itemsize
    return a_layer * (sliding * min(tokens, sliding_tokens) + (spec.num_hidden_layers - sliding) * tokens)
