"""What can be measured of a preview frame in a few milliseconds: sharpness, light, glare, colour of the light, motion.

It measures and judges nothing: `advice` does, by the thresholds of the settings. Everything is measured in the middle
of the frame, where the lesion is, on a copy whose short side has 540 pixels, so that a threshold fits every camera.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.imaging.filters import Plane, box_blur, box_mean, linear_from_srgb, luma, phase_shift

WORKING_SHORT_SIDE_PX: Final = 540
"""Half of 1080: a blur that is seen in the model's 896 pixels is seen here, and a JPEG decoder halves for nothing."""
_MIDDLE: Final = 0.66
"""Side of the square that is measured, as a share of the short side: the ring on the screen and a little more."""
_TILE_PX: Final = 16
_NOISE_PERCENTILE: Final = 10
_NOISE_GAIN_FINE: Final = 0.0366
_NOISE_GAIN_COARSE: Final = 0.0151
"""Share of white noise's energy in the finest band that is found in the two bands compared; measured on noise."""
_CONTRAST_FLOOR: Final = 2e-5
"""Energy of a contrast of 0.45 %, below which a structure is no structure."""
_CLIPPED_FROM: Final = 252
_GLARE_FROM: Final = 245
_GLARE_ABOVE_TYPICAL: Final = 25.0
_THUMB_STEP: Final = 3
_MOTION_PX: Final = 128
_PEAK_MIN: Final = 0.05


class ImageMeasures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers about one frame; shares are of the measured square, 0 to 1."""

    focus: float
    """Energy of the finer details over that of those twice as large, in the direction in which it is least; 0 to 1."""
    brightness: float
    """90th percentile of the brightness, 0 to 255."""
    clipped: float
    """Share of pixels of which a channel is at its end."""
    glare: float
    """Share of pixels that are white and brighter than most."""
    red_over_green: float
    """Natural logarithm of red over green of the median colour, in linear light."""
    blue_over_green: float
    """Likewise for blue."""
    shift: float | None = None
    """Displacement against the frame before as a share of the short side; None without one to compare."""
    frame_height_mm: float | None = None
    """What the short side of the frame covers at the card's plane; None when no card is seen."""
    off_centre: float | None = None
    """Distance of the card's place for the lesion from the middle, as a share of the short side."""


class QualityMeter:
    """Measures the frames of one camera one after the other; remembers the last one for motion."""

    def __init__(self) -> None:
        self._last: Plane | None = None

    def measure(self, pixels: NDArray[np.uint8]) -> ImageMeasures:
        """Measure one frame.

        Args:
            pixels: uint8 [H, W, 3], RGB, the short side `WORKING_SHORT_SIDE_PX` long.
        """
        middle = _middle(pixels)
        grey = luma(middle)
        thumb = middle[::_THUMB_STEP, ::_THUMB_STEP]
        red, green, blue = linear_from_srgb(np.median(thumb.reshape(-1, 3), axis=0)) + 1e-4
        return ImageMeasures(
            focus=_focus(grey),
            brightness=float(np.percentile(grey[::_THUMB_STEP, ::_THUMB_STEP], 90)),
            clipped=float((thumb.max(axis=2) >= _CLIPPED_FROM).mean()),
            glare=_glare(thumb, grey[::_THUMB_STEP, ::_THUMB_STEP]),
            red_over_green=float(np.log(red / green)),
            blue_over_green=float(np.log(blue / green)),
            shift=self._shift(grey, min(pixels.shape[:2])),
        )

    def _shift(self, grey: Plane, short_side_px: int) -> float | None:
        step = min(grey.shape) // _MOTION_PX
        side = step * _MOTION_PX
        now = grey[:side, :side].reshape(_MOTION_PX, step, _MOTION_PX, step).mean(axis=(1, 3), dtype=np.float32)
        last, self._last = self._last, now
        if last is None:
            return None
        right, down, peak = phase_shift(last, now)
        # Two frames with nothing in common are not a camera that is held still either.
        return float(np.hypot(right, down)) * step / short_side_px if peak >= _PEAK_MIN else 1.0


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    side = int(min(height, width) * _MIDDLE)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _focus(grey: Plane) -> float:
    """Compare details of about 5 pixels with those of about 9, along rows and along columns; return the lesser ratio.

    A ratio of two bands does not depend on how dark the skin or how strong its pattern is; one per direction sees
    motion, which blurs along one only. Sensor noise is subtracted as it is found where the picture is flattest.
    """
    smooth = box_blur(grey, 1)
    noise = float(np.percentile(_tile_means((grey - smooth) ** 2), _NOISE_PERCENTILE))
    floor = _CONTRAST_FLOOR * float(grey.mean()) ** 2 + 1e-3
    ratios = []
    for axis in (0, 1):
        medium = box_mean(smooth, 2, axis)
        coarse = box_mean(medium, 4, axis)
        fine_energy = float(((smooth - medium) ** 2).mean()) - _NOISE_GAIN_FINE * noise
        coarse_energy = float(((medium - coarse) ** 2).mean()) - _NOISE_GAIN_COARSE * noise
        ratios.append(max(0.0, fine_energy) / (max(0.0, coarse_energy) + floor))
    return float(min(1.0, *ratios))


def _tile_means(plane: Plane) -> Plane:
    rows, columns = plane.shape[0] // _TILE_PX, plane.shape[1] // _TILE_PX
    cut = plane[: rows * _TILE_PX, : columns * _TILE_PX]
    return np.asarray(cut.reshape(rows, _TILE_PX, columns, _TILE_PX).mean(axis=(1, 3)), np.float32)


def _glare(thumb: NDArray[np.uint8], grey: Plane) -> float:
    """Find highlights: white in all channels and brighter than most of the picture, which pale skin is not."""
    typical = float(np.median(grey))
    return float(((thumb.min(axis=2) >= _GLARE_FROM) & (grey > typical + _GLARE_ABOVE_TYPICAL)).mean())
