"""What the harness asks of an engine, in values that cross a pipe as JSON; imports nothing but the standard library.

An engine only loads, reads a photo and yields tokens. The clock is in `child.py`, the same for all of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One thing to do: read the photo if there is one, then the prompt, and write so many tokens greedily."""

    prompt: str
    """The user's turn, without the chat template's control tokens."""
    tokens: int
    """How many to write; a trained model may end before, random weights do not."""
    photo: str | None = None
    """Path of a JPEG file, square, of the model's size."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer begins to fulfil."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What carrying out an order took, in seconds on a monotonic clock."""

    image_s: float
    """From the photo's bytes to its features; 0 without one. Not part of the others."""
    read_ahead_s: float
    """For what is known of the prompt once the photo is there, if the engine reads ahead. Not part of the others."""
    first_token_s: float
    """From the prompt to the first token, the photo being encoded."""
    generate_s: float
    """From the prompt to the last token."""
    prompt_tokens: int
    tokens: int
    cpu_s: float
    """Processor time of all threads for the prompt and the tokens: steadier than the clock where others compute too,
    if the engine's threads sleep while they wait. The photo's too where it was encoded late."""
    distinct_tokens: int
    """Different ones among the tokens written: few mean that the random weights went round in circles."""
    constraint_s: float = 0.0
    """Of `generate_s`, spent on finding allowed tokens where the engine's first choice was not allowed."""


class Engine(Protocol):
    """One loaded model."""

    prompt_tokens: int
    """Of the last `stream`, the photo's included."""
    constraint_s: float
    """Of the last `stream`; see `Timing.constraint_s`."""
    late_image_s: float
    """Of the last `stream`, spent on its photo by an engine that cannot encode one before it has the question."""

    def facts(self) -> dict[str, Any]:
        """Return `version`, `model`, `weight_bytes` (read for each token) and `disk_bytes`, at least."""
        ...

    def encode(self, photo: bytes) -> None:
        """Turn a JPEG into features that the next `stream` uses."""
        ...

    def settle(self) -> None:
        """Do what comes between taking questions and the first answer: a self-test, say."""
        ...

    def read_ahead(self) -> None:
        """Read as much of the next prompt as the encoded photo tells, if the engine can."""
        ...

    def stream(self, order: Order) -> Iterator[int]:
        """Yield `order.tokens` token ids, with nothing kept from earlier orders but the encoded photo."""
        ...
