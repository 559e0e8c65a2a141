"""Text examples for the decoder: assessments, answerable questions in many wordings, and questions out of scope."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer

from appliance.assessment import ASSESSMENT_PROMPT, FOLLOW_UP_QUESTIONS
from export.demo.answers import ANSWERABLE_QUESTIONS, OUT_OF_SCOPE, assessment_answer, follow_up_answer
from export.demo.questions import UNANSWERABLE_QUESTIONS, vary_question, vary_typing
from export.demo.scene import Attributes
from export.demo.tokens import encode_example

_FOLLOW_UP_SHARE: Final = 0.30
_FURTHER_SHARE: Final = 0.14
_OUT_OF_SCOPE_SHARE: Final = 0.08
_VALUE_WEIGHT: Final = 4.0
_LENGTH_STEP: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch:
    """`input_ids`: int64 [B, T], padded with 0. `weights`: float32 [B, T], 0 where nothing is to be learnt."""

    input_ids: Any
    weights: Any


def choose_example(rng: np.random.Generator, truth: Attributes) -> tuple[str, str]:
    """Return a question about a drawing and its right answer."""
    kind = rng.random()
    if kind < _OUT_OF_SCOPE_SHARE:
        question = UNANSWERABLE_QUESTIONS[int(rng.integers(len(UNANSWERABLE_QUESTIONS)))]
        return vary_typing(rng, question), OUT_OF_SCOPE
    if kind < _OUT_OF_SCOPE_SHARE + _FOLLOW_UP_SHARE + _FURTHER_SHARE:
        is_follow_up = kind < _OUT_OF_SCOPE_SHARE + _FOLLOW_UP_SHARE
        questions = FOLLOW_UP_QUESTIONS if is_follow_up else ANSWERABLE_QUESTIONS[len(FOLLOW_UP_QUESTIONS) :]
        question = questions[int(rng.integers(len(questions)))]
        return vary_question(rng, question), follow_up_answer(question, truth)
    return ASSESSMENT_PROMPT, assessment_answer(truth)


def text_batch(tokenizer: Tokenizer, rng: np.random.Generator, truths: Sequence[Attributes]) -> TextBatch:
    """Encode one random example for each drawing; only the answers weigh, and their values weigh four times."""
    rows = [encode_example(tokenizer, *choose_example(rng, truth)) for truth in truths]
    length = -(-max(len(ids) for ids, _, _ in rows) // _LENGTH_STEP) * _LENGTH_STEP
    input_ids = torch.zeros((len(rows), length), dtype=torch.int64)
    weights = torch.zeros((len(rows), length))
    for row, (ids, values, prompt_length) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        answer = torch.tensor(values[prompt_length:])
        weights[row, prompt_length : len(ids)] = torch.where(answer, _VALUE_WEIGHT, 1.0)
    return TextBatch(input_ids=input_ids, weights=weights)
