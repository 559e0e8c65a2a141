"""Conversations that a bundle is measured on: drawings from a stream of their own, questions, and their right answers.

The answers are given, not generated, so that every bundle and its reference predict the same tokens. Any Gemma 3 can be
measured on them: a model that knows nothing of drawings still has a distribution for every next token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.assessment import ASSESSMENT_PROMPT
from appliance.medgemma.bundle import Bundle
from appliance.medgemma.generation import ImagePart, Message, TextPart
from appliance.medgemma.preprocess import pixel_values_from_image
from appliance.medgemma.prompt import PromptBuilder
from appliance.medgemma.tokenizer import Tokenizer
from export.demo.answers import ANSWERABLE_QUESTIONS, assessment_answer, follow_up_answer
from export.demo.drawings import draw_varied
from export.demo.scene import Attributes

CONVERSATION_STREAM: Final = 4242
"""Seed of the drawings: neither trained on, nor held out for the card, nor shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One question about a drawing with its whole answer."""

    picture: int
    """Number of the drawing; those of one drawing follow each other."""
    pixel_values: NDArray[np.float32] | None
    """float32 [1, 3, image_size, image_size]; `None` for a model that takes text only."""
    input_ids: tuple[int, ...]
    """Prompt and answer."""
    answer_start: int
    """Position of the answer's first token."""

    @property
    def wanted(self) -> range:
        """Positions whose next token belongs to the answer."""
        return range(self.answer_start - 1, len(self.input_ids) - 1)


def make_conversations(bundle: Bundle, pictures: int, questions: int = 1) -> Iterator[Conversation]:
    """Draw and ask, one picture at a time.

    Args:
        bundle: Whose tokenizer, chat template and preprocessing write the prompts.
        pictures: Drawings; each is assessed.
        questions: Further questions about each, in turn.
    """
    manifest = bundle.manifest
    spec = manifest.architecture
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.tokens)
    builder = PromptBuilder(manifest.chat_template, tokenizer, spec)
    for picture in range(pictures):
        drawing = draw_varied(CONVERSATION_STREAM, picture)
        pixel_values = None
        if spec.vision is not None:
            pixel_values, _ = pixel_values_from_image(drawing.pixels, spec.vision.image_size, manifest.preprocessing)
        for question, answer in _questions(drawing.attributes, picture, questions):
            image = (ImagePart(content=b""),) if spec.vision is not None else ()
            prompt = builder.build([Message(role="user", parts=(*image, TextPart(text=question)))]).token_ids
            yield Conversation(
                picture=picture,
                pixel_values=pixel_values,
                input_ids=(*prompt, *tokenizer.encode_text(answer), spec.tokens.eos_token_ids[-1]),
                answer_start=len(prompt),
            )


def _questions(truth: Attributes, picture: int, count: int) -> Iterator[tuple[str, str]]:
    yield ASSESSMENT_PROMPT, assessment_answer(truth)
    for number in range(picture * count, (picture + 1) * count):
        question = ANSWERABLE_QUESTIONS[number % len(ANSWERABLE_QUESTIONS)]
        yield question, follow_up_answer(question, truth)
