"""Golden answers: what a bundle's model said when it was made, and whether it still says so here.

A wrong kernel, a damaged memory or a mixed-up file shows as another token. Only tokens that were clearly ahead are
recorded, so that another processor's rounding cannot turn a right model away. Recording and checking are one run.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from appliance.errors import EngineUnavailableError
from appliance.medgemma.bundle import Bundle, GoldenAnswer
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, TextPart

GOLDEN_TOKENS: Final = 12
"""Tokens of one golden answer at most: the check holds up the first question of the day."""
CLEARLY_AHEAD: Final = 0.7
"""Least difference, in natural logarithm, between the first and the second token of a recorded place: twice as likely.
Another number of threads, or another kernel for the same product, moves it by 0.02 at most (DESIGN.md, "Measured")."""
DEADLINE_S: Final = 90.0
"""A check that takes longer has failed: a photo on the slowest board that is fit for this takes half of it."""


class SelfTestError(EngineUnavailableError):
    """The model does not answer as it did when the bundle was made; it must not be used."""


class Answers(Protocol):
    """What this needs of the model."""

    bundle: Bundle

    def generate(self, messages: Sequence[Message], options: GenerationOptions) -> Iterator[Piece | Generation]:
        """Answer."""


def check_golden_answers(model: Answers) -> int:
    """Ask everything that the bundle has an answer to, and compare token by token.

    Returns:
        Answers that were compared; 0 for a bundle that carries none.

    Raises:
        SelfTestError: A token differs, or an answer does not come in time.
    """
    answers = model.bundle.manifest.golden_answers
    for number, golden in enumerate(answers, start=1):
        content = None if golden.image_file is None else (model.bundle.path / golden.image_file).read_bytes()
        options = GenerationOptions(max_tokens=len(golden.token_ids), deadline_s=DEADLINE_S)
        _, generation = _ask(model, golden.prompt, content, options)
        if generation.finish_reason == "deadline":
            raise SelfTestError(f"The model's self-test did not end within {DEADLINE_S:.0f} s; the model is off.")
        if generation.token_ids != golden.token_ids:
            raise SelfTestError(
                "The model does not answer as it did when it was made, so it is off: "
                f"golden answer {number} of {len(answers)} differs at token "
                f"{_first_difference(generation.token_ids, golden.token_ids)}."
            )
    return len(answers)


def record_golden_answer(model: Answers, prompt: str, image: Path | None) -> GoldenAnswer | None:
    """Ask once, and keep the tokens as far as each was clearly ahead; `None` where not even the first was.

    Args:
        model: What the answer is recorded of.
        prompt: The question.
        image: A photo that lies in the bundle's folder, or none.
    """
    options = GenerationOptions(max_tokens=GOLDEN_TOKENS, top_logprobs=2)
    pieces, _ = _ask(model, prompt, None if image is None else image.read_bytes(), options)
    token_ids: list[int] = []
    for place in (logprob for piece in pieces for logprob in piece.logprobs):
        (_, _, first), (_, _, second) = place.top
        if first - second < CLEARLY_AHEAD:
            break
        token_ids.append(place.token_id)
    if not token_ids:
        return None
    return GoldenAnswer(prompt=prompt, image_file=None if image is None else image.name, token_ids=tuple(token_ids))


def _ask(
    model: Answers, prompt: str, content: bytes | None, options: GenerationOptions
) -> tuple[list[Piece], Generation]:
    image = () if content is None else (ImagePart(content=content),)
    items = list(model.generate([Message(role="user", parts=(*image, TextPart(text=prompt)))], options))
    pieces = [item for item in items if isinstance(item, Piece)]
    generation = items[-1]
    if not isinstance(generation, Generation):
        raise SelfTestError("The model's self-test ended without an answer; the model is off.")
    return pieces, generation


def _first_difference(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Count from 1 to the first place where two answers differ."""
    places = (place for place, (one, other) in enumerate(zip(found, wanted, strict=False), start=1) if one != other)
    return next(places, min(len(found), len(wanted)) + 1)
