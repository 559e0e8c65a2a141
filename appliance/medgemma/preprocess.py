"""From a decoded photo to `pixel_values`: padded to a square, never stretched, and the way back for boxes.

Asymmetry is a clinical sign, so both sides keep one scale. It reads no files: bytes are decoded in `appliance.imaging`.
Source: MedGemma model card and serving code (zero padding, evenly on both sides); Hugging Face `Gemma3ImageProcessor`
(bilinear, rescale, normalise), which stretches where this pads.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.medgemma.bundle import Preprocessing

BOX_SCALE = 1000
"""Model boxes count thousandths of the padded square's side. Source: MedGemma 1.5 model card, `box_2d`."""
_BAND_ROWS = 256
"""8 MB a band at 8000 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PadToSquare:
    """How one photo was padded: evenly on both sides of its shorter axis, the odd pixel after it."""

    width_px: int
    height_px: int

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise ValueError(f"an image has at least one pixel, not {self.width_px} x {self.height_px}")

    @property
    def side_px(self) -> int:
        """Side of the square in pixels of the photo."""
        return max(self.width_px, self.height_px)

    @property
    def left_px(self) -> int:
        """Black columns before the photo."""
        return (self.side_px - self.width_px) // 2

    @property
    def top_px(self) -> int:
        """Black rows above the photo."""
        return (self.side_px - self.height_px) // 2

    def box_from_model(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Turn a model's box into pixels of the photo.

        Args:
            box: y0, x0, y1, x1 in thousandths of the padded square, 0-1000.

        Returns:
            y0, x0, y1, x1 in pixels of the photo, cut to its edges.
        """
        y0, x0, y1, x1 = (value * self.side_px / BOX_SCALE for value in box)
        return (
            _clip(y0 - self.top_px, self.height_px),
            _clip(x0 - self.left_px, self.width_px),
            _clip(y1 - self.top_px, self.height_px),
            _clip(x1 - self.left_px, self.width_px),
        )

    def box_to_model(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Turn y0, x0, y1, x1 in pixels of the photo into thousandths of the padded square."""
        y0, x0, y1, x1 = box
        scale = BOX_SCALE / self.side_px
        return (
            (y0 + self.top_px) * scale,
            (x0 + self.left_px) * scale,
            (y1 + self.top_px) * scale,
            (x1 + self.left_px) * scale,
        )


def pixel_values_from_image(
    image: NDArray[np.uint8], image_size: int, preprocessing: Preprocessing
) -> tuple[NDArray[np.float32], PadToSquare]:
    """Pad, resize and normalise one photo.

    The square is padded with 0 before normalisation: black, -1 for the usual mean and deviation of 0.5. Pillow's
    bilinear filter averages over its whole support when it reduces (antialiasing, as torchvision with `antialias=True`;
    OpenCV's bilinear does not), works on 8 bits, and its horizontal pass comes first.

    Args:
        image: uint8 [H, W, 3], RGB.
        image_size: Side of the model's input in pixels.
        preprocessing: The bundle's numbers.

    Returns:
        `pixel_values`, float32 [1, 3, image_size, image_size], RGB, range [-1, 1]; and the padding.
    """
    height_px, width_px, _ = image.shape
    transform = PadToSquare(width_px=width_px, height_px=height_px)
    resized = np.asarray(_resized_square(image, transform, image_size), dtype=np.float32)
    mean = np.asarray(preprocessing.image_mean, dtype=np.float32)
    std = np.asarray(preprocessing.image_std, dtype=np.float32)
    normalised = (resized * np.float32(preprocessing.rescale_factor) - mean) / std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis]), transform


def _resized_square(image: NDArray[np.uint8], transform: PadToSquare, image_size: int) -> Image.Image:
    """Pad and resize in bands of rows: the same pixels as at once, without a square of the photo's full size.

    Pillow's two passes are done apart: a row's horizontal pass needs that row alone, and 8000 x 8000 pixels would be
    256 MB.
    """
    narrow = Image.new("RGB", (image_size, transform.side_px))
    for start in range(0, transform.height_px, _BAND_ROWS):
        rows = Image.fromarray(image[start : start + _BAND_ROWS])
        band = Image.new("RGB", (transform.side_px, rows.height))
        band.paste(rows, (transform.left_px, 0))
        narrow.paste(band.resize((image_size, rows.height), Image.Resampling.BILINEAR), (0, transform.top_px + start))
    return narrow.resize((image_size, image_size), Image.Resampling.BILINEAR)


def _clip(value_px: float, limit_px: int) -> float:
    return min(max(value_px, 0.0), float(limit_px))
