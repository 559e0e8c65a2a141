"""Everything that is measured of one frame, the card included: what the decoding process does for the screen."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.imaging.card import card_from_grey
from appliance.imaging.card_layout import LESION_MM
from appliance.imaging.filters import luma
from appliance.imaging.pixels import reduced_pixels_from_bytes
from appliance.imaging.quality import WORKING_SHORT_SIDE_PX, ImageMeasures, QualityMeter


def measure_frame(content: bytes, meter: QualityMeter) -> ImageMeasures:
    """Decode a frame at the measured size and measure it; `meter` remembers the frame before.

    Raises:
        ImageError: The frame cannot be decoded.
    """
    pixels = reduced_pixels_from_bytes(content, WORKING_SHORT_SIDE_PX)
    return with_card(meter.measure(pixels), pixels)


def with_card(measures: ImageMeasures, pixels: NDArray[np.uint8]) -> ImageMeasures:
    """Add distance and centring where the card is seen in uint8 [H, W, 3] RGB."""
    view = card_from_grey(luma(pixels))
    if view is None:
        return measures
    height, width = pixels.shape[:2]
    place = view.picture_from_card(np.array([LESION_MM]))[0]
    off_px = float(np.hypot(place[0] - (width - 1) / 2, place[1] - (height - 1) / 2))
    return msgspec.structs.replace(
        measures, frame_height_mm=min(height, width) / view.px_per_mm(), off_centre=off_px / min(height, width)
    )
