"""The decoder graph with its cache: tokens in, logits of the last one out.

It does not choose tokens. Positions count from 0 at `<bos>`; the cache's length is the next position.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.attention import TEXT_BLOCK, attention_bias, image_blocks, plan_chunks
from appliance.medgemma.bundle import (
    ATTENTION_BIAS,
    ATTENTION_BIAS_SLIDING,
    INPUT_IDS,
    INPUTS_EMBEDS,
    LOGITS,
    LOGITS_INDICES,
    POSITION_IDS,
    SEQLENS_K,
    TOTAL_SEQUENCE_LENGTH,
)
from appliance.medgemma.kv_cache import KvCache
from appliance.medgemma.prompt import Prompt
from appliance.medgemma.sessions import Brake, Session
from appliance.medgemma.spec import GemmaSpec


class Decoder:
    """One sequence at a time, in a cache of fixed length."""

    def __init__(self, embedding: Session, decoder: Session, spec: GemmaSpec, context_length: int) -> None:
        self._embedding = embedding
        self._session = decoder
        self._spec = spec
        self._cache = KvCache(spec.text, context_length, decoder.device)
        self._blocks = np.full(context_length, TEXT_BLOCK, dtype=np.int32)
        # A view of the bound buffer: [V] of [1, K = 1, V].
        self._logits: NDArray[np.float32] = np.zeros(spec.text.vocab_size, dtype=np.float32)
        self._binding = decoder.binding()
        self._cache.bind(self._binding)
        self._bind_logits()

    @property
    def is_full(self) -> bool:
        """Whether the cache has no room for another token."""
        return self._cache.length >= self._cache.context_length

    def prefill(
        self, prompt: Prompt, features: Sequence[NDArray[np.float32]], chunk_tokens: int, brake: Brake
    ) -> NDArray[np.float32]:
        """Forget what was, then read a prompt chunk by chunk.

        Args:
            prompt: What to read; it fits into the cache.
            features: float32 [M, H] of each image of the prompt, in order.
            chunk_tokens: Longest run.
            brake: Ends the prefill early.

        Returns:
            float32 [V], logits of the token after the prompt; overwritten by the next run.

        Raises:
            InferenceError: A graph fails.
            InterruptedRunError: The brake was pulled.
        """
        self._cache.length = 0
        self._blocks[:] = TEXT_BLOCK
        self._blocks[: len(prompt.token_ids)] = image_blocks(prompt.token_ids, self._spec.tokens.image_token_id)
        for start, end in plan_chunks(len(prompt.token_ids), prompt.image_spans, chunk_tokens):
            inputs_embeds = self._embed(prompt.token_ids[start:end], brake)
            for span, values in _images_within(zip(prompt.image_spans, features, strict=True), start, end):
                inputs_embeds[0, span] = values
            self._run(inputs_embeds, brake)
        return self._logits

    def step(self, token_id: int, brake: Brake) -> NDArray[np.float32]:
        """Append one token and return the logits of the next: float32 [V], overwritten by the next run.

        Raises:
            InferenceError: A graph fails.
            InterruptedRunError: The brake was pulled.
        """
        self._run(self._embed((token_id,), brake), brake)
        return self._logits

    def _embed(self, token_ids: Sequence[int], brake: Brake) -> NDArray[np.float32]:
        """Return `inputs_embeds`, float32 [1, T, H]; where an image stands, anything."""
        input_ids = np.asarray(token_ids, dtype=np.int64)[np.newaxis]
        if self._spec.tokens.image_token_id is not None:
            # A checkpoint may keep the soft token's id outside its table; its embedding is never used.
            outside = input_ids >= self._spec.text.vocab_size
            input_ids = np.where(outside, self._spec.tokens.pad_token_id, input_ids)
        return self._embedding.run([INPUTS_EMBEDS], {INPUT_IDS: input_ids}, brake)[0]

    def _run(self, inputs_embeds: NDArray[np.float32], brake: Brake) -> None:
        """Append T tokens; the logits of the last one land in `self._logits`."""
        tokens = inputs_embeds.shape[1]
        start, end = self._cache.length, self._cache.length + tokens
        blocks = self._blocks[:end]
        feeds = {
            INPUTS_EMBEDS: inputs_embeds,
            POSITION_IDS: np.arange(start, end, dtype=np.int64)[np.newaxis],
            ATTENTION_BIAS: attention_bias(blocks, start, None),
            ATTENTION_BIAS_SLIDING: attention_bias(blocks, start, self._spec.text.sliding_window),
            SEQLENS_K: np.array([end - 1], dtype=np.int32),
            TOTAL_SEQUENCE_LENGTH: np.array(end, dtype=np.int32),
            LOGITS_INDICES: np.array([tokens - 1], dtype=np.int64),
        }
        # Bound by address: `feeds` keeps the arrays alive until the run is over.
        for name in feeds.keys() & self._session.input_names:
            self._binding.bind_cpu_input(name, feeds[name])
        self._session.run_bound(self._binding, brake)
        self._cache.length = end

    def _bind_logits(self) -> None:
        import onnxruntime as ort

        self._logits_value = ort.OrtValue.ortvalue_from_numpy(self._logits[np.newaxis, np.newaxis])
        for name in self._session.output_names:
            if name == LOGITS:
                self._binding.bind_ortvalue_output(name, self._logits_value)
            elif not name.startswith("present."):
                self._binding.bind_output(name)


def _images_within(
    images: Iterable[tuple[tuple[int, int], NDArray[np.float32]]], start: int, end: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the images of a chunk, placed relative to its start; the plan never splits one."""
    for (first, last), values in images:
        if start <= first and last <= end:
            yield slice(first - start, last - start), values
