"""Who answers when a card is measured: the reference implementation in float32, or our own runtime with a bundle."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import Gemma3ForConditionalGeneration

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import GenerationOptions, ImagePart, Message, TextPart
from export.demo.model import TOKEN_ID
from export.demo.tokens import SPECIAL_TOKENS, prompt_text

ANSWER_TOKENS: Final = 160
_BATCH: Final = 125

Speaker = Callable[[npt.NDArray[np.uint8], str], Iterator[str]]
"""Answers one question about each of pictures uint8 [N, 160, 160, 3], greedily, in order."""


def float32_speaker(folder: Path) -> Speaker:
    """Return a speaker for a Hugging Face folder, whose stored weights are computed with in float32."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return reference_speaker(model, Tokenizer.from_file(str(folder / "tokenizer.json")))


def reference_speaker(model: Any, tokenizer: Tokenizer) -> Speaker:
    """Return a speaker that generates with transformers, in the model's own precision."""
    ends = [TOKEN_ID["<eos>"], TOKEN_ID["<end_of_turn>"]]

    def speak(pixels: npt.NDArray[np.uint8], question: str) -> Iterator[str]:
        ids = tokenizer.encode(prompt_text(question), add_special_tokens=False).ids
        for first in range(0, len(pixels), _BATCH):
            part = torch.from_numpy(np.array(pixels[first : first + _BATCH])).permute(0, 3, 1, 2)
            input_ids = torch.tensor([ids] * len(part))
            with torch.no_grad():
                output = model.generate(
                    input_ids=input_ids,
                    pixel_values=part.float().div(127.5).sub(1).to(model.dtype),
                    token_type_ids=(input_ids == TOKEN_ID["<image_soft_token>"]).long(),
                    attention_mask=torch.ones_like(input_ids),
                    max_new_tokens=ANSWER_TOKENS,
                    do_sample=False,
                    eos_token_id=ends,
                    pad_token_id=TOKEN_ID["<pad>"],
                )
            for row in output[:, len(ids) :].tolist():
                yield tokenizer.decode([token for token in row if token >= len(SPECIAL_TOKENS)])

    return speak


def runtime_speaker(bundle: Path, threads: int | None = None) -> Speaker:
    """Return a speaker that generates with our own runtime, an assessment under the product's JSON schema."""
    model = MedGemma.load(bundle, RuntimeOptions(threads=threads))

    def speak(pixels: npt.NDArray[np.uint8], question: str) -> Iterator[str]:
        schema = ASSESSMENT_SCHEMA if question == ASSESSMENT_PROMPT else None
        options = GenerationOptions(max_tokens=ANSWER_TOKENS, json_schema=schema)
        for picture in pixels:
            parts = (ImagePart(content=_png_bytes(picture)), TextPart(text=question))
            *_, generation = model.generate([Message(role="user", parts=parts)], options)
            yield generation.text

    return speak


def _png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
