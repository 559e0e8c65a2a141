"""The printed card in a picture: millimetres for pixels on the plane on which it lies.

It holds for what lies flat beside the card; a lesion that rises towards the camera looks larger than it is.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.imaging.card_layout import LESION_MM, marker_corners
from appliance.imaging.card_markers import find_markers, refine_corners
from appliance.imaging.filters import Plane, luma
from appliance.imaging.homography import Matrix, Points, apply, homography, inverse

_SEARCH_SHORT_SIDES_PX: Final = (540, 1080)
"""The smaller finds the card at once in most pictures; the larger one when it is far away."""
_MARKERS_MIN: Final = 2
_ERROR_MAX_MM: Final = 0.4
"""A card that is bent or was printed unevenly does not fit a plane; 0.4 mm over 34 mm is 1 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """Where a card lies in a picture."""

    to_picture: Matrix
    """float64 [3, 3]: card in mm to pixels, pixel centres at whole numbers."""
    markers: tuple[int, ...]
    error_mm: float
    """Root mean square by which the markers' corners miss their places on the card."""

    def picture_from_card(self, points_mm: Points) -> Points:
        """Map float64 [N, 2] from the card to the picture."""
        return apply(self.to_picture, points_mm)

    def card_from_picture(self, points_px: Points) -> Points:
        """Map float64 [N, 2] from the picture to the card's plane, in mm."""
        return apply(inverse(self.to_picture), points_px)

    def distance_mm(self, first_px: tuple[float, float], second_px: tuple[float, float]) -> float:
        """Return how far apart two points of the picture are on the card's plane: a measurement by two touches."""
        first, second = self.card_from_picture(np.array([first_px, second_px], np.float64))
        return float(np.linalg.norm(first - second))

    def px_per_mm(self, at_mm: tuple[float, float] = LESION_MM) -> float:
        """Return the scale at a place of the card: the square root of what a square millimetre covers."""
        x, y = at_mm
        corners = self.picture_from_card(np.array([(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)]))
        across, down = corners[1] - corners[0], corners[3] - corners[2]
        return float(np.sqrt(abs(across[0] * down[1] - across[1] * down[0])))


def find_card(pixels: NDArray[np.uint8]) -> CardView | None:
    """Find the card in uint8 [H, W, 3] RGB; None when fewer than two markers are seen or they do not fit a plane."""
    short_side = min(pixels.shape[:2])
    for search_px in _SEARCH_SHORT_SIDES_PX:
        factor = max(1.0, short_side / search_px)
        view = card_from_grey(luma(_reduced(pixels, factor)), luma(pixels) if factor > 1 else None, factor)
        if view is not None or factor == 1.0:
            return view
    return None


def card_from_grey(small: Plane, full: Plane | None = None, factor: float = 1.0) -> CardView | None:
    """Find the card in a grey picture, and put its corners right in one `factor` times larger where it is given."""
    markers = find_markers(small)
    if len(markers) < _MARKERS_MIN:
        return None
    if full is not None:
        # Pixel centres are whole numbers in both.
        markers = {number: refine_corners(full, (corners + 0.5) * factor - 0.5) for number, corners in markers.items()}
    on_card = np.concatenate([marker_corners(number) for number in markers])
    in_picture = np.concatenate(list(markers.values()))
    to_picture = homography(on_card, in_picture)
    back = apply(inverse(to_picture), in_picture)
    error_mm = float(np.sqrt(((back - on_card) ** 2).sum(axis=1).mean()))
    if not np.isfinite(error_mm) or error_mm > _ERROR_MAX_MM:
        return None
    return CardView(to_picture=to_picture, markers=tuple(sorted(markers)), error_mm=error_mm)


def _reduced(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1.0:
        return pixels
    size = (round(pixels.shape[1] / factor), round(pixels.shape[0] / factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
