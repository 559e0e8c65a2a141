"""Runs a bundle's graphs for the comparison with the reference: plain, slow to start, and its own.

The runtime's engine is not used here on purpose: parity must hold for the graphs, whoever drives them.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from appliance.medgemma import bundle as names
from appliance.medgemma.bundle import Bundle
from appliance.medgemma.kv_cache import CacheValues

HIDDEN: Final = np.float32(-1e30)
"""Added to a score to hide a key: far below any score, far above overflow."""
_ROWS_AT_ONCE: Final = 4096
Floats = NDArray[np.float32]


def image_blocks(input_ids: Sequence[int], image_token_id: int | None) -> NDArray[np.int64]:
    """Number the images: int64 [tokens], 0 for text, n for the n-th run of image tokens."""
    is_image = np.array([token == image_token_id for token in input_ids], dtype=bool)
    starts = is_image & ~np.concatenate([[False], is_image[:-1]])
    return np.where(is_image, np.cumsum(starts), 0)


def attention_biases(blocks: NDArray[np.int64], start: int, sliding_window: int) -> tuple[Floats, Floats]:
    """Return the masks of full and of sliding layers for the queries from `start` on.

    A query sees itself and what came before, and the whole of its own image; in sliding layers, of these, only keys
    less than `sliding_window` positions back.

    Args:
        blocks: int64 [S], from `image_blocks`, of all tokens up to the end of the run.
        start: Position of the first query.
        sliding_window: Keys that a sliding query sees, itself included.

    Returns:
        Two float32 [1, 1, S - start, S], 0 or `HIDDEN`.
    """
    queries, keys = np.arange(start, len(blocks))[:, None], np.arange(len(blocks))[None, :]
    same_image = (blocks[queries] == blocks[keys]) & (blocks[queries] > 0)
    full = (keys <= queries) | same_image
    sliding = full & (keys > queries - sliding_window)
    return tuple(np.where(mask, np.float32(0), HIDDEN)[None, None] for mask in (full, sliding))  # type: ignore[return-value]  # two in, two out


def chunk_ends(blocks: NDArray[np.int64], chunk: int) -> list[int]:
    """Cut a prompt into pieces of about `chunk` tokens, never inside an image; returns the end of each."""
    ends, end = [], 0
    while end < len(blocks):
        end = min(end + chunk, len(blocks))
        while end < len(blocks) and blocks[end] > 0 and blocks[end] == blocks[end - 1]:
            end += 1
        ends.append(end)
    return ends


def relative_rms(ours: Floats, theirs: Floats) -> float:
    """Return the root mean square of the difference, in that of `theirs`."""
    rms = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.square(ours.astype(np.float64) - theirs)))) / max(rms, 1e-12)


class BundleSession:
    """The graphs of one bundle, and the cache of one sequence at a time."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        """Load the graphs.

        Args:
            bundle: A checked bundle.
            threads: 0 for one a core.
        """
        self.spec = bundle.manifest.architecture
        self._bundle = bundle
        self._threads = threads
        self._embedding = self._session("embedding")
        self._decoder = self._session("decoder")
        self._inputs = {one.name for one in self._decoder.get_inputs()}
        self._cache_type: type[np.int8 | np.float32] = getattr(np, bundle.manifest.precision.cache)
        self._is_coarse = names.COARSE_LOGITS in {one.name for one in self._decoder.get_outputs()}
        self.coarse_error = 0.0
        """How far the head's coarse logits were off at most, where it has such: relative root mean square of a run."""
        self._caches: dict[str, CacheValues] = {}

    def image_features(self, pixel_values: Floats) -> Floats:
        """Encode images, one at a time: float32 [N, mm_tokens_per_image, hidden_size]."""
        session = self._session("vision")
        features = [session.run([names.IMAGE_FEATURES], {names.PIXEL_VALUES: image[None]})[0] for image in pixel_values]
        return np.concatenate(features)

    def embed(self, input_ids: Sequence[int], features: Floats | None) -> Floats:
        """Embed a prompt and put image features in their places: float32 [1, T, hidden_size]."""
        ids = np.array([input_ids], np.int64)
        embeds: Floats = self._embedding.run([names.INPUTS_EMBEDS], {names.INPUT_IDS: ids})[0]
        if features is not None:
            embeds[0, ids[0] == self.spec.tokens.image_token_id] = features.reshape(-1, features.shape[-1])
        return embeds

    def prefill(
        self, embeds: Floats, blocks: NDArray[np.int64], wanted: Sequence[int], *, chunk: int, capacity: int
    ) -> tuple[Floats, Floats]:
        """Run a prompt through the decoder in pieces, from an empty cache.

        Args:
            embeds: float32 [1, T, hidden_size].
            blocks: int64 [T], from `image_blocks`.
            wanted: Positions whose results are wanted, ascending.
            chunk: Length of a piece in tokens.
            capacity: Positions that the cache can hold.

        Returns:
            Hidden states float32 [len(wanted), hidden_size] and logits float32 [len(wanted), vocab_size].
        """
        text = self.spec.text
        shape = (1, text.num_key_value_heads, capacity, text.head_dim)
        parts: tuple[Literal["key"], Literal["value"]] = ("key", "value")
        layers = range(text.num_hidden_layers)
        self._caches = {
            names.past_name(layer, part): np.zeros(shape, self._cache_type) for layer in layers for part in parts
        }
        results, start = [], 0
        for end in chunk_ends(blocks, chunk):
            indices = [position - start for position in wanted if start <= position < end]
            results.append(self.step(embeds[:, start:end], blocks[:end], indices))
            start = end
        hidden, logits = zip(*results, strict=True)
        return np.concatenate(hidden), np.concatenate(logits)

    def step(self, embeds: Floats, blocks: NDArray[np.int64], indices: Sequence[int]) -> tuple[Floats, Floats]:
        """Run some tokens after those in the cache; returns hidden states and logits at `indices` of this run."""
        total, count = len(blocks), embeds.shape[1]
        full, sliding = attention_biases(blocks, total - count, self.spec.text.sliding_window)
        feed: dict[str, NDArray[Any]] = {
            names.INPUTS_EMBEDS: np.ascontiguousarray(embeds),
            names.POSITION_IDS: np.arange(total - count, total, dtype=np.int64)[None],
            names.ATTENTION_BIAS: full,
            names.ATTENTION_BIAS_SLIDING: sliding,
            # Whole caches for sliding layers too: what a window leaves out is up to the mask alone here.
            names.SEQLENS_K: np.array([total - 1], np.int32),
            names.SEQLENS_K_SLIDING: np.array([total - 1], np.int32),
            names.TOTAL_SEQUENCE_LENGTH: np.array(total, np.int32),
            names.TOTAL_SEQUENCE_LENGTH_SLIDING: np.array(total, np.int32),
            names.LOGITS_INDICES: np.array(indices, np.int64),
        }
        binding = self._decoder.io_binding()
        for name, value in feed.items():
            if name in self._inputs:
                binding.bind_cpu_input(name, value)
        for name, cache in self._caches.items():
            present = name.replace("past_key_values.", "present.")
            for bind, end in ((binding.bind_input, name), (binding.bind_output, present)):
                bind(end, "cpu", 0, self._cache_type, cache.shape, cache.ctypes.data)
        logits_name = names.COARSE_LOGITS if self._is_coarse else names.LOGITS
        for name in (names.HIDDEN_STATES, logits_name):
            binding.bind_output(name, "cpu")
        self._decoder.run_with_iobinding(binding)
        hidden, logits = (output[0] for output in binding.copy_outputs_to_cpu()[-2:])
        return hidden, self._exact_logits(hidden, logits) if self._is_coarse else logits

    def _exact_logits(self, hidden: Floats, coarse: Floats) -> Floats:
        """Multiply with the whole table, as the runtime does for the tokens that can win: float32 [K, vocab_size]."""
        exact = np.empty_like(coarse)
        vocab_size, scale = coarse.shape[1], np.float32(np.sqrt(hidden.shape[1]))
        for start in range(0, vocab_size, _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE, vocab_size)
            exact[:, start:end] = hidden @ (self.embed(range(start, end), None)[0] / scale).T
        self.coarse_error = max(self.coarse_error, relative_rms(coarse, exact))
        return exact

    def _session(self, graph: Literal["vision", "embedding", "decoder"]) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        path = str(self._bundle.graph_path(graph))
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
