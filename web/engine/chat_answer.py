"""Answers in OpenAI's shapes: a whole completion, or a stream's chunks; the `dermstation` object carries the rest.

Source: OpenAI API reference, "Chat completion object", "Chat completion chunk".
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.engine_wire import AnswerExtension, ModelSummary
from appliance.medgemma.generation import Generation, Piece, TokenLogprob
from web.engine.chat_request import ChatRequest

IMPOSSIBLE_LOGPROB: Final = -9999.0
"""JSON has no -inf. Source: OpenAI API reference, `logprob`: -9999.0 stands for "very unlikely"."""
_FINISH_REASONS: Final = {"stop": "stop", "length": "length", "cancelled": "length", "deadline": "length"}
"""OpenAI's word for ours: an answer that was cut short is one of length; the exact reason is in `dermstation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """What is the same in every part of one answer."""

    completion_id: str
    model: ModelSummary
    wants_logprobs: bool
    wants_usage: bool
    created_s: int = field(default_factory=lambda: int(time.time()))
    """Unix time, as OpenAI has it."""

    @classmethod
    def of(cls, request: ChatRequest, completion_id: str, model: ModelSummary) -> "AnswerFormat":
        """Return the format that a request asks for."""
        options = request.stream_options
        return cls(
            completion_id=completion_id,
            model=model,
            wants_logprobs=bool(request.logprobs),
            wants_usage=bool(options and options.include_usage),
        )

    def completion(self, pieces: Sequence[Piece], generation: Generation) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": generation.text, "refusal": None},
            "logprobs": self._logprobs([item for piece in pieces for item in piece.logprobs]),
            "finish_reason": _FINISH_REASONS[generation.finish_reason],
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": _usage(generation),
            "dermstation": self._extension(generation=generation),
        }

    def first_chunk(self) -> dict[str, Any]:
        """Return the chunk that says who speaks; sent when the run starts."""
        return self._chunk({"role": "assistant", "content": ""}, self._extension())

    def piece_chunk(self, piece: Piece) -> dict[str, Any]:
        """Return the chunk of a piece of text."""
        logprobs = self._logprobs(piece.logprobs)
        return self._chunk({"content": piece.text}, AnswerExtension(token_ids=piece.token_ids), logprobs=logprobs)

    def last_chunks(self, generation: Generation) -> list[dict[str, Any]]:
        """Return the chunk with the finish reason, and the one with the usage if it was asked for."""
        reason = _FINISH_REASONS[generation.finish_reason]
        usage = {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(generation)}
        last = self._chunk({}, self._extension(generation=generation), finish_reason=reason)
        return [last, usage] if self.wants_usage else [last]

    def _chunk(
        self,
        delta: dict[str, str],
        extension: AnswerExtension,
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], "dermstation": extension}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created_s,
            "model": self.model.name,
            "system_fingerprint": self.model.sha256[:16],
        }

    def _extension(self, generation: Generation | None = None) -> AnswerExtension:
        return AnswerExtension(warning=self.model.warning, model_sha256=self.model.sha256, generation=generation)

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        content = [
            {
                **_token(token.token_id, token.text, token.logprob),
                "top_logprobs": [_token(*alternative) for alternative in token.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _token(token_id: int, text: str, logprob: float) -> dict[str, Any]:
    return {
        "token": text,
        "logprob": logprob if math.isfinite(logprob) else IMPOSSIBLE_LOGPROB,
        "bytes": list(text.encode(errors="replace")),
        "token_id": token_id,
    }


def _usage(generation: Generation) -> dict[str, Any]:
    prompt, generated = generation.timings.prompt_tokens, generation.timings.generated_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": generation.timings.reused_tokens},
    }
