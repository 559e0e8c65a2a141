"""How large a lesion is: cut out of the surrounding skin by a threshold on the card's plane, measured in millimetres.

A proposal for the nurse, who sees the outline and can measure by two touches instead (`CardView.distance_mm`).
Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE SMC 9(1), 1979.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.imaging.card import CardView
from appliance.imaging.card_colour import lab_from_linear
from appliance.imaging.card_layout import ARM_LENGTH_MM, ARM_WIDTH_MM, LESION_MM
from appliance.imaging.components import connected_runs
from appliance.imaging.filters import Plane, box_blur, linear_from_srgb, sample

PX_PER_MM: Final = 10
_MARGIN_MM: Final = 0.8
"""Kept from the card's edge and its shadow."""
_SMOOTH_MM: Final = 0.2
"""Hairs are thinner than this, lesions are not."""
_AREA_MIN_MM2: Final = 0.8
_CONTRAST_MIN: Final = 6.0
"""In L*a*b* units between lesion and skin; the pattern of bare skin stays below 4."""
_EDGE_ROUNDS: Final = 3
_INNER_PERCENTILE: Final = 70
"""Well inside the lesion, and not its darkest spot."""
_FAR_MM: Final = 12.0
_DIRECTIONS: Final = np.deg2rad(np.arange(0, 180, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionMeasure:
    """A lesion's measures on the card's plane."""

    long_diameter_mm: float
    """Largest distance between two points of its outline."""
    short_diameter_mm: float
    """Least distance between two parallels that hold it."""
    area_mm2: float
    middle_mm: tuple[float, float]
    """On the card."""
    contrast: float
    """Colour difference from the skin around, L*a*b*."""


def measure_lesion(
    pixels: NDArray[np.uint8], view: CardView, near_mm: tuple[float, float] = LESION_MM
) -> LesionMeasure | None:
    """Measure the lesion inside the card's angle.

    Args:
        pixels: uint8 [H, W, 3], RGB; white-balanced if possible.
        view: Where the card lies in it.
        near_mm: Place on the card near which the lesion lies.

    Returns:
        The measures, or None where nothing stands out from the skin.
    """
    origin_mm = ARM_WIDTH_MM + _MARGIN_MM
    flat = flattened(pixels, view, origin_mm, ARM_LENGTH_MM + 6)
    near_px = (float(near_mm[0] - origin_mm) * PX_PER_MM, float(near_mm[1] - origin_mm) * PX_PER_MM)
    found = cut_out(flat, near_px, PX_PER_MM)
    if found is None:
        return None
    region, contrast = found
    rows, columns = np.nonzero(region)
    long_px, short_px = diameters_px(columns, rows)
    return LesionMeasure(
        long_diameter_mm=long_px / PX_PER_MM,
        short_diameter_mm=short_px / PX_PER_MM,
        area_mm2=rows.size / PX_PER_MM**2,
        middle_mm=(origin_mm + float(columns.mean()) / PX_PER_MM, origin_mm + float(rows.mean()) / PX_PER_MM),
        contrast=contrast,
    )


def cut_out(
    pixels: NDArray[np.float32], near_px: tuple[float, float], px_per_mm: float
) -> tuple[NDArray[np.bool_], float] | None:
    """Part a lesion from the skin around it.

    Args:
        pixels: float32 [H, W, 3], RGB, range [0, 255]; NaN where there is no picture.
        near_px: Place (x, y) near which the lesion lies.
        px_per_mm: Scale; a guess will do where only relative sizes are wanted.

    Returns:
        Its pixels, bool [H, W], and its difference from the skin in L*a*b*; None where nothing stands out.
    """
    difference = _difference_from_skin(pixels, max(1, round(_SMOOTH_MM * px_per_mm)))
    inside = difference[np.isfinite(difference)]
    if inside.size < _AREA_MIN_MM2 * px_per_mm**2:
        return None
    region = _lesion(np.nan_to_num(difference, nan=0.0), _otsu(inside), np.array(near_px), px_per_mm)
    return (region, float(np.median(difference[region]))) if region is not None else None


def flattened(pixels: NDArray[np.uint8], view: CardView, from_mm: float, to_mm: float) -> NDArray[np.float32]:
    """Return a square of the card's plane as if seen from straight above, `PX_PER_MM` pixels a millimetre.

    Returns:
        float32 [S, S, 3], RGB, range [0, 255]; NaN where the picture ends.
    """
    along = np.arange(from_mm, to_mm, 1 / PX_PER_MM)
    x, y = np.meshgrid(along, along)
    points = view.picture_from_card(np.column_stack([x.ravel(), y.ravel()]))
    height, width = pixels.shape[:2]
    outside = (points < 0).any(axis=1) | (points[:, 0] > width - 1) | (points[:, 1] > height - 1)
    channels = [sample(pixels[..., channel].astype(np.float32), points) for channel in range(3)]
    flat = np.stack(channels, axis=1)
    flat[outside] = np.nan
    return np.asarray(flat.reshape(along.size, along.size, 3), np.float32)


def _difference_from_skin(flat: NDArray[np.float32], radius_px: int) -> Plane:
    """Return each place's colour difference from the skin, float32 [S, S]; the skin is the most frequent colour."""
    smooth = np.stack([box_blur(np.nan_to_num(flat[..., channel]), radius_px) for channel in range(3)], axis=2)
    lab = lab_from_linear(linear_from_srgb(smooth))
    valid = np.isfinite(flat[..., 0])
    # Light that falls off over the field is no lesion: a plane is fitted to the skin's brightness and colour.
    skin = valid.copy()
    for _ in range(3):
        fitted = _fitted_plane(lab, skin)
        difference = np.linalg.norm(lab - fitted, axis=2)
        skin = valid & (difference < max(3.0, 1.5 * float(np.median(difference[skin]))))
    return np.where(valid, difference, np.nan).astype(np.float32)


def _fitted_plane(lab: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    height, width = chosen.shape
    y, x = np.mgrid[:height, :width]
    terms = np.stack([np.ones_like(x, np.float64), x / width, y / height], axis=2)
    step = 3
    few = chosen[::step, ::step]
    solution = np.linalg.lstsq(terms[::step, ::step][few], lab[::step, ::step][few], rcond=None)[0]
    return np.asarray(terms @ solution)


def _lesion(
    difference: Plane, threshold: float, near_px: NDArray[np.float64], px_per_mm: float
) -> NDArray[np.bool_] | None:
    """Cut the lesion out, first at `threshold`, then half-way between the skin and what was found, where its edge is.

    Otsu's threshold is pulled towards the skin by a small lesion, of which the skin's pattern then becomes a part.
    """
    region = _region_near(difference > threshold, near_px, px_per_mm)
    for _ in range(_EDGE_ROUNDS):
        if region is None:
            return None
        contrast = float(np.percentile(difference[region], _INNER_PERCENTILE))
        if contrast < _CONTRAST_MIN:
            return None
        region = _region_near(difference > contrast / 2, near_px, px_per_mm)
    return region


def _otsu(values: NDArray[np.float32]) -> float:
    """Return the threshold that parts two classes best, and is never in the noise of the skin."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    sums = (counts * middles).cumsum()
    mean_below = sums[:-1] / np.maximum(below[:-1], 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above[1:], 1)
    between = below[:-1] * above[1:].astype(np.float64) * (mean_below - mean_above) ** 2
    return max(float(middles[int(between.argmax())]), _CONTRAST_MIN * 0.6)


def _region_near(mask: NDArray[np.bool_], near_px: NDArray[np.float64], px_per_mm: float) -> NDArray[np.bool_] | None:
    """Return the region that is large for how far it lies from where the lesion should be."""
    runs = connected_runs(mask)
    areas = runs.areas()
    best, best_score = None, 0.0
    for region in np.nonzero(areas >= _AREA_MIN_MM2 * px_per_mm**2)[0]:
        rows, starts, ends = runs.of_region(int(region))
        lengths = ends - starts
        middle = np.array([((starts + ends) / 2 @ lengths) / lengths.sum(), (rows @ lengths) / lengths.sum()])
        far_mm = float(np.linalg.norm(middle - near_px)) / px_per_mm
        score = float(areas[region]) * np.exp(-((far_mm / _FAR_MM) ** 2) * 3)
        if score > best_score:
            best, best_score = int(region), score
    return runs.mask(best, (mask.shape[0], mask.shape[1])) if best is not None else None


def diameters_px(x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[float, float]:
    """Return the largest and least extent over directions 2 degrees apart, in pixels, the pixels' width included."""
    directions = np.stack([np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)])
    along = np.column_stack([x, y]) @ directions
    extents = along.max(axis=0) - along.min(axis=0) + np.abs(directions).max(axis=0)
    return float(extents.max()), float(extents.min())
