"""Sampling: what is greedy, what the cut-offs cut, and that frequencies follow probabilities."""

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.medgemma.generation import GenerationOptions
from appliance.medgemma.sampler import Sampler, token_logprob

LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32))


def draws(logits: NDArray[np.float32], options: GenerationOptions, count: int = 4_000) -> list[int]:
    sampler = Sampler(options)
    return [sampler.choose(logits) for _ in range(count)]


def frequencies(tokens: list[int], size: int = 4) -> NDArray[np.float64]:
    return np.bincount(tokens, minlength=size) / len(tokens)


def assert_near(found: NDArray[np.float64], expected: list[float], count: int = 4_000) -> None:
    # Five standard deviations of a binomial: one run in 1.7 million fails by chance.
    limit = 5 * np.sqrt(np.array(expected) * (1 - np.array(expected)) / count) + 1e-12
    assert (np.abs(found - expected) <= limit).all(), (found, expected)


def test_greedy_takes_the_lowest_of_equals_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    logits = np.array([0.0, 2.0, -np.inf, 2.0], dtype=np.float32)
    assert Sampler(GenerationOptions()).choose(logits) == int(torch.argmax(torch.from_numpy(logits))) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float, seed: int) -> None:
    weights = np.array([0.4, 0.3, 0.2, 0.1]) ** (1 / temperature)
    found = frequencies(draws(LOGITS, GenerationOptions(temperature=temperature, seed=seed)))
    assert_near(found, list(weights / weights.sum()))


def test_top_k_keeps_the_best(seed: int) -> None:
    found = frequencies(draws(LOGITS, GenerationOptions(temperature=1, top_k=2, seed=seed)))
    assert_near(found, [4 / 7, 3 / 7, 0, 0])


def test_top_p_keeps_the_fewest_that_reach_it(seed: int) -> None:
    found = frequencies(draws(LOGITS, GenerationOptions(temperature=1, top_p=0.65, seed=seed)))
    assert_near(found, [4 / 7, 3 / 7, 0, 0])


def test_top_p_of_almost_nothing_is_greedy(seed: int) -> None:
    assert set(draws(LOGITS, GenerationOptions(temperature=1, top_p=1e-9, seed=seed), 50)) == {0}


def test_top_p_counts_within_top_k(seed: int) -> None:
    found = frequencies(draws(LOGITS, GenerationOptions(temperature=1, top_k=3, top_p=0.7, seed=seed)))
    assert_near(found, [4 / 7, 3 / 7, 0, 0])


def test_forbidden_tokens_are_never_drawn(seed: int) -> None:
    logits = LOGITS.copy()
    logits[0] = -np.inf
    for options in (
        GenerationOptions(temperature=3, seed=seed),
        GenerationOptions(temperature=3, top_k=4, top_p=0.99, seed=seed),
    ):
        assert 0 not in draws(logits, options, 500)


def test_the_same_seed_draws_the_same_tokens(seed: int) -> None:
    options = GenerationOptions(temperature=1, seed=seed)
    assert draws(LOGITS, options, 100) == draws(LOGITS, options, 100)
    assert draws(LOGITS, options, 100) != draws(LOGITS, GenerationOptions(temperature=1, seed=seed + 1), 100)


def test_a_recorded_seed_draws_what_it_always_drew() -> None:
    assert draws(LOGITS, GenerationOptions(temperature=1, seed=7), 12) == [1, 2, 2, 0, 0, 2, 0, 2, 2, 1, 0, 0]


def test_logprobs_are_normalised_over_what_was_allowed() -> None:
    logits = np.append(LOGITS, np.float32(-np.inf))
    found = token_logprob(logits, 1, 10, lambda token_id: f"t{token_id}")
    assert found.text == "t1"
    assert found.logprob == pytest.approx(np.log(0.3), abs=1e-6)
    assert [token_id for token_id, _, _ in found.top] == [0, 1, 2, 3]
    assert sum(np.exp(logprob) for _, _, logprob in found.top) == pytest.approx(1)


def test_no_alternatives_unless_asked() -> None:
    assert token_logprob(LOGITS, 0, 0, str).top == ()
