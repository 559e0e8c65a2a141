"""What a benchmark gives to a model: prompts of a wanted number of tokens, and photos.

Each seed gives a text that differs from its first words on, so that no engine can have read it before.
"""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

_WORDS: Final = (
    "skin lesion border colour brown black blue white red light dark flat raised round oval small large "
    "centre edge left right upper lower arm leg back face hand foot week month year since before after "
    "pain itch blood scale crust hair sun family history change shape size one two three none some many "
    "the a and with without near above below over under has is was not looks grows bleeds photo picture"
)
_TOKENS_PER_WORD_MAX: Final = 8
"""Of a small vocabulary that spells most words letter by letter."""
_JPEG_QUALITY: Final = 92


def text_of(tokens: int, seed: int, count: Callable[[str], int]) -> str:
    """Return words that make a prompt of at least so many tokens, and of hardly more.

    Args:
        tokens: Wanted, the chat template's included.
        seed: Of the words.
        count: Tells how many tokens the prompt with a text has.
    """
    choices = _WORDS.split()
    rng = np.random.default_rng(seed)
    words: list[str] = []
    missing = tokens
    while missing > 0:
        words += rng.choice(choices, max(1, missing // _TOKENS_PER_WORD_MAX)).tolist()
        missing = tokens - count(" ".join(words))
    return " ".join(words)


def photo(seed: int, side_px: int) -> bytes:
    """Return a square JPEG: what is on it does not matter to speed, that it is another one each time does."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
