"""What one drawing shows: its true attributes and the plan from which it is painted.

Does not paint. The vocabularies are the product's own (`appliance.assessment`), so a drawing cannot show what the
assessment cannot say.
Source: Monk skin tone scale (ten tones); diameter buckets and ABCD attributes of `appliance.assessment`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from appliance.assessment import ASYMMETRIES, BORDERS, COLOURS, DIAMETERS_MM, NUMBERS, QUALITIES, SURFACES

MONK_TONES: Final = tuple(range(1, 11))
_QUALITY_SHARES: Final = (0.85, 0.05, 0.05, 0.05)
_NUMBER_SHARES: Final = (0.08, 0.74, 0.18)
# Gaps between the buckets keep the truth readable from a ruler with 1 mm ticks.
_DIAMETER_RANGES_MM: Final = ((1.9, 2.6), (3.6, 5.1), (6.9, 9.0), (11.2, 14.5))
# Overlapping widths force the ruler to be read; the camera comes close enough for 44 px at least.
_WIDTH_RANGES_PX: Final = ((44.0, 68.0), (50.0, 88.0), (58.0, 104.0), (74.0, 116.0))
_SEVERAL_MAX_WIDTH_PX: Final = 84.0
_EXTRA_COLOUR_SHARES: Final = (0.36, 0.36, 0.20, 0.08)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """The truth about one drawing; `None` and empty where there is no lesion.

    `width_mm` is the largest width in millimetres (0 without lesion); `px_per_mm` is the camera scale in pixels of a
    160-pixel picture.
    """

    quality: str
    monk_tone: int
    number: str
    asymmetry: str | None = None
    border: str | None = None
    colours: tuple[str, ...] = ()
    diameter_mm: str | None = None
    surface: str | None = None
    width_mm: float = 0.0
    px_per_mm: float

    @property
    def skin_tone(self) -> str:
        """The skin tone word for the Monk tone: 1-4 light, 5-7 medium, 8-10 dark."""
        return "light" if self.monk_tone <= 4 else "medium" if self.monk_tone <= 7 else "dark"

    @property
    def is_ok(self) -> bool:
        """Whether the picture can be assessed."""
        return self.quality == "ok"

    @property
    def has_lesion(self) -> bool:
        """Whether at least one lesion is drawn."""
        return self.number != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A plan for one drawing: the truth, and which colour is the ground of the lesion and which lie on it."""

    attributes: Attributes
    base: str
    extras: tuple[str, ...]


def plan_scene(rng: np.random.Generator) -> Scene:
    """Choose every attribute of one drawing at random and independently, as far as it can be drawn legibly."""
    monk_tone = int(rng.integers(1, 11))
    quality = _choice(rng, QUALITIES, _QUALITY_SHARES)
    number = _choice(rng, NUMBERS, _NUMBER_SHARES)
    bucket = int(rng.integers(len(DIAMETERS_MM)))
    width_mm = float(rng.uniform(*_DIAMETER_RANGES_MM[bucket]))
    low_px, high_px = _WIDTH_RANGES_PX[bucket]
    if number == "several":
        high_px = min(high_px, _SEVERAL_MAX_WIDTH_PX)
    width_px = float(rng.uniform(low_px, high_px))
    surface = _choice(rng, SURFACES)
    base = _base_colour(rng, monk_tone, surface)
    extras = _extra_colours(rng, base, surface, width_px)
    if number == "none":
        empty = Attributes(quality=quality, monk_tone=monk_tone, number=number, px_per_mm=width_px / width_mm)
        return Scene(attributes=empty, base=base, extras=())
    attributes = Attributes(
        quality=quality,
        monk_tone=monk_tone,
        number=number,
        asymmetry=_choice(rng, ASYMMETRIES),
        border=_choice(rng, BORDERS),
        colours=tuple(colour for colour in COLOURS if colour in (base, *extras)),
        diameter_mm=DIAMETERS_MM[bucket],
        surface=surface,
        width_mm=width_mm,
        px_per_mm=width_px / width_mm,
    )
    return Scene(attributes=attributes, base=base, extras=extras)


def _choice(rng: np.random.Generator, words: tuple[str, ...], shares: tuple[float, ...] | None = None) -> str:
    return words[int(rng.choice(len(words), p=shares))]


def _base_colour(rng: np.random.Generator, monk_tone: int, surface: str) -> str:
    """Light brown would not show on tones 6-10; an ulcer is red, so its ground is not."""
    if monk_tone <= 5:
        base = _choice(rng, ("light brown", "dark brown", "red"), (0.48, 0.38, 0.14))
    elif monk_tone <= 7:
        base = _choice(rng, ("dark brown", "red"), (0.8, 0.2))
    else:
        base = _choice(rng, ("dark brown", "black", "red"), (0.6, 0.2, 0.2))
    return "dark brown" if surface == "ulcerated" and base == "red" else base


def _extra_colours(rng: np.random.Generator, base: str, surface: str, width_px: float) -> tuple[str, ...]:
    """Up to three more colours, as many as can be seen in a lesion of this width; an ulcer always brings red."""
    most = 1 if width_px < 58 else 2 if width_px < 88 else 3
    count = min(int(rng.choice(4, p=_EXTRA_COLOUR_SHARES)), most)
    pool = [colour for colour in COLOURS[1:] if colour != base]
    if surface == "ulcerated":
        pool.remove("red")
        others = rng.choice(pool, max(0, count - 1), replace=False)
        return ("red", *(str(colour) for colour in others))
    return tuple(str(colour) for colour in rng.choice(pool, count, replace=False))
