"""What became of a lesion between two visits: area, size, colour and border, and pictures to see it by.

Measured where both photos lie over each other, relative to the skin around, so that another distance of the camera is
no growth. A proposal beside the two photos, never instead of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.imaging.card_colour import lab_from_linear
from appliance.imaging.filters import box_blur, linear_from_srgb, luma
from appliance.imaging.lesion_measure import cut_out, diameters_px
from appliance.imaging.registration import Registration, inverted, warped

FIELD_MM: Final = 42.0
"""Taken for the short side where no card tells: only thresholds of size depend on it."""
_GHOST_OPACITY: Final = 0.45
_SKIN_SHARE_MIN: Final = 0.1
"""Of the picture: on less skin than that no pattern is recognised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionChange:
    """Later against earlier."""

    area_ratio: float
    long_diameter_ratio: float
    colour_difference: float
    """Between the lesions' median colours, L*a*b*, once the skin around has been given the same colour."""
    border_moved_share: float
    """Share of both outlines' union that only one of them covers: 0 for the same border, 1 for none in common."""
    irregularity_change: float
    """Of the border's length squared over 4 pi times the area; above 0 the border became more ragged."""
    contrast: float
    """Of the lesion against the skin, L*a*b*, where it is less of the two: what is faint may be skin."""
    skin_correlation: float
    """Of the skin's pattern around the lesion, -1 to 1: two dark spots alone lie over each other on any skin."""


def lesion_change(
    earlier: NDArray[np.uint8],
    later: NDArray[np.uint8],
    registration: Registration,
    at_px: tuple[float, float] | None = None,
    px_per_mm: float | None = None,
    window_mm: float | None = None,
) -> LesionChange | None:
    """Compare the lesion of two photos.

    Args:
        earlier: uint8 [H, W, 3], RGB; white-balanced if possible.
        later: uint8 [H', W', 3], RGB.
        registration: How they lie over each other.
        at_px: Where the lesion lies in the earlier photo, x and y; its middle when absent.
        px_per_mm: The earlier photo's scale where a card tells; a guess will do otherwise.
        window_mm: How far around the lesion is looked at; everywhere when absent.

    Returns:
        The change, or None where the lesion cannot be parted from the skin in both.
    """
    shape = (earlier.shape[0], earlier.shape[1])
    near_px = at_px or (shape[1] / 2, shape[0] / 2)
    px_per_mm = px_per_mm or min(shape) / FIELD_MM
    first = earlier.astype(np.float32)
    second = warped(later, inverted(registration.to_later), shape)
    # Both lose what one of them does not show.
    first[np.isnan(second[..., 0])] = np.nan
    if window_mm is not None:
        part, near_px = window(near_px, window_mm * px_per_mm, shape)
        first, second = first[part], second[part]
    cuts = [cut_out(pixels, near_px, px_per_mm) for pixels in (first, second)]
    if cuts[0] is None or cuts[1] is None:
        return None
    one, other = cuts[0][0], cuts[1][0]
    (lesion, skin), (later_lesion, later_skin) = _lesion_and_skin(first, one), _lesion_and_skin(second, other)
    # The light of the second visit is made that of the first by the skin, which is the same.
    same_light = later_lesion * skin / np.maximum(later_skin, 1e-4)
    rows = [np.nonzero(region) for region in (one, other)]
    long_px = [diameters_px(columns, lines)[0] for lines, columns in rows]
    return LesionChange(
        area_ratio=float(other.sum() / one.sum()),
        long_diameter_ratio=long_px[1] / long_px[0],
        colour_difference=float(np.linalg.norm(lab_from_linear(same_light) - lab_from_linear(lesion))),
        border_moved_share=float((one ^ other).sum() / (one | other).sum()),
        irregularity_change=_irregularity(other) - _irregularity(one),
        contrast=min(cuts[0][1], cuts[1][1]),
        skin_correlation=skin_correlation(first, second, one | other),
    )


