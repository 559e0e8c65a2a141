"""The whole runtime against transformers: token for token, on random checkpoints of random shapes."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from medgemma_bundles import Reference, export_random, random_shape, take, user
from PIL import Image

from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import GenerationOptions, Message

MAX_TOKENS = 24
# Two float32 implementations of the same sums in a different order: 3e-6 is the largest difference seen. A window off
# by one, or images read causally, changed the first logprob by 0.08 and more where it was tried.
LOGPROB_TOLERANCE = 1e-4
TIE = 5e-6
"""Nats: once in some thousands of random answers two tokens are nearer to each other than float32 sums are exact."""


def photo(rng: np.random.Generator) -> bytes:
    height_px, width_px = (int(side) for side in rng.integers(5, 90, 2))
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def conversation(kind: str, rng: np.random.Generator) -> list[Message]:
    long_text = " ".join(rng.choice(["the", "lesion", "é", "皮", "is 3 mm", "x\n\ny"], 40))
    return {
        "text": [user("What do you see?")],
        "long text": [user(long_text)],
        "one image": [user(photo(rng), "Describe the lesion.")],
        "image last": [user("Describe the lesion.", photo(rng))],
        "several images": [user(photo(rng), "then", photo(rng), photo(rng), long_text)],
    }[kind]


def images_of(messages: list[Message]) -> list[bytes]:
    return [part.content for message in messages for part in message.parts if hasattr(part, "content")]


def assert_parity(model: MedGemma, reference: Reference, messages: list[Message]) -> None:
    options = GenerationOptions(max_tokens=MAX_TOKENS, top_logprobs=1)
    pieces, generation = take(model.generate(messages, options))
    eos = model.bundle.manifest.architecture.tokens.eos_token_ids
    token_ids, logits = reference.generate(generation.prompt_token_ids, images_of(messages), eos, MAX_TOKENS)

    shifted = logits - logits.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    found = [piece.logprobs[0].logprob for piece in pieces if piece.logprobs]
    expected = [float(row[token_id]) for row, token_id in zip(logprobs, generation.token_ids, strict=False)]
    ours = list(generation.token_ids)
    end = next((place for place, (one, other) in enumerate(zip(ours, token_ids, strict=False)) if one != other), None)
    if end is None:
        assert ours == token_ids
    else:
        # The reference itself does not know which: two tokens as likely as float32 can tell. After it all differs.
        assert logprobs[end, token_ids[end]] - logprobs[end, ours[end]] <= TIE
    np.testing.assert_allclose(found[:end], expected[:end], atol=LOGPROB_TOLERANCE)


@pytest.mark.parametrize("number", range(6))
def test_random_shapes_generate_the_same_tokens(number: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([seed, number])
    shape = random_shape(rng)
    logging.getLogger(__name__).info("shape number=%s seed=%s: %s", number, seed, shape)
    exported = export_random(tmp_path, seed=number, style=("hub", "saved", "new")[number % 3], **shape)
    reference = Reference(exported.checkpoint)
    for chunk_tokens in (1, 7, 512):
        options = RuntimeOptions(threads=1, prefill_chunk_tokens=chunk_tokens)
        with MedGemma.load(exported.bundle, options) as model:
            for kind in ("text", "long text", "one image", "image last", "several images"):
                assert_parity(model, reference, conversation(kind, rng))


@pytest.mark.parametrize("tie", [True, False])
def test_text_only_checkpoint_generates_the_same_tokens(tie: bool, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    exported = export_random(tmp_path, seed=seed, vision=False, tie_word_embeddings=tie)
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1)) as model:
        assert model.bundle.manifest.graphs.keys() == {"embedding", "decoder"}
        for kind in ("text", "long text"):
            assert_parity(model, Reference(exported.checkpoint, vision=False), conversation(kind, rng))


@pytest.mark.parametrize("layer_types", [("full_attention",) * 3, ("sliding_attention",) * 3])
def test_layers_of_one_kind_generate_the_same_tokens(layer_types: tuple[str, ...], seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    exported = export_random(tmp_path, layer_types=layer_types, sliding_window=5, tie_word_embeddings=False)
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1, prefill_chunk_tokens=6)) as model:
        assert_parity(model, Reference(exported.checkpoint), conversation("several images", rng))
