"""Answers that obey a JSON schema: which tokens may come next, by `llguidance`.

JSON is compact (no whitespace between tokens), so that there is one spelling and the model cannot wander in blanks.
`llguidance` is imported when the first schema comes: most of its cost is reading the vocabulary.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import PromptError
from appliance.medgemma.memory import give_back_freed_heap
from appliance.medgemma.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class JsonConstraint:
    """The state of one answer within its schema."""

    def __init__(self, matcher: "LLMatcher", vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    @property
    def is_complete(self) -> bool:
        """Whether the JSON value is whole and nothing can follow it."""
        return bool(self._matcher.is_stopped())

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits with -inf for every token that may not come next.

        Args:
            logits: float32 [V].

        Raises:
            PromptError: The schema needs more work than the library allows.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        return np.where(allowed, logits, np.float32(-np.inf))

    def forced(self) -> tuple[int, ...]:
        """Return the tokens that come next whatever the model says, such as those of an object's next key.

        For each of them, `mask` would allow that one token and no other.
        """
        return tuple(self._matcher.compute_ff_tokens())

    def accept(self, token_id: int) -> None:
        """Move on by one token, which `mask` allowed.

        Raises:
            PromptError: The library refuses the token.
        """
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise PromptError(f"The JSON schema cannot be followed: {_first_line(self._matcher.get_error())}.")


class ConstraintCompiler:
    """Makes constraints for one vocabulary; safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = list(eos_token_ids)
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None

    def prepare(self) -> None:
        """Read the vocabulary, which takes a moment, so that the first schema need not."""
        self._read_vocabulary()

    def compile(self, schema: Mapping[str, Any]) -> JsonConstraint:
        """Start an answer of a schema.

        Raises:
            PromptError: The schema uses something that cannot be enforced.
        """
        import llguidance

        options = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
        except (ValueError, TypeError) as error:
            raise PromptError(f"The JSON schema cannot be read: {_first_line(str(error))}.") from error
        matcher = llguidance.LLMatcher(self._read_vocabulary(), grammar, log_level=0)
        if matcher.is_error():
            raise PromptError(f"The JSON schema cannot be enforced: {_first_line(matcher.get_error())}.")
        return JsonConstraint(matcher, self._vocab_size)

    def _read_vocabulary(self) -> "LLTokenizer":
        import llguidance

        with self._lock:
            if self._vocabulary is None:
                vocabulary = _Vocabulary(self._tokenizer, self._vocab_size, self._eos_token_ids[0])
                self._vocabulary = llguidance.LLTokenizer(
                    llguidance.TokenizerWrapper(vocabulary),
                    n_vocab=self._vocab_size,
                    eos_token=self._eos_token_ids,
                    # With its sets of tokens worked out beforehand a mask takes 0.05 ms instead of 0.9, and 63 MB.
                    slices=[],
                )
                vocabulary.tokens = []  # read by now, and 13 MB
                give_back_freed_heap()
            return self._vocabulary


class _Vocabulary:
    """Our tokenizer as `llguidance.TokenizerWrapper` wants it.

    Given the text of a `tokenizer.json` instead, the library opens a second tokenizer beside ours: 216 MB more at the
    peak, 145 MB more afterwards, and twice the time (DESIGN.md, "Measured").
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos_token_id
        self.bos_token_id = None
        self.tokens = tokenizer.token_bytes(vocab_size)
        control_ids = set(tokenizer.control_ids.values())
        # Control tokens can never be part of a JSON value, however they are spelled.
        self.special_token_ids = [
            token_id for token_id, content in enumerate(self.tokens) if not content or token_id in control_ids
        ]

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode_text(text)


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0].rstrip(".")