def skin_correlation(first: NDArray[np.float32], second: NDArray[np.float32], lesion: NDArray[np.bool_]) -> float:
    """Correlate what is left of both photos without their slow changes, away from the lesion and its rim.

    Args:
        first: float32 [H, W, 3], RGB, range [0, 255]; NaN where there is no picture.
        second: Likewise, in the same frame.
        lesion: bool [H, W].

    Returns:
        -1 to 1: 0.6 and more on the same skin, below 0.1 on other skin; 0 where too little skin is seen.
    """
    radius_px = max(3, min(lesion.shape) // 12)
    missing = np.isnan(first[..., 0]) | np.isnan(second[..., 0]) | lesion
    around = box_blur(missing.astype(np.float32), radius_px + 2) < 1e-3
    if around.mean() < _SKIN_SHARE_MIN:
        return 0.0
    planes = []
    for pixels in (first, second):
        # What is missing or lesion becomes skin, so that its edge is no pattern.
        filled = np.where(missing[..., None], np.median(pixels[~missing], axis=0), pixels)
        grey = luma(filled.astype(np.uint8))
        planes.append((box_blur(grey, 1) - box_blur(grey, radius_px))[around])
    one, other = (plane - plane.mean() for plane in planes)
    return float(one @ other / max(1e-9, float(np.linalg.norm(one) * np.linalg.norm(other))))


def window(
    middle_px: tuple[float, float], half_px: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[float, float]]:
    """Return the rows and columns of a square, cut off at the picture's edge, and where its middle is in it."""
    left, right = (round(min(max(middle_px[0] + side, 0), shape[1])) for side in (-half_px, half_px))
    top, bottom = (round(min(max(middle_px[1] + side, 0), shape[0])) for side in (-half_px, half_px))
    return (slice(top, bottom), slice(left, right)), (middle_px[0] - left, middle_px[1] - top)


def ghost(earlier: NDArray[np.uint8], registration: Registration, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the earlier photo as it lies in the later one's frame, half transparent: uint8 [*shape, 4], RGBA."""
    placed = warped(earlier, registration.to_later, shape)
    is_seen = ~np.isnan(placed[..., 0])
    alpha = np.where(is_seen, round(255 * _GHOST_OPACITY), 0)
    return np.concatenate([np.nan_to_num(placed), alpha[..., None]], axis=2).astype(np.uint8)


def side_by_side(earlier: NDArray[np.uint8], later: NDArray[np.uint8], registration: Registration) -> NDArray[np.uint8]:
    """Return both photos at the earlier one's size and place, beside each other: uint8 [H, 2 W, 3], RGB."""
    placed = warped(later, inverted(registration.to_later), (earlier.shape[0], earlier.shape[1]))
    return np.concatenate([earlier, np.nan_to_num(placed).astype(np.uint8)], axis=1)


def _lesion_and_skin(
    pixels: NDArray[np.float32], region: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median colours of the lesion and of its skin, linear light, float64 [3] each."""
    skin = ~region & ~np.isnan(pixels[..., 0])
    lesion_colour, skin_colour = (np.median(pixels[chosen], axis=0) for chosen in (region, skin))
    return linear_from_srgb(lesion_colour), linear_from_srgb(skin_colour)


def _irregularity(region: NDArray[np.bool_]) -> float:
    """Return perimeter^2 / (4 pi area); 1 for a disc. Source: Crofton's formula for the perimeter, four directions."""
    padded = np.pad(region, 1)
    straight = [(padded[:, 1:] != padded[:, :-1]).sum(), (padded[1:] != padded[:-1]).sum()]
    slanted = [(padded[1:, 1:] != padded[:-1, :-1]).sum(), (padded[1:, :-1] != padded[:-1, 1:]).sum()]
    perimeter = np.pi / 8 * (float(sum(straight)) + float(sum(slanted)) / np.sqrt(2))
    return float(perimeter**2 / (4 * np.pi * region.sum()))
