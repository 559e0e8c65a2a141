"""Exact logits for the tokens that can win, where the head has multiplied with coarse halves of its values only.

Half the bytes of the head are read for all tokens, and whole rows for a shortlist: the choice is that of the whole
head. The head is the largest matrix of a step, a quarter of its bytes at the 4B shape. Measured in `DESIGN.md`.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FIRST: Final = 32
"""Tokens of the first shortlist."""
_GROWTH: Final = 16
_AT_ONCE: Final = 4096
"""Rows of the table held at a time: 42 MB at the 4B shape, and only where nearly all tokens come into question."""
_DEVIATIONS: Final = 2.5
"""The shortlist is long enough when what is not on it could be this many times as far off as the worst on it, and would
still lose. Coarse logits are off like a sum of thousands of rounding errors, so normally: the worst of 32 is at 2.1
standard deviations, and 2.5 times that leaves one token in ten million, which would have to be the one that wins."""

Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Gives out whole rows of the head: int64 [n] token ids become float32 [n, H]."""


def settle(logits: NDArray[np.float32], hidden_state: NDArray[np.float32], rows: Rows) -> None:
    """Put exact logits in place of coarse ones, from the likeliest down, as far as one of them can be the largest.

    Args:
        logits: float32 [V], coarse; -inf where a token is not allowed, which stays so. Changed in place.
        hidden_state: float32 [H], what the head multiplies.
        rows: Where whole rows come from.
    """
    allowed = len(logits) - int(np.count_nonzero(np.isneginf(logits)))  # damaged weights give NaN, which is no -inf
    count = _FIRST
    while True:
        token_ids = _likeliest(logits, min(count, allowed))
        coarse = logits[token_ids]
        exact = _exact(token_ids, hidden_state, rows)
        furthest = float(np.abs(exact - coarse).max(initial=0.0))
        if len(token_ids) == allowed or exact.max() > coarse.min() + _DEVIATIONS * furthest:
            logits[token_ids] = exact
            return
        count *= _GROWTH


def _likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids of the `count` largest, in no order."""
    return np.argpartition(logits, len(logits) - count)[len(logits) - count :]


def _exact(token_ids: NDArray[np.int64], hidden_state: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    pieces = [token_ids[start : start + _AT_ONCE] for start in range(0, len(token_ids), _AT_ONCE)]
    return np.concatenate([rows(piece) @ hidden_state for piece in pieces])
