"""The decoder graph with its cache: tokens in, logits of the last one out.

It does not choose tokens. Positions count from 0 at `<bos>`; the cache's length is the next position. What two prompts
begin with alike is read once: the photo of one question is still there for the next (`prefixes.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.attention import TEXT_BLOCK, attention_bias, image_blocks, plan_chunks
from appliance.medgemma.bundle import (
    ATTENTION_BIAS,
    ATTENTION_BIAS_SLIDING,
    COARSE_LOGITS,
    HIDDEN_STATES,
    INPUT_IDS,
    INPUTS_EMBEDS,
    LOGITS,
    LOGITS_INDICES,
    POSITION_IDS,
    SEQLENS_K,
    SEQLENS_K_SLIDING,
    TOTAL_SEQUENCE_LENGTH,
    TOTAL_SEQUENCE_LENGTH_SLIDING,
)
from appliance.medgemma.halved_table import HalvedTable
from appliance.medgemma.kv_cache import KvCache
from appliance.medgemma.prefixes import PrefixStore, PromptKey, common_length, prompt_keys
from appliance.medgemma.prompt import Prompt
from appliance.medgemma.sessions import Brake, Session
from appliance.medgemma.shortlist import settle
from appliance.medgemma.spec import CachePrecision, GemmaSpec
from appliance.medgemma.vision import ImageFeatures


class Decoder:
    """One sequence at a time, in a cache of fixed length."""

    def __init__(
        self,
        embedding: Session,
        decoder: Session,
        spec: GemmaSpec,
        *,
        cache_precision: CachePrecision,
        context_length: int,
        chunk_tokens: int,
        prefix_bytes: int,
        table: HalvedTable | None = None,
    ) -> None:
        """Make the cache.

        Args:
            embedding: Token ids to embeddings.
            decoder: Embeddings to logits.
            spec: The model's shape.
            cache_precision: What the graph keeps of keys and values.
            context_length: Tokens in the cache.
            chunk_tokens: Longest run of a prefill; an image is never split, so a run may be longer.
            prefix_bytes: Memory for copies of prompts' beginnings.
            table: Whole rows of the head, for a graph whose logits are coarse.
        """
        self._embedding = embedding
        self._session = decoder
        self._spec = spec
        self._chunk_tokens = chunk_tokens
        image_tokens = 0 if spec.vision is None else spec.vision.mm_tokens_per_image
        self._cache = KvCache(
            spec.text, context_length, max(chunk_tokens, image_tokens), decoder.device, cache_precision
        )
        self._blocks = np.full(context_length, TEXT_BLOCK, dtype=np.int32)
        self._keys: list[PromptKey] = []  # of the tokens in the cache, as many as its length
        self._prefixes = PrefixStore(prefix_bytes)
        # Views of bound buffers: [V] of [1, K = 1, V], [H] of [1, K = 1, H].
        self._logits: NDArray[np.float32] = np.zeros(spec.text.vocab_size, dtype=np.float32)
        self._hidden_state: NDArray[np.float32] = np.zeros(spec.text.hidden_size, dtype=np.float32)
        self._table = table
        self._binding = decoder.binding()
        self._cache.bind(self._binding)
        self._bind_outputs()

    @property
    def placement(self) -> Mapping[str, int]:
        """Nodes of the graph by the execution provider that runs them."""
        return self._session.placement

    @property
    def room(self) -> int:
        """Tokens that still fit into the cache."""
        return self._cache.context_length - self._cache.length

    def prefill(
        self, prompt: Prompt, features: Sequence[ImageFeatures], brake: Brake
    ) -> tuple[NDArray[np.float32], int]:
        """Read a prompt chunk by chunk, but for what the cache or a kept prefix holds of it.

        Args:
            prompt: What to read; it fits into the cache.
            features: Of each image of the prompt, in order.
            brake: Ends the prefill early.

        Returns:
            float32 [V], logits of the token after the prompt, to be settled, overwritten by the next run; and how many
            of the prompt's tokens were there already.

        Raises:
            InferenceError: A graph fails.
            InterruptedRunError: The brake was pulled.
        """
        keys = prompt_keys(prompt, [one.sha256 for one in features])
        reused = self._resume(keys, prompt.image_spans)
        self._blocks[:] = TEXT_BLOCK
        self._blocks[: len(keys)] = image_blocks(prompt.token_ids, self._spec.tokens.image_token_id)
        for start, end in plan_chunks(len(keys), prompt.image_spans, self._chunk_tokens, first=reused):
            inputs_embeds = self._embed(prompt.token_ids[start:end], brake)
            for span, values in _images_within(prompt, features, start, end):
                inputs_embeds[0, span] = values
            self._run(inputs_embeds, keys[start:end], brake)
        return self._logits, reused

    def keep_prefix(self, length: int) -> None:
        """Keep a copy of what the cache holds of its first `length` tokens, for later prompts that begin alike."""
        snapshot = self._cache.copy(length)
        if snapshot is not None:
            self._prefixes.keep(tuple(self._keys[:length]), snapshot)

    def forget(self) -> None:
        """Forget what was read, in the cache and in the kept prefixes, and give its memory back."""
        self._prefixes.clear()
        self._keys.clear()
        self._cache.forget()

    def append(self, token_ids: Sequence[int], brake: Brake) -> NDArray[np.float32]:
        """Append tokens and return the logits of the next: float32 [V], to be settled, overwritten by the next run.

        Raises:
            InferenceError: A graph fails.
            InterruptedRunError: The brake was pulled.
        """
        for start in range(0, len(token_ids), self._chunk_tokens):
            part = token_ids[start : start + self._chunk_tokens]
            self._run(self._embed(part, brake), part, brake)
        return self._logits

    def settle(self, logits: NDArray[np.float32]) -> None:
        """Make the logits of the last run exact where it matters, once those of tokens not allowed are -inf.

        Args:
            logits: float32 [V], as the run gave them out but for what is not allowed; changed in place.

        Raises:
            InferenceError: The table cannot be read.
        """
        if self._table is not None:
            settle(logits, self._hidden_state, self._table.rows)

    def _resume(self, keys: Sequence[PromptKey], spans: Sequence[tuple[int, int]]) -> int:
        """Rewind the cache, or restore a kept prefix, to the longest beginning of `keys` there is; return its length.

        The last token is always left to be run, for its logits; an image is there whole or not at all.
        """
        held = _outside_images(min(common_length(self._keys, keys), len(keys) - 1), spans)
        kept_keys, snapshot = self._prefixes.longest(keys[:-1])
        kept = _outside_images(len(kept_keys), spans)
        if not self._cache.can_rewind(held):
            held = 0
        if snapshot is not None and kept == snapshot.length and kept > held:
            self._cache.restore(snapshot)
            self._keys = list(kept_keys)
            return kept
        if held == 0:
            self._cache.clear()
        self._cache.length = held
        del self._keys[held:]
        return held

    def _embed(self, token_ids: Sequence[int], brake: Brake) -> NDArray[np.float32]:
        """Return `inputs_embeds`, float32 [1, T, H]; where an image stands, anything."""
        input_ids = np.asarray(token_ids, dtype=np.int64)[np.newaxis]
        if self._spec.tokens.image_token_id is not None:
            # A checkpoint may keep the soft token's id outside its table; its embedding is never used.
            outside = input_ids >= self._spec.text.vocab_size
            input_ids = np.where(outside, self._spec.tokens.pad_token_id, input_ids)
        return self._embedding.run([INPUTS_EMBEDS], {INPUT_IDS: input_ids}, brake)[0]

    def _run(self, inputs_embeds: NDArray[np.float32], keys: Sequence[PromptKey], brake: Brake) -> None:
        """Append T tokens; the logits of the last one land in `self._logits`."""
        tokens = inputs_embeds.shape[1]
        self._cache.make_room(tokens)
        start, end, sliding_start = self._cache.length, self._cache.length + tokens, self._cache.sliding_start
        feeds = self._masks(start, end, sliding_start) | {
            INPUTS_EMBEDS: inputs_embeds,
            POSITION_IDS: np.arange(start, end, dtype=np.int64)[np.newaxis],
            SEQLENS_K: np.array([end - 1], dtype=np.int32),
            SEQLENS_K_SLIDING: np.array([end - sliding_start - 1], dtype=np.int32),
            TOTAL_SEQUENCE_LENGTH: np.array(end, dtype=np.int32),
            TOTAL_SEQUENCE_LENGTH_SLIDING: np.array(end - sliding_start, dtype=np.int32),
            LOGITS_INDICES: np.array([tokens - 1], dtype=np.int64),
        }
        # Bound by address: `feeds` keeps the arrays alive until the run is over.
        for name in feeds.keys() & self._session.input_names:
            self._binding.bind_cpu_input(name, feeds[name])
        self._session.run_bound(self._binding, brake)
        self._cache.length = end
        self._keys.extend(keys)

    def _masks(self, start: int, end: int, sliding_start: int) -> dict[str, NDArray[Any]]:
        """Say what the tokens from `start` to `end` may see, in full layers and in sliding ones."""
        blocks, window = self._blocks[:end], self._spec.text.sliding_window
        return {
            ATTENTION_BIAS: attention_bias(blocks, start, None),
            ATTENTION_BIAS_SLIDING: attention_bias(blocks[sliding_start:], start - sliding_start, window),
        }

    def _bind_outputs(self) -> None:
        import onnxruntime as ort

        logits = LOGITS if self._table is None else COARSE_LOGITS
        # The session writes into the arrays; the values must live as long as the binding.
        self._bound = {
            name: ort.OrtValue.ortvalue_from_numpy(buffer[np.newaxis, np.newaxis])
            for name, buffer in ((logits, self._logits), (HIDDEN_STATES, self._hidden_state))
        }
        for name, value in self._bound.items():
            self._binding.bind_ortvalue_output(name, value)


def _outside_images(length: int, spans: Sequence[tuple[int, int]]) -> int:
    """Shorten a prefix that ends inside an image to the place before it."""
    return next((start for start, end in spans if start < length < end), length)


def _images_within(
    prompt: Prompt, features: Sequence[ImageFeatures], start: int, end: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the images of a chunk, placed relative to its start; the plan never splits one."""
    for (first, last), image in zip(prompt.image_spans, features, strict=True):
        if start <= first and last <= end:
            yield slice(first - start, last - start), image.values
