"""White balance from the card's greys and paper: a derived picture, beside the original and never instead of it.

Only the colour of the light is taken out; nothing is made lighter or darker, or dark skin would be "corrected" too.
Greys are neutral from any printer; the coloured patches are not what they should be from most, so they only say how far
the whole chain is off.
Source: von Kries adaptation in linear sRGB; CIE 15 (L*a*b*, colour difference of 1976).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.imaging.card import CardView
from appliance.imaging.card_layout import PAPER_MM, PATCH_MM, PATCHES, is_grey
from appliance.imaging.filters import linear_from_srgb, sample, srgb_from_linear

_LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])
_XYZ: Final = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)])
_WHITE: Final = _XYZ.sum(axis=1)
_INNER_SHARE: Final = 0.6
_USABLE: Final = (8, 250)
"""Patches that are black or burnt out say nothing about the light."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardColour:
    """What the card says about the light."""

    gains: tuple[float, float, float]
    """Factors of R, G and B in linear light; together they leave the brightness of a grey as it is."""
    cast: float
    """Largest natural logarithm of a gain: 0 for white light, 0.3 for a lamp that is clearly yellow."""
    colour_error: float
    """Median difference of the coloured patches from their stated values, L*a*b*, after correction and with the
    brightness set aside; above about 20 the card was printed on an uncalibrated printer."""


def card_colour(pixels: NDArray[np.uint8], view: CardView) -> CardColour | None:
    """Read the patches of a card in uint8 [H, W, 3] RGB; None when too few can be read."""
    patches = [(patch, _colour_at(pixels, view, (patch.x_mm, patch.y_mm), PATCH_MM)) for patch in PATCHES]
    paper = [_colour_at(pixels, view, place, 1.5) for place in PAPER_MM]
    neutral = [colour for patch, colour in patches if is_grey(patch) and _is_usable(colour)]
    neutral += [colour for colour in paper if _is_usable(colour)]
    if len(neutral) < 4:
        return None
    light = linear_from_srgb(np.array(neutral))
    brightness = light @ _LUMINANCE
    gains = np.median(brightness[:, None] / light, axis=0)
    gains = gains / float((gains * light.mean(axis=0)) @ _LUMINANCE / brightness.mean())
    errors = [_colour_error(linear_from_srgb(colour) * gains, patch.srgb) for patch, colour in patches]
    coloured = [error for error, (patch, colour) in zip(errors, patches, strict=True) if not is_grey(patch)]
    red, green, blue = (float(gain) for gain in gains)
    return CardColour(
        gains=(red, green, blue), cast=float(np.abs(np.log(gains)).max()), colour_error=float(np.median(coloured))
    )


def white_balanced(pixels: NDArray[np.uint8], colour: CardColour) -> NDArray[np.uint8]:
    """Return the picture as under white light, uint8 [H, W, 3] RGB."""
    tables = [
        np.round(srgb_from_linear(linear_from_srgb(np.arange(256)) * gain)).astype(np.uint8) for gain in colour.gains
    ]
    return np.stack([tables[channel][pixels[..., channel]] for channel in range(3)], axis=2)


def lab_from_linear(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn linear sRGB light, last axis 3, into L*a*b* (D65)."""
    share = light @ _XYZ.T / _WHITE
    root = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _colour_at(
    pixels: NDArray[np.uint8], view: CardView, middle_mm: tuple[float, float], side_mm: float
) -> NDArray[np.float64]:
    """Return the median colour of a square of the card, sRGB float64 [3]."""
    half = side_mm / 2 * _INNER_SHARE
    x, y = np.meshgrid(*(np.linspace(middle - half, middle + half, 7) for middle in middle_mm))
    points = view.picture_from_card(np.column_stack([x.ravel(), y.ravel()]))
    channels = [np.median(sample(pixels[..., channel].astype(np.float32), points)) for channel in range(3)]
    return np.array(channels, np.float64)


def _is_usable(colour: NDArray[np.float64]) -> bool:
    return bool(colour.min() >= _USABLE[0] and colour.max() <= _USABLE[1])


def _colour_error(light: NDArray[np.float64], stated: tuple[int, int, int]) -> float:
    wanted = linear_from_srgb(np.array(stated))
    same_brightness = light * (wanted @ _LUMINANCE) / max(1e-6, float(light @ _LUMINANCE))
    return float(np.linalg.norm(lab_from_linear(same_brightness) - lab_from_linear(wanted)))
