"""How fast a bundle is on this machine: one run is a short question, a long one and an assessment of a photo.

Every prompt and photo is new, so that nothing kept from an earlier one makes it faster. Speed does not depend on what
a photo shows; where a trained model ends its answer early, there are fewer tokens to time.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA
from appliance.benchmark.prompts import photo, text_of
from appliance.medgemma.bundle import Bundle
from appliance.medgemma.engine import MedGemma
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, TextPart

SHORT_TOKENS: Final = 32
LONG_TOKENS: Final = 600
"""Of the two prompts; a model with less context gets as much as leaves room for the answer."""
ANSWER_TOKENS: Final = 48
ASSESSMENT_TOKENS_MAX: Final = 512
PHOTO_SIDE_PX: Final = 1080
"""Of a camera's square part; decoding and resizing are measured with the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One timed answer."""

    prompt_tokens: int
    tokens: int
    vision_s: float
    read_ahead_s: float
    """For the prompt up to the photo, which the engine reads as soon as the photo is there."""
    first_token_s: float
    """From the question to the first token, the photo being encoded and read."""
    writing_s: float
    """From the first token to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One round of the benchmark."""

    short: Answered
    long: Answered
    assessment: Answered

    @property
    def assessment_s(self) -> float:
        """Seconds from the photo's bytes to the finished assessment."""
        answer = self.assessment
        return answer.vision_s + answer.read_ahead_s + answer.first_token_s + answer.writing_s


def measure_run(model: MedGemma, seed: int) -> Run:
    """Do one round.

    Args:
        model: Loaded, in use by nobody else.
        seed: Of prompts and photo; another one each round.
    """
    room = model.context_length - ANSWER_TOKENS
    short, long = (
        _prompt(model, min(tokens, room), 2 * seed + n) for n, tokens in enumerate((SHORT_TOKENS, LONG_TOKENS))
    )
    options = GenerationOptions(max_tokens=ANSWER_TOKENS)
    return Run(
        short=_answer(model, (short,), options),
        long=_answer(model, (long,), options),
        assessment=_assess(model, seed),
    )


def writing_speed(answers: Sequence[Answered]) -> float | None:
    """Return tokens a second after the first, over all answers; `None` if no answer has a second token."""
    seconds = sum(answer.writing_s for answer in answers)
    tokens = sum(answer.tokens - 1 for answer in answers)
    return tokens / seconds if tokens and seconds > 0 else None


def reading_speed(answers: Sequence[Answered]) -> float:
    """Return the median of prompt tokens a second."""
    return statistics.median(answer.prompt_tokens / answer.first_token_s for answer in answers)


def weight_bytes_per_token(bundle: Bundle) -> int:
    """Return the bytes of weights that writing one token reads: the decoder's and the head's, often the table's."""
    manifest = bundle.manifest
    sizes = manifest.weight_bytes
    sizes.pop(manifest.vision_weights or "", None)
    if not manifest.architecture.text.tie_word_embeddings:
        sizes.pop(f"{manifest.graphs['embedding']}.data", None)  # one row of it; the head is the decoder's
    return sum(sizes.values())


def _assess(model: MedGemma, seed: int) -> Answered:
    options = GenerationOptions(max_tokens=ASSESSMENT_TOKENS_MAX, json_schema=ASSESSMENT_SCHEMA)
    text = TextPart(text=f"{seed}. {ASSESSMENT_PROMPT}")
    if model.bundle.manifest.architecture.vision is None:
        return _answer(model, (text,), options)
    return _answer(model, (ImagePart(content=photo(seed, PHOTO_SIDE_PX)), text), options)


def _prompt(model: MedGemma, tokens: int, seed: int) -> TextPart:
    def count(text: str) -> int:
        return model.check_prompt([Message(role="user", parts=(TextPart(text=text),))])

    return TextPart(text=text_of(tokens, seed, count))


def _answer(model: MedGemma, parts: tuple[ImagePart | TextPart, ...], options: GenerationOptions) -> Answered:
    images = tuple(part for part in parts if isinstance(part, ImagePart))
    started_s = time.monotonic()
    for image in images:
        model.encode_image(image.content)
    encoded_s = time.monotonic()
    if images:
        model.read_ahead([Message(role="user", parts=images)])
    asked_s = first_s = time.monotonic()
    tokens = 0
    for item in model.generate([Message(role="user", parts=parts)], options):
        if isinstance(item, Generation):
            generation = item
        elif tokens == 0 and item.token_ids:
            first_s = time.monotonic()
        tokens += 0 if isinstance(item, Generation) else len(item.token_ids)
    return Answered(
        prompt_tokens=generation.timings.prompt_tokens,
        tokens=tokens,
        vision_s=encoded_s - started_s,
        read_ahead_s=asked_s - encoded_s,
        first_token_s=first_s - asked_s,
        writing_s=time.monotonic() - first_s,
    )
