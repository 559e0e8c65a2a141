"""The harness's statistics: medians, ratios within a round, and whether promises are kept."""

import random

import pytest
from harness.figures import FIGURES, Figure, median, ratios, summarise

from appliance.benchmark.prompts import text_of

OURS, BASELINE, OTHER = "ours", "baseline", "other"


def entry_of(key: str, samples: dict[str, list[float | None]], baseline: str | None = BASELINE) -> dict[str, object]:
    (entry,) = summarise({key: samples}, OURS, baseline)
    return entry


def test_a_ratio_compares_samples_of_one_round() -> None:
    # Both engines are half as fast in the second round: the machine was, not they.
    assert ratios([10.0, 5.0], [5.0, 2.5]) == [2.0, 2.0]


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    entry = entry_of("decode_600", {OURS: [10.0, 4.0, 9.0], BASELINE: [5.0, 4.0, 3.0]})
    assert entry["ratios"] == {BASELINE: 2.0}
    assert entry["medians"] == {OURS: 9.0, BASELINE: 4.0}


def test_rounds_without_a_sample_count_for_nothing() -> None:
    assert ratios([1.0, None, 3.0], [2.0, 2.0, None]) == [0.5, None, None]
    assert median([None, 4.0, None]) == 4.0
    assert median([None]) is None


def test_a_peer_that_took_no_time_is_not_divided_by() -> None:
    assert ratios([1.0], [0.0]) == [None]


def test_lists_of_different_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rounds of ours and 1"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("ours", "must_met", "aim_met"), [(2.0, True, True), (1.3, True, False), (1.1, False, False)])
def test_more_tokens_a_second_keep_a_promise(ours: float, must_met: bool, aim_met: bool) -> None:
    promise = entry_of("decode_600", {OURS: [ours], BASELINE: [1.0]})["promise"]
    assert isinstance(promise, dict)
    assert (promise["must_met"], promise["aim_met"]) == (must_met, aim_met)


@pytest.mark.parametrize(
    ("ours", "must_met", "aim_met"), [(0.30, True, True), (0.42, True, False), (0.43, False, False)]
)
def test_fewer_seconds_keep_a_promise(ours: float, must_met: bool, aim_met: bool) -> None:
    promise = entry_of("image", {OURS: [ours], BASELINE: [1.0]})["promise"]
    assert isinstance(promise, dict)
    assert (promise["must_met"], promise["aim_met"]) == (must_met, aim_met)


def test_a_ratio_is_promised_against_the_baseline_alone() -> None:
    samples: dict[str, list[float | None]] = {OURS: [2.0], OTHER: [4.0]}
    promise = entry_of("decode_600", samples)["promise"]
    assert isinstance(promise, dict)
    assert promise["found"] is None
    assert promise["must_met"] is None


def test_a_value_is_promised_without_any_peer() -> None:
    promise = entry_of("first_token", {OURS: [3.0, 1.5, 1.6]}, baseline=None)["promise"]
    assert isinstance(promise, dict)
    assert promise == {"of": "value", "found": 1.6, "must": 2, "must_met": True, "aim": 1, "aim_met": False}


def test_figures_without_samples_have_no_entry_and_the_rest_keep_their_order() -> None:
    found = summarise({"image": {OURS: [1.0]}, "prefill_300": {OURS: [1.0]}}, OURS, BASELINE)
    assert [entry["figure"] for entry in found] == ["prefill_300", "image"]


def test_every_figure_has_a_key_of_its_own_and_aims_beyond_what_it_must() -> None:
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    both = [figure for figure in FIGURES if figure.promise and figure.promise.must and figure.promise.aim]
    assert both
    assert [figure.key for figure in both if not is_stricter(figure)] == []


def is_stricter(figure: Figure) -> bool:
    assert figure.promise is not None
    assert figure.promise.aim is not None
    assert figure.promise.must is not None
    return figure.is_reached(figure.promise.aim, figure.promise.must) and figure.promise.aim != figure.promise.must


def test_prompts_have_the_wanted_length_and_begin_differently(seed: int) -> None:
    rng = random.Random(seed)

    def count(text: str) -> int:
        return 7 + 2 * len(text.split())  # a template of 7 tokens, 2 a word

    texts = [text_of(tokens, number, count) for number, tokens in enumerate(rng.sample(range(20, 800), 30))]
    rng = random.Random(seed)
    for tokens, text in zip(rng.sample(range(20, 800), 30), texts, strict=True):
        assert tokens <= count(text) <= tokens + 1
    beginnings = {" ".join(text.split()[:4]) for text in texts}
    assert len(beginnings) == len(texts)
    assert text_of(100, 5, count) == text_of(100, 5, count)
