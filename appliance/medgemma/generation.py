"""What is asked of the model and what comes back: plain frozen values, shared by the engine and its HTTP face."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled", "deadline"]
"""`stop`: an eos token or stop string; `length`: max_tokens or the context is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """One encoded image in a message: the bytes of a JPEG or PNG file, as they came."""

    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """Text in a message. Special-token strings in it are text, never tokens."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn; a `system` turn is folded into the first user turn, as Gemma 3 does."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How to generate; the defaults are greedy."""

    max_tokens: int = 512
    temperature: float = 0.0
    """0 is greedy; then top_k, top_p and seed do nothing."""
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    """The answer must be one JSON value of this schema."""
    ban_thought: bool | None = None
    """Forbid `<unused94>`; `None` means: exactly when there is a json_schema."""
    deadline_s: float | None = None
    """Seconds from the start of the run after which it ends with what there is."""
    top_logprobs: int | None = None
    """How many alternatives to report a token; `None` reports no logprobs at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One token with its natural-log probability."""

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens at this place: id, text, logprob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A streamed piece of the answer: whole characters only; may be empty while a character is incomplete."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds, measured on a monotonic clock."""

    load_s: float
    vision_s: float
    prefill_s: float
    decode_s: float
    prompt_tokens: int
    generated_tokens: int
    reused_tokens: int = 0
    """Of the prompt's tokens, those that an earlier run had read already."""
    forced_tokens: int = 0
    """Of the generated tokens, those that the schema left no choice about."""

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens read a second, without those that were there already; 0 when nothing was measured."""
        return (self.prompt_tokens - self.reused_tokens) / self.prefill_s if self.prefill_s > 0 else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Generated tokens a second after the first; 0 when nothing was measured."""
        return max(self.generated_tokens - 1, 0) / self.decode_s if self.decode_s > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The end of a run: everything that was generated and why it stopped."""

    text: str
    """The answer without thought, eos or stop string."""
    thought: str
    """What the model wrote between its thought tokens; for the audit, never shown."""
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    timings: Timings
