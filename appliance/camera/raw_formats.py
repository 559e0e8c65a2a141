"""Raw pixels of a camera as PNG, for cameras that give no MJPEG; only the colour formula's rounding is lost.

Source: V4L2 API, "Packed YUV formats" (YUYV), "RGB formats" (RGB3, BGR3), "Detailed Colorspace Descriptions" (ITU-R
BT.601, limited range, which is what USB cameras send unless they say otherwise).
"""

import io
import zlib
from typing import Final, Literal

import numpy as np
from PIL import Image

RawFormat = Literal["YUYV", "RGB3", "BGR3"]
BYTES_PER_PIXEL: Final[dict[RawFormat, int]] = {"YUYV": 2, "RGB3": 3, "BGR3": 3}
_ZLIB_LEVEL: Final = 1
_ZLIB_STRATEGY: Final = zlib.Z_RLE
"""A sensor's noise has no repeats to look for: a third quicker than the default, and smaller. DESIGN.md has figures."""
_FIXED: Final = 16
"""Bits behind the point: every product below fits 32 bits, and the result rounds to the nearest."""


def png_from_raw(content: bytes, pixel_format: RawFormat, size: tuple[int, int], stride: int) -> bytes:
    """Encode raw pixels as an 8-bit RGB PNG.

    Args:
        content: At least `stride` x height bytes.
        pixel_format: Layout by V4L2's name.
        size: Width and height in pixels; the width of YUYV is even.
        stride: Bytes from one line to the next.

    Raises:
        ValueError: There are fewer bytes than that.
    """
    width, height = size
    used = width * BYTES_PER_PIXEL[pixel_format]
    if stride < used or len(content) < stride * height:
        raise ValueError(f"{len(content)} bytes are too few for {width} x {height} {pixel_format}")
    lines = np.frombuffer(content, np.uint8, stride * height).reshape(height, stride)[:, :used]
    if pixel_format == "YUYV":
        pixels = _rgb_from_yuyv(lines)
    else:
        pixels = lines.reshape(height, width, 3)[:, :, :: -1 if pixel_format == "BGR3" else 1]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels), "RGB").save(
        buffer, "PNG", compress_level=_ZLIB_LEVEL, compress_type=_ZLIB_STRATEGY
    )
    return buffer.getvalue()


def _rgb_from_yuyv(lines: np.ndarray) -> np.ndarray:
    """Turn uint8 [H, 2W] YUYV into uint8 [H, W, 3] RGB; each pair of pixels shares its chroma."""
    luma = (lines[:, 0::2].astype(np.int32) - 16) * _fixed(255 / 219) + (1 << (_FIXED - 1))
    blue = lines[:, 1::4].astype(np.int32) - 128
    red = lines[:, 3::4].astype(np.int32) - 128
    chroma = (
        _fixed(1.402 * 255 / 224) * red,
        -_fixed(0.344136 * 255 / 224) * blue - _fixed(0.714136 * 255 / 224) * red,
        _fixed(1.772 * 255 / 224) * blue,
    )
    pixels = np.empty((*luma.shape, 3), np.uint8)
    for channel, shared in enumerate(chroma):
        for of_pair in (0, 1):
            pixels[:, of_pair::2, channel] = np.clip((luma[:, of_pair::2] + shared) >> _FIXED, 0, 255)
    return pixels


def _fixed(factor: float) -> int:
    return round(factor * (1 << _FIXED))
