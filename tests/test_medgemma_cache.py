"""The cache: what was read is not read again, and the answer is the one that a fresh model gives, token for token."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from medgemma_bundles import FLOAT32, Exported, export_random, png, random_shape, take, user
from tiny_shapes import TEXT

from appliance.assessment import ASSESSMENT_SCHEMA
from appliance.medgemma.constraint import JsonConstraint
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import Generation, GenerationOptions, Message
from appliance.medgemma.kv_cache import KvCache, KvSnapshot, cache_bytes, sliding_length
from appliance.medgemma.prefixes import PrefixStore, common_length, prompt_keys
from appliance.medgemma.prompt import Prompt
from appliance.medgemma.spec import CachePrecision, LayerType

SHAPE: dict[str, Any] = {"layers": 4, "sliding_window": 7, "sliding_window_pattern": 2}
IMAGE_TOKENS = 16


@pytest.fixture(scope="module", params=["float32", "int8"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_random(tmp_path_factory.mktemp("random"), options=replace(FLOAT32, cache=request.param), **SHAPE)


@pytest.fixture
def model(exported: Exported) -> Iterator[MedGemma]:
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1)) as model:
        yield model


def answer(model: MedGemma, *messages: Message, **options: Any) -> Generation:
    return take(model.generate(list(messages), GenerationOptions(**{"max_tokens": 10, **options})))[1]


def fresh(exported: Exported, *messages: Message, **options: Any) -> Generation:
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1)) as model:
        return answer(model, *messages, **options)


def test_a_second_question_about_a_photo_reads_only_itself(exported: Exported, model: MedGemma) -> None:
    first, second = user(png(1), "Describe the lesion."), user(png(1), "Is the border regular?")
    answer(model, first)
    generation = answer(model, second)
    assert IMAGE_TOKENS < generation.timings.reused_tokens < generation.timings.prompt_tokens
    assert generation.token_ids == fresh(exported, second).token_ids


def test_the_same_question_again_reads_one_token(exported: Exported, model: MedGemma) -> None:
    question = user(png(1), "Describe the lesion.")
    first = answer(model, question)
    again = answer(model, question)
    assert again.timings.reused_tokens == again.timings.prompt_tokens - 1
    assert again.token_ids == first.token_ids == fresh(exported, question).token_ids


def test_another_photo_is_never_taken_for_the_first(exported: Exported, model: MedGemma) -> None:
    answer(model, user(png(1), "Describe the lesion."))
    other = user(png(2), "Describe the lesion.")
    generation = answer(model, other)
    assert generation.timings.reused_tokens < IMAGE_TOKENS
    assert generation.token_ids == fresh(exported, other).token_ids


def test_a_photo_that_was_read_ahead_needs_no_reading(exported: Exported, model: MedGemma) -> None:
    ahead = [model.read_ahead([user(png(seed))]) for seed in (1, 2)]
    assert min(ahead) > IMAGE_TOKENS
    for seed in (1, 2, 1):  # each is a copy of its own: the other one does not push it out
        question = user(png(seed), "Which colours does it have?")
        generation = answer(model, question)
        assert generation.timings.reused_tokens == ahead[seed - 1]
        assert generation.token_ids == fresh(exported, question).token_ids


def test_text_alone_is_not_read_ahead(model: MedGemma) -> None:
    assert model.read_ahead([user("What is a lesion?")]) == 0


def test_without_memory_for_prefixes_only_the_last_prompt_is_known(exported: Exported) -> None:
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1, prefix_cache_bytes=0)) as model:
        model.read_ahead([user(png(1))])
        model.read_ahead([user(png(2))])
        assert answer(model, user(png(2), "Describe.")).timings.reused_tokens > IMAGE_TOKENS
        assert answer(model, user(png(1), "Describe.")).timings.reused_tokens < IMAGE_TOKENS


def test_random_conversations_answer_as_a_fresh_model_does(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shape = random_shape(rng)
    logging.getLogger(__name__).info("seed=%s: %s", seed, shape)
    precision: CachePrecision = "int8" if rng.random() < 0.5 else "float32"
    exported = export_random(tmp_path, seed=seed, options=replace(FLOAT32, cache=precision), **shape)
    texts = ["What do you see?", "Is it even? " * 12, "x", "Is the border regular?"]
    messages = [
        user(*(png(int(image)) for image in rng.integers(1, 3, rng.integers(0, 3))), str(rng.choice(texts)))
        for _ in range(12)
    ]
    options = RuntimeOptions(threads=1, prefill_chunk_tokens=int(rng.choice([1, 5, 512])), prefix_cache_bytes=100_000)
    reused = 0
    with MedGemma.load(exported.bundle, options) as model:
        for message in messages:
            if rng.random() < 0.3:
                model.read_ahead([message])
            generation = answer(model, message)
            reused += generation.timings.reused_tokens
            assert generation.token_ids == fresh(exported, message).token_ids
    assert reused > 0


def test_long_answers_move_the_window_on(exported: Exported) -> None:
    """Chunks of 8 and a window of 7 give sliding layers room for 30 tokens: 150 tokens move them several times."""
    options = RuntimeOptions(threads=1, prefill_chunk_tokens=8)
    question = user(png(1), "Describe the lesion. " * 4)
    with MedGemma.load(exported.bundle, options) as short, MedGemma.load(exported.bundle) as whole:
        assert answer(short, question, max_tokens=150).token_ids == answer(whole, question, max_tokens=150).token_ids
        # What the window has left behind must be read again.
        again = answer(short, question)
        assert again.timings.reused_tokens == 0
        assert again.token_ids == answer(whole, question).token_ids


@pytest.mark.parametrize("tokens", [3_000, pytest.param(32_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_long_prompt_reads_alike_in_any_chunks(exported: Exported, seed: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    words = " ".join(rng.choice(["lesion", "é", "brown", "3 mm", "border"], tokens // 5))
    question = user(png(1), png(2), words, png(3), "What changed?")
    answers = []
    for chunk_tokens in (64, 512):
        options = RuntimeOptions(threads=2, context_length=32_768, prefill_chunk_tokens=chunk_tokens)
        with MedGemma.load(exported.bundle, options) as model:
            answers.append(answer(model, question, max_tokens=5))
    assert answers[0].timings.prompt_tokens > tokens * 0.6
    assert answers[0].token_ids == answers[1].token_ids


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_forced_tokens_change_no_answer(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, seed: int, temperature: float
) -> None:
    options = {"json_schema": ASSESSMENT_SCHEMA, "max_tokens": 300, "temperature": temperature, "seed": seed}
    question = user(png(1), "Assess.")
    jumping = fresh(exported, question, top_logprobs=1, **options)
    monkeypatch.setattr(JsonConstraint, "forced", lambda _: ())
    plain = fresh(exported, question, top_logprobs=1, **options)
    assert jumping.token_ids == plain.token_ids
    assert jumping.finish_reason == plain.finish_reason
    assert jumping.timings.forced_tokens > 0 == plain.timings.forced_tokens


def test_forced_tokens_stop_at_max_tokens(exported: Exported, model: MedGemma) -> None:
    question = user("Assess.")
    whole = answer(model, question, json_schema=ASSESSMENT_SCHEMA, max_tokens=300)
    for count in range(1, 12):
        cut = answer(model, question, json_schema=ASSESSMENT_SCHEMA, max_tokens=count)
        assert (cut.token_ids, cut.finish_reason) == (whole.token_ids[:count], "length")


def test_forced_tokens_stop_where_the_context_ends(exported: Exported) -> None:
    question = user("Assess.")
    expected = fresh(exported, question, json_schema=ASSESSMENT_SCHEMA, max_tokens=300).token_ids
    prompt_tokens = len(fresh(exported, question).prompt_token_ids)
    for room in range(8):
        options = RuntimeOptions(threads=1, context_length=prompt_tokens + room)
        with MedGemma.load(exported.bundle, options) as model:
            generation = answer(model, question, json_schema=ASSESSMENT_SCHEMA, max_tokens=300)
        assert (generation.token_ids, generation.finish_reason) == (expected[: room + 1], "length")


def test_prefix_store_forgets_the_least_recently_used() -> None:
    store = PrefixStore(900)
    store.keep((1, 2), snapshot(2))
    store.keep((1, 2, 3), snapshot(3))
    assert store.longest((1, 2, 9))[0] == (1, 2)  # used: so the other one goes first
    store.keep((7,) * 10, snapshot(10))
    assert store.longest((1, 2, 3))[0] == (1, 2)
    store.keep((8,) * 40, snapshot(40))
    assert store.longest((8,) * 40) == ((), None)
    assert store.kept_bytes <= 900
    store.clear()
    assert store.longest((1, 2))[1] is None


def test_keys_tell_photos_apart_and_nothing_else() -> None:
    prompt = Prompt(token_ids=(2, 9, 9, 5), image_spans=((1, 3),), images=())
    assert prompt_keys(prompt, ["ab"]) == [2, "ab", "ab", 5]
    assert common_length(prompt_keys(prompt, ["ab"]), prompt_keys(prompt, ["cd"])) == 1
    assert common_length([1, 2], [1, 2, 3]) == 2


def test_sliding_layers_keep_what_their_window_needs() -> None:
    layer_types: tuple[LayerType, ...] = ("full_attention", "sliding_attention")
    text = msgspec.structs.replace(TEXT, num_hidden_layers=2, layer_types=layer_types, sliding_window=4)
    cache = KvCache(text, 100, 3, "cpu", "float32")
    assert cache.sliding_length == sliding_length(4, 100, 3, "cpu") == 11
    for position in range(40):
        cache.make_room(1)
        cache.length = position + 1
        assert cache.length - cache.sliding_start <= 11
        assert cache.sliding_start <= max(0, position - 3)
    assert not cache.can_rewind(cache.sliding_start + 2)
    assert cache.can_rewind(cache.sliding_start + 3)
    assert cache.copy(5) is None
    assert cache_bytes(text, 100, 11, "float32") == 64 * (100 + 11) == 4 * cache_bytes(text, 100, 11, "int8")


def snapshot(length: int) -> KvSnapshot:
    return KvSnapshot(length=length, buffers={(0, "key"): np.zeros((1, 1, length, 16), np.float32)})
