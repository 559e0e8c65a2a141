"""What engines are given: a prompt's length is counted with the bundle's tokenizer; the assessment has no end."""

from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA
from appliance.benchmark import prompts

TEMPLATE: Final = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
"""Gemma 3's, for one turn."""

_ASSESSED: Final = ASSESSMENT_SCHEMA["anyOf"][0]
_DESCRIPTION: Final = {"type": "string", "minLength": 1}
UNBOUNDED_ASSESSMENT_SCHEMA: Final[dict[str, Any]] = {
    **_ASSESSED,
    "properties": {**_ASSESSED["properties"], "description": _DESCRIPTION},
}
"""The longest of the assessment's three shapes, its description without a limit: random weights choose no end, so
that every engine writes as many tokens as it is told."""


def text_of(tokens: int, seed: int, tokenizer: Tokenizer) -> str:
    """Return words for a prompt of so many tokens, or hardly more, chat template included."""

    def count(text: str) -> int:
        return len(tokenizer.encode(TEMPLATE.format(text), add_special_tokens=False).ids)

    return prompts.text_of(tokens, seed, count)


def assessment_prompt(seed: int) -> str:
    """Return the station's question, led by a number of its own."""
    return f"{np.random.default_rng(seed).integers(10**6, 10**7)}. {ASSESSMENT_PROMPT}"
