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
_GROWTH: Final = 4
_RUNS: Final = 64
"""Runs that all logits are laid out in, one below the other, to look at the largest of each column first."""
_AT_ONCE: Final = 4096
"""Rows of the table held at a time: 42 MB at the 4B shape, and only where nearly all tokens come into question."""
_DEVIATIONS: Final = 5.25
"""The shortlist is long enough when what is not on it could be off by so many standard deviations and still lose.
Coarse logits are off like a sum of thousands of rounding errors, so normally: one token in ten million is further off,
and it would have to be the one that wins."""

Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Gives out whole rows of the head: int64 [n] token ids become float32 [n, H]."""


def settle(logits: NDArray[np.float32], hidden_state: NDArray[np.float32], rows: Rows) -> None:
    """Put exact logits in place of coarse ones, from the likeliest down, as far as one of them can be the largest.

    Args:
        logits: float32 [V], coarse; -inf where a token is not allowed, which stays so. Changed in place.
        hidden_state: float32 [H], what the head multiplies.
        rows: Where whole rows come from.
    """
    count = min(_FIRST, len(logits))
    while True:
        token_ids = _likeliest(logits, count)
        is_allowed = logits[token_ids] != -np.inf  # damaged weights give NaN, which is no -inf
        token_ids = token_ids[is_allowed]
        coarse, exact = logits[token_ids], _exact(token_ids, hidden_state, rows)
        deviation = float(np.sqrt(np.square(exact - coarse).mean()))
        are_all = count == len(logits) or not is_allowed.all()
        if are_all or exact.max() > coarse.min() + _DEVIATIONS * deviation:
            logits[token_ids] = exact
            return
        count = min(count * _GROWTH, len(logits))


def _likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ids of the `count` largest, in no order."""
    columns = len(logits) // _RUNS
    if columns <= count:
        return _largest(logits, count)
    in_columns = _RUNS * columns
    # Each of the largest stands in one of the columns with the largest maxima, or behind the last whole run.
    largest = _largest(logits[:in_columns].reshape(_RUNS, columns).max(axis=0), count)
    token_ids = (largest + np.arange(0, in_columns, columns)[:, np.newaxis]).ravel()
    token_ids = np.concatenate([token_ids, np.arange(in_columns, len(logits))])
    return token_ids[_largest(logits[token_ids], count)]


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    return np.argpartition(values, len(values) - count)[len(values) - count :]


def _exact(token_ids: NDArray[np.int64], hidden_state: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    pieces = [token_ids[start : start + _AT_ONCE] for start in range(0, len(token_ids), _AT_ONCE)]
    # Not `rows @ hidden_state`: from some hundred rows on that wakes BLAS's own threads, which then wait for more
    # without sleeping, on the core that the next step needs. Measured in DESIGN.md, "Head".
    return np.concatenate([np.vecdot(rows(piece), hidden_state) for piece in pieces])
