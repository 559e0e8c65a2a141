"""What is told of kept photos in numbers: a lesion's size by the card, and what changed since an earlier photo.

It runs in the decoding process. What cannot be measured is absent; every number comes with what it may be off by.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from appliance.imaging.card import CardView, find_card
from appliance.imaging.card_colour import card_colour, white_balanced
from appliance.imaging.card_layout import ARM_LENGTH_MM, ARM_WIDTH_MM, LESION_MM
from appliance.imaging.change import FIELD_MM, lesion_change, skin_correlation, window
from appliance.imaging.filters import box_blur
from appliance.imaging.lesion_measure import cut_out, measure_lesion
from appliance.imaging.registration import Affine, Registration, inverted, register, warped

SHARE_OFF: Final = 0.05
"""Of a diameter: to this the tests hold angle, distance, light and turn (`tests/test_imaging_card.py`)."""
_CARD_MARGIN_MM: Final = 1.5
_WINDOW_MM: Final = 14.0
"""Around the place for the lesion: the card begins two millimetres further out."""
_CONTRAST_MIN: Final = 12.0
"""L*a*b*; light that falls off over a whole arm was once taken for a lesion of 6."""
_SKIN_CORRELATION_MIN: Final = 0.25
"""The same skin had 0.6 and more, other skin with a lesion in the same place below 0.1 (`DESIGN.md`, Two visits)."""
_SAME_LESION_MAX: Final = 0.7
"""Of the outlines' union, covered by only one of them: two that hardly meet are not one lesion that changed."""
_COMPARED_SHORT_SIDE_PX: Final = 540
"""What registration and change were tested with; larger photos take longer and give no other answer."""


Place = tuple[tuple[float, float], float]
"""Where the lesion lies, x and y in pixels, and pixels per millimetre, as the card says."""


class CardFinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the card in a photo says; lengths on the card's plane."""

    px_per_mm: float
    markers: int
    long_diameter_mm: float | None = None
    """None where nothing stands out from the skin inside the card's angle."""
    short_diameter_mm: float | None = None
    area_mm2: float | None = None
    off_by_mm: float | None = None
    """What the long diameter may be off by."""
    gains: tuple[float, float, float] | None = None
    """Factors of R, G and B in linear light that make the card's greys grey; None where too few can be read."""
    cast: float | None = None
    """Largest natural logarithm of a gain."""


class ChangeFinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a later photo lies over an earlier one, and what became of the lesion between them."""

    to_later: tuple[float, float, float, float, float, float]
    """Affine, row by row: takes a place of the earlier photo, x and y in pixels, to the later one."""
    skin_correlation: float
    """Of the skin's pattern around the lesion where they lie over each other, 0.25 to 1."""
    area_ratio: float | None = None
    """None where the lesion cannot be parted from the skin in both."""
    colour_difference: float | None = None
    """L*a*b*, once the skin around has been given the same colour."""
    border_moved_share: float | None = None


class CardAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the decoding process answers."""

    found: CardFinding | None


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Likewise."""

    found: ChangeFinding | None


def card_finding(pixels: NDArray[np.uint8]) -> CardFinding | None:
    """Measure by the card in uint8 [H, W, 3] RGB; None when no card is seen."""
    view = find_card(pixels)
    if view is None:
        return None
    colour = card_colour(pixels, view)
    measure = measure_lesion(white_balanced(pixels, colour) if colour is not None else pixels, view)
    finding = CardFinding(
        px_per_mm=view.px_per_mm(),
        markers=len(view.markers),
        gains=colour.gains if colour is not None else None,
        cast=colour.cast if colour is not None else None,
    )
    if measure is None:
        return finding
    return msgspec.structs.replace(
        finding,
        long_diameter_mm=measure.long_diameter_mm,
        short_diameter_mm=measure.short_diameter_mm,
        area_mm2=measure.area_mm2,
        off_by_mm=SHARE_OFF * measure.long_diameter_mm + view.error_mm,
    )


