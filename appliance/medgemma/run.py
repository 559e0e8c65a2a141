"""One generation: which token comes next, what is shown of it, and why it ends.

It runs no graph: logits come in, pieces go out. Order of a choice: bans, then the schema, then exact logits for what is
left (`shortlist.py`), then the sampler. Tokens that the schema forces after it come with it, so that the graph reads
all of them in one run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliance.errors import PromptError
from appliance.medgemma.answer import Answer
from appliance.medgemma.constraint import JsonConstraint
from appliance.medgemma.generation import (
    FinishReason,
    Generation,
    GenerationOptions,
    Piece,
    Timings,
    TokenLogprob,
)
from appliance.medgemma.prompt import Prompt
from appliance.medgemma.sampler import Sampler, token_logprob
from appliance.medgemma.spec import TokenSpec
from appliance.medgemma.tokenizer import Tokenizer

Part = Literal["vision", "prefill", "decode"]
Settle = Callable[[NDArray[np.float32]], None]


class Run:
    """The state of one generation."""

    def __init__(
        self,
        prompt: Prompt,
        options: GenerationOptions,
        tokenizer: Tokenizer,
        tokens: TokenSpec,
        constraint: JsonConstraint | None,
    ) -> None:
        self.prompt = prompt
        self.options = options
        self._tokenizer = tokenizer
        self._constraint = constraint
        self._sampler = Sampler(options)
        self._banned_ids = _banned_ids(options, tokens)
        self._answer = Answer(tokenizer, tokens, options.stop)
        self._finish_reason: FinishReason | None = None
        self._seconds: dict[Part, float] = {"vision": 0.0, "prefill": 0.0, "decode": 0.0}
        self._forced_tokens = 0
        self.reused_tokens = 0
        """Prompt tokens that had been read before."""

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Add the time inside the `with` to a part; time in which the caller holds a piece is in none."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self._seconds[part] += time.monotonic() - started_s

    @property
    def is_over(self) -> bool:
        """Whether the answer ends with the token taken last."""
        return self._finish_reason is not None

    def choose(self, logits: NDArray[np.float32], room: int, settle: Settle = lambda _: None) -> list[Piece]:
        """Choose the next token, take those that are forced after it, and return what each adds to the answer.

        Args:
            logits: float32 [V]; banned tokens are overwritten with -inf.
            room: Tokens that still fit into the cache; the last piece may be one more, as nothing comes after it.
            settle: Makes logits exact where it matters, in place, once -inf stands for what is not allowed.

        Raises:
            PromptError: The schema cannot be followed.
        """
        logits[self._banned_ids] = -np.inf
        if self._constraint is None:
            settle(logits)
            token_id = self._sampler.choose(logits)
            pieces = [self._take(token_id, self._logprobs(logits, token_id))]
            self._look_for_end(is_full=room < 1)
            return pieces
        logits = self._constraint.mask(logits)
        settle(logits)
        token_id = self._sampler.choose(logits)
        self._constraint.accept(token_id)
        pieces = [self._take(token_id, self._logprobs(logits, token_id))]
        self._look_for_end(is_full=room < 1)
        for forced_id in () if self.is_over else self._constraint.forced():
            self._sampler.skip()
            self._constraint.accept(forced_id)
            pieces.append(self._take(forced_id, self._certain(forced_id)))
            self._forced_tokens += 1
            self._look_for_end(is_full=room < len(pieces))
            if self.is_over:
                break
        return pieces

    def end(self, interruption: Literal["cancelled", "deadline"] | None, load_s: float) -> Iterator[Piece | Generation]:
        """Yield the text that was held back, if any, and the `Generation`.

        Args:
            interruption: Why the run ended, where it did not end by itself.
            load_s: Seconds that loading the model took.
        """
        rest = self._answer.flush()
        if rest:
            yield Piece(text=rest)
        finish_reason = self._finish_reason or interruption
        if finish_reason is None:
            raise RuntimeError("a run ended without a reason")
        timings = Timings(
            load_s=load_s,
            vision_s=self._seconds["vision"],
            prefill_s=self._seconds["prefill"],
            decode_s=self._seconds["decode"],
            prompt_tokens=len(self.prompt.token_ids),
            generated_tokens=len(self._answer.token_ids),
            reused_tokens=self.reused_tokens,
            forced_tokens=self._forced_tokens,
        )
        yield Generation(
            text=self._answer.text,
            thought=self._answer.thought,
            prompt_token_ids=self.prompt.token_ids,
            token_ids=tuple(self._answer.token_ids),
            finish_reason=finish_reason,
            timings=timings,
        )

    def _take(self, token_id: int, logprobs: tuple[TokenLogprob, ...]) -> Piece:
        return Piece(text=self._answer.push(token_id), token_ids=(token_id,), logprobs=logprobs)

    def _look_for_end(self, *, is_full: bool) -> None:
        """Decide whether the answer ends with the token taken last."""
        if self._answer.is_finished or (self._constraint is not None and self._constraint.is_complete):
            self._finish_reason = "stop"
        elif is_full or len(self._answer.token_ids) >= self.options.max_tokens:
            self._finish_reason = "length"

    def _certain(self, token_id: int) -> tuple[TokenLogprob, ...]:
        """Describe a token that was the only one allowed."""
        if self.options.top_logprobs is None:
            return ()
        text = self._tokenizer.token_text(token_id)
        top = ((token_id, text, 0.0),) if self.options.top_logprobs > 0 else ()
        return (TokenLogprob(token_id=token_id, text=text, logprob=0.0, top=top),)

    def _logprobs(self, logits: NDArray[np.float32], token_id: int) -> tuple[TokenLogprob, ...]:
        if self.options.top_logprobs is None:
            return ()
        return (token_logprob(logits, token_id, self.options.top_logprobs, self._tokenizer.token_text),)


def check_options(options: GenerationOptions) -> None:
    """Refuse options that mean nothing.

    Raises:
        PromptError: A number is out of its range.
    """
    limits = (
        ("max_tokens", options.max_tokens, options.max_tokens >= 1, "at least 1"),
        ("temperature", options.temperature, 0 <= options.temperature < float("inf"), "0 or more"),
        ("top_k", options.top_k, options.top_k is None or options.top_k >= 1, "at least 1"),
        ("top_p", options.top_p, 0 < options.top_p <= 1, "above 0 and at most 1"),
        ("seed", options.seed, options.seed is None or options.seed >= 0, "0 or more"),
        ("deadline_s", options.deadline_s, options.deadline_s is None or options.deadline_s >= 0, "0 or more"),
    )
    for name, value, is_valid, rule in limits:
        if not is_valid:
            raise PromptError(f"{name} must be {rule}, not {value}.")


def _banned_ids(options: GenerationOptions, tokens: TokenSpec) -> list[int]:
    is_thought_banned = options.json_schema is not None if options.ban_thought is None else options.ban_thought
    if is_thought_banned and tokens.thought_start_token_id is not None:
        return [tokens.thought_start_token_id]
    return []
