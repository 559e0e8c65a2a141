"""Masks against transformers' own, and the plan of chunks against its promises."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.medgemma.attention import attention_bias, image_blocks, image_spans, plan_chunks

IMAGE_TOKEN_ID = 9

segments = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=8)


def token_ids_from(parts: list[tuple[bool, int]]) -> list[int]:
    """Text runs and images; images are wrapped in begin and end as the prompt writes them, so they never touch."""
    token_ids = [2]
    for is_image, length in parts:
        token_ids += [7, *[IMAGE_TOKEN_ID] * length, 8] if is_image else [5] * length
    return token_ids


def reference_masks(token_ids: list[int], window: int) -> dict[str, NDArray[np.bool_]]:
    """Ask transformers which keys each query sees."""
    import torch
    from transformers import Gemma3TextConfig
    from transformers.models.gemma3.modeling_gemma3 import (
        create_masks_for_vision_model,
        get_block_sequence_ids_for_mask,
    )

    config = Gemma3TextConfig(sliding_window=window, num_hidden_layers=2, attn_implementation="eager")
    token_types = (torch.tensor([token_ids]) == IMAGE_TOKEN_ID).long()
    masks = create_masks_for_vision_model(
        config,
        torch.zeros(1, len(token_ids), 4),
        torch.ones(1, len(token_ids), dtype=torch.long),
        None,
        torch.arange(len(token_ids))[None],
        get_block_sequence_ids_for_mask(token_types),
    )
    return {kind: (mask[0, 0] == 0).numpy() for kind, mask in masks.items()}


@pytest.mark.parametrize("window", [1, 3, 8, 64])
@pytest.mark.parametrize(
    "parts",
    [
        [(False, 12)],
        [(True, 6), (False, 5)],
        [(False, 3), (True, 9), (False, 2), (True, 4), (False, 9)],
        [(True, 5), (True, 5)],
    ],
)
def test_masks_equal_those_of_transformers(parts: list[tuple[bool, int]], window: int) -> None:
    token_ids = token_ids_from(parts)

    expected = reference_masks(token_ids, window)

    blocks = image_blocks(token_ids, IMAGE_TOKEN_ID)
    for kind, sliding_window in (("full_attention", None), ("sliding_attention", window)):
        is_visible = attention_bias(blocks, 0, sliding_window)[0, 0] == 0
        np.testing.assert_array_equal(is_visible, expected[kind], err_msg=kind)


@given(segments, st.integers(1, 20), st.integers(1, 12))
@settings(deadline=None)  # a busy machine is no failure
def test_chunked_masks_are_rows_of_the_whole_mask(
    parts: list[tuple[bool, int]], window: int, chunk_tokens: int
) -> None:
    blocks = image_blocks(token_ids_from(parts), IMAGE_TOKEN_ID)
    whole = attention_bias(blocks, 0, window)[0, 0]
    for start, end in plan_chunks(len(blocks), image_spans(blocks), chunk_tokens):
        chunk = attention_bias(blocks[:end], start, window)[0, 0]
        np.testing.assert_array_equal(chunk, whole[start:end, :end])
        # Nothing that a chunk's queries may see lies behind the chunk.
        assert (whole[start:end, end:] < 0).all()


@given(segments, st.integers(1, 30))
@settings(deadline=None)  # a busy machine is no failure
def test_chunks_cover_the_prompt_and_split_no_image(parts: list[tuple[bool, int]], chunk_tokens: int) -> None:
    blocks = image_blocks(token_ids_from(parts), IMAGE_TOKEN_ID)
    spans = image_spans(blocks)
    chunks = plan_chunks(len(blocks), spans, chunk_tokens)
    assert chunks[0][0] == 0
    assert chunks[-1][1] == len(blocks)
    assert all(left[1] == right[0] for left, right in pairwise(chunks))
    for start, end in chunks:
        assert end - start <= chunk_tokens or (start, end) in spans
        assert not any(first < end < last for first, last in spans)


def test_chunks_start_where_a_kept_prefix_ends() -> None:
    assert plan_chunks(10, [], 4, first=3) == [(3, 7), (7, 10)]


def test_spans_of_images_that_end_the_prompt() -> None:
    blocks = image_blocks([1, 9, 9, 1, 9], IMAGE_TOKEN_ID)
    assert blocks.tolist() == [-1, 0, 0, -1, 1]
    assert image_spans(blocks) == [(1, 3), (4, 5)]


def test_text_only_model_has_no_images() -> None:
    assert image_spans(image_blocks([1, 2, 3], None)) == []


def test_masked_scores_vanish_in_float32() -> None:
    bias = attention_bias(np.full(2, -1, dtype=np.int32), 0, None)
    assert bias.dtype == np.float32
    assert np.isfinite(bias).all()
    assert np.exp(bias[0, 0, 0, 1]) == 0