def balanced_by_card(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return uint8 [H, W, 3] RGB as under white light; None when no card is seen or its greys cannot be read."""
    view = find_card(pixels)
    colour = card_colour(pixels, view) if view is not None else None
    return white_balanced(pixels, colour) if colour is not None else None


def change_finding(earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> ChangeFinding | None:
    """Compare two photos; None when they do not show the same skin.

    The card is taken out of both first: it lies elsewhere each time, and would be what is compared.

    Args:
        earlier: uint8 [H, W, 3], RGB.
        later: uint8 [H', W', 3], RGB.
    """
    (first, first_scale), (second, second_scale) = (_reduced(pixels) for pixels in (earlier, later))
    first, place = _without_card(first)
    second, later_place = _without_card(second)
    registration = register(_without_lesion(first, place), _without_lesion(second, later_place))
    if registration is None:
        return None
    at_px, px_per_mm = place if place is not None else (None, None)
    window_mm = _WINDOW_MM if place is not None else None
    change = lesion_change(first, second, registration, at_px, px_per_mm, window_mm)
    skin = change.skin_correlation if change is not None else _correlation_of_all(first, second, registration)
    if skin < _SKIN_CORRELATION_MIN:
        return None
    finding = ChangeFinding(to_later=_in_full(registration.to_later, first_scale, second_scale), skin_correlation=skin)
    if change is None or change.border_moved_share > _SAME_LESION_MAX or change.contrast < _CONTRAST_MIN:
        return finding
    return msgspec.structs.replace(
        finding,
        area_ratio=change.area_ratio,
        colour_difference=change.colour_difference,
        border_moved_share=change.border_moved_share,
    )


def _correlation_of_all(first: NDArray[np.uint8], second: NDArray[np.uint8], registration: Registration) -> float:
    shape = (first.shape[0], first.shape[1])
    placed = warped(second, inverted(registration.to_later), shape)
    return skin_correlation(first.astype(np.float32), placed, np.zeros(shape, np.bool_))


def _in_full(
    to_later: Affine, first_scale: float, second_scale: float
) -> tuple[float, float, float, float, float, float]:
    """Return the map between photos of which smaller ones were compared; pixel centres are whole numbers in both."""
    half = np.array([0.5, 0.5])
    inner = to_later[:, :2] * first_scale / second_scale
    origin = (to_later[:, :2] @ (half * first_scale - half) + to_later[:, 2] + half) / second_scale - half
    (a, b), (c, d) = inner
    return float(a), float(b), float(origin[0]), float(c), float(d), float(origin[1])


def _reduced(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return a photo at the size that is compared, and the factor from its pixels to those."""
    scale = min(1.0, _COMPARED_SHORT_SIDE_PX / min(pixels.shape[:2]))
    if scale == 1.0:
        return pixels, 1.0
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)), scale


def _without_card(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Place | None]:
    """Paint the card over with the colour of the skin; return that, where the lesion lies in pixels, and the scale."""
    view = find_card(pixels)
    if view is None:
        return pixels, None
    picture = Image.fromarray(pixels)
    skin = np.median(pixels[::4, ::4].reshape(-1, 3), axis=0).astype(np.uint8)
    ImageDraw.Draw(picture).polygon(_outline(view), fill=(int(skin[0]), int(skin[1]), int(skin[2])))
    x, y = view.picture_from_card(np.array([LESION_MM]))[0]
    return np.asarray(picture), ((float(x), float(y)), view.px_per_mm())


def _without_lesion(pixels: NDArray[np.uint8], place: Place | None) -> NDArray[np.uint8]:
    """Paint the lesion over with the colour of the skin around it: it is what may have changed, and would be fitted."""
    height, width = pixels.shape[:2]
    (x, y), px_per_mm = place or ((width / 2, height / 2), min(height, width) / FIELD_MM)
    part, near_px = window((x, y), _WINDOW_MM * px_per_mm if place is not None else max(height, width), (height, width))
    found = cut_out(pixels[part].astype(np.float32), near_px, px_per_mm)
    if found is None or found[1] < _CONTRAST_MIN:
        return pixels
    painted = pixels.copy()
    region = box_blur(found[0].astype(np.float32), max(2, min(height, width) // 40)) > 1e-3
    rim = box_blur(region.astype(np.float32), max(2, min(height, width) // 60)) > 1e-3
    painted[part][region] = np.median(pixels[part][rim & ~region], axis=0)
    return painted


def _outline(view: CardView) -> list[tuple[float, float]]:
    """Return the L's corners in the picture, a little outside of its edge."""
    low, high, inner = -_CARD_MARGIN_MM, ARM_LENGTH_MM + _CARD_MARGIN_MM, ARM_WIDTH_MM + _CARD_MARGIN_MM
    corners = [(low, low), (high, low), (high, inner), (inner, inner), (inner, high), (low, high)]
    return [(float(x), float(y)) for x, y in view.picture_from_card(np.array(corners))]
