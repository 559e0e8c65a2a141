"""Who may look at whom: additive attention masks and the plan of prefill chunks.

Pure numpy; it knows positions and image blocks, not graphs.
Source: `create_masks_for_vision_model` in transformers 5.23, `models/gemma3/modeling_gemma3.py`: full layers see
OR(causal, same image), sliding layers AND(window, OR(causal, same image)).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

MASKED: Final = np.float32(-1e9)
"""Added to a score that must not count. Finite, so that no kernel meets inf - inf; exp() of it is 0 in float32."""

TEXT_BLOCK: Final = -1
"""The block id of every token that is not an image soft token."""


def image_blocks(token_ids: Sequence[int], image_token_id: int | None) -> NDArray[np.int32]:
    """Number the images of a prompt.

    Returns:
        int32 [T]: the ordinal of the image that a soft token belongs to, `TEXT_BLOCK` for every other token. Soft
        tokens that touch are one image.
    """
    is_image = np.asarray(token_ids, dtype=np.int64) == (-1 if image_token_id is None else image_token_id)
    starts = is_image & ~np.concatenate(([False], is_image[:-1]))
    return np.where(is_image, np.cumsum(starts) - 1, TEXT_BLOCK).astype(np.int32)


def image_spans(blocks: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return the half-open span [start, end) of each image block, in order."""
    edges = np.flatnonzero(np.diff(blocks, prepend=TEXT_BLOCK, append=TEXT_BLOCK))
    return [(int(start), int(end)) for start, end in pairwise(edges) if blocks[start] >= 0]


def attention_bias(blocks: NDArray[np.int32], first_query: int, sliding_window: int | None) -> NDArray[np.float32]:
    """Return what is added to the scores of the queries [first_query, S).

    Args:
        blocks: int32 [S], the block id of every token in the cache after this run.
        first_query: Position of this run's first token, 0 <= first_query < S.
        sliding_window: Keys that a query sees, itself included; `None` for full layers.

    Returns:
        float32 [1, 1, S - first_query, S]: 0 where the query may look, `MASKED` elsewhere.
    """
    keys = np.arange(len(blocks))
    queries = keys[first_query:, np.newaxis]
    query_blocks = blocks[first_query:, np.newaxis]
    is_visible = (keys <= queries) | ((query_blocks == blocks) & (query_blocks >= 0))
    if sliding_window is not None:
        # The window looks back only: within an image, every later soft token stays visible, as in the reference.
        is_visible &= keys > queries - sliding_window
    return np.where(is_visible, np.float32(0), MASKED)[np.newaxis, np.newaxis]


def plan_chunks(
    token_count: int, spans: Sequence[tuple[int, int]], chunk_tokens: int, first: int = 0
) -> list[tuple[int, int]]:
    """Cut a prompt into runs of at most `chunk_tokens` that never split an image.

    A soft token looks at later ones of its image, so their keys must be written in the same run. An image longer than
    `chunk_tokens` becomes a chunk of its own.

    Args:
        token_count: Tokens in the prompt.
        spans: Half-open spans of the images, in order.
        chunk_tokens: Longest chunk, at least 1.
        first: Where to start; not inside an image.

    Returns:
        Half-open spans that cover [first, token_count).
    """
    chunks = []
    start = first
    while start < token_count:
        end = min(start + chunk_tokens, token_count)
        split = next((span for span in spans if span[0] < end < span[1]), None)
        if split is not None:
            end = split[0] if split[0] > start else split[1]
        chunks.append((start, end))
        start = end
    return chunks
