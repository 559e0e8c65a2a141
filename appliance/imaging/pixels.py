"""JPEG and PNG bytes to pixels in this process: what the confined decoding process runs.

Limits are checked on the header, before a pixel is decoded. Everyone else calls `decode.image_from_bytes`.
Source: ITU-T T.81 (JPEG), ISO/IEC 15948 (PNG), CIPA DC-008 (EXIF orientation).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from appliance.errors import ImageError

MAX_BYTES: Final = 32 << 20
"""A 24-megapixel JPEG at the best quality has 15-20 MB."""
MAX_SIDE_PX: Final = 8_000
MAX_PIXELS: Final = 24_000_000
"""96 MB in Pillow and 72 MB as an array: the command stays below 400 MB."""
_FORMATS: Final = ("JPEG", "PNG")
_DEEP_MODES: Final = ("I", "I;16", "I;16B", "F")
"""Pillow's greys of more than 8 bits: converted to RGB they would be cut off at 255, a white picture."""


def pixels_from_bytes(content: bytes) -> NDArray[np.uint8]:
    """Decode one picture, upright.

    EXIF orientation is applied; transparency is dropped; grey, palette and CMYK pictures become RGB. Embedded colour
    profiles are ignored, as in training.

    Args:
        content: A whole JPEG or PNG file.

    Returns:
        uint8 [H, W, 3], RGB, at least 1 x 1.

    Raises:
        ImageError: Not a JPEG or PNG, damaged, truncated, or over a limit.
    """
    with _opened(content) as image:
        image.load()
        # In place and without copies that are not needed: each is 96 MB at the limit of pixels.
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def reduced_pixels_from_bytes(content: bytes, short_side_px: int) -> NDArray[np.uint8]:
    """Decode one camera frame at a smaller size, as the camera holds it; a JPEG is never decoded in full.

    Args:
        content: A whole JPEG or PNG file.
        short_side_px: Length of the short side of the result; a smaller picture is enlarged.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageError: As `pixels_from_bytes`.
    """
    with _opened(content) as image:
        scale = short_side_px / min(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # The decoder's own reduction by 2, 4 or 8 never goes below the size that is asked for.
        image.draft("RGB", size)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        filter_ = Image.Resampling.BOX if size[0] < rgb.width else Image.Resampling.BICUBIC
        return np.asarray(rgb if rgb.size == size else rgb.resize(size, filter_), dtype=np.uint8)


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open a picture within the limits; whatever goes wrong with it inside the block becomes an `ImageError`."""
    if len(content) > MAX_BYTES:
        raise ImageError(f"The image file has {len(content)} bytes; at most {MAX_BYTES} are read.")
    try:
        # Opening reads the header only. Pillow's own limit on pixels is far above ours, and partly a mere warning.
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_header(image.width, image.height, image.mode)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("The image is neither a JPEG nor a PNG file.") from error
    except Exception as error:  # Pillow raises almost anything on hostile bytes, struct.error and IndexError among it
        raise ImageError(f"The image is damaged and cannot be read: {_sentence(error)}.") from error


def _check_header(width_px: int, height_px: int, mode: str) -> None:
    if max(width_px, height_px) > MAX_SIDE_PX or width_px * height_px > MAX_PIXELS:
        raise ImageError(
            f"The image has {width_px} x {height_px} pixels; "
            f"at most {MAX_SIDE_PX} a side and {MAX_PIXELS} in all are read."
        )
    if mode in _DEEP_MODES:
        raise ImageError("The image has more than 8 bits a pixel in one grey channel; only 8 bits a channel are read.")


def _sentence(error: Exception) -> str:
    """Return a foreign error's first line, capped: parts of it come from the file."""
    first_line = str(error).strip().partition("\n")[0]
    return "".join(filter(str.isprintable, first_line))[:120].rstrip(".") or type(error).__name__
