"""From logits to the next token: greedy unless a temperature is given.

It does not know the schema or the thought ban; what may not be chosen arrives as -inf.
Source: order of the steps (temperature, top-k, top-p) as in Hugging Face `generation/logits_process.py`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.generation import GenerationOptions, TokenLogprob


class Sampler:
    """Draws tokens for one run; equal options with a seed draw equal tokens from equal logits."""

    def __init__(self, options: GenerationOptions) -> None:
        self._options = options
        # PCG64 is named, not default_rng(): a seed must draw the same tokens after a numpy upgrade.
        self._random = np.random.Generator(np.random.PCG64(options.seed))

    def skip(self) -> None:
        """Pass over a token that needed no choice: the numbers drawn for later ones stay what they were."""
        if self._options.temperature != 0:
            self._random.random()

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return the next token.

        Args:
            logits: float32 [V]; -inf where a token is not allowed, at least one is finite.
        """
        if self._options.temperature == 0:
            return int(np.argmax(logits))  # the lowest id among equals, as torch.argmax on the CPU
        scores = logits.astype(np.float64) / self._options.temperature
        if self._options.top_k is None and self._options.top_p >= 1:
            return int(self._random.choice(len(scores), p=_softmax(scores)))
        token_ids = _top_k(scores, self._options.top_k)
        probabilities = _softmax(scores[token_ids])
        kept = _top_p(probabilities, self._options.top_p)
        return int(self._random.choice(token_ids[kept], p=probabilities[kept] / probabilities[kept].sum()))


def token_logprob(
    logits: NDArray[np.float32], token_id: int, top: int, token_text: Callable[[int], str]
) -> TokenLogprob:
    """Describe a chosen token among those that were allowed, at temperature 1.

    Args:
        logits: float32 [V]; -inf where a token is not allowed.
        token_id: The chosen token.
        top: How many of the likeliest tokens to list.
        token_text: What turns a token id into text.
    """
    finite = logits.astype(np.float64)
    logprobs = finite - (finite.max() + np.log(np.exp(finite - finite.max()).sum()))
    likeliest = np.argsort(-logprobs, kind="stable")[:top] if top > 0 else ()
    return TokenLogprob(
        token_id=token_id,
        text=token_text(token_id),
        logprob=float(logprobs[token_id]),
        top=tuple(
            (int(other), token_text(int(other)), float(logprobs[other]))
            for other in likeliest
            if np.isfinite(logprobs[other])
        ),
    )


def _top_k(scores: NDArray[np.float64], top_k: int | None) -> NDArray[np.int64]:
    """Return the ids of the `top_k` best scores, best first; ties go to the lower id."""
    order = np.argsort(-scores, kind="stable")
    return order if top_k is None else order[:top_k]


def _top_p(probabilities: NDArray[np.float64], top_p: float) -> NDArray[np.bool_]:
    """Keep the fewest of the sorted probabilities that sum to at least `top_p`, never none."""
    before = np.cumsum(probabilities) - probabilities
    kept: NDArray[np.bool_] = before < top_p
    kept[0] = True
    return kept


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(scores - scores.max())
    return np.asarray(exponentials / exponentials.sum())
