"""Raw pixels of a camera as PNG, for cameras that give no MJPEG; only the colour formula's rounding is lost.

Source: V4L2 API, "Packed YUV formats" (YUYV), "RGB formats" (RGB3, BGR3), "Detailed Colorspace Descriptions" (ITU-R
BT.601, limited range, which is what USB cameras send unless they say otherwise).
"""

import io
from typing import Final, Literal

import numpy as np
from PIL import Image

RawFormat = Literal["YUYV", "RGB3", "BGR3"]
BYTES_PER_PIXEL: Final[dict[RawFormat, int]] = {"YUYV": 2, "RGB3": 3, "BGR3": 3}
_ZLIB_LEVEL: Final = 1
"""Level 6 makes skin a few percent smaller and takes about three times as long."""
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
    Image.fromarray(np.ascontiguousarray(pixels), "RGB").save(buffer, "PNG", compress_level=_ZLIB_LEVEL)
    return buffer.getvalue()


def _rgb_from_yuyv(lines: np.ndarray) -> np.ndarray:
    """Turn uint8 [H, 2W] YUYV into uint8 [H, W, 3] RGB; each pair of pixels shares its chroma."""
    luma = (lines[:, 0::2].astype(np.int32) - 16) * _fixed(255 / 219)
    blue = np.repeat(lines[:, 1::4].astype(np.int32) - 128, 2, axis=1)
    red = np.repeat(lines[:, 3::4].astype(np.int32) - 128, 2, axis=1)
    half = 1 << (_FIXED - 1)
    channels = (
        luma + _fixed(1.402 * 255 / 224) * red,
        luma - _fixed(0.344136 * 255 / 224) * blue - _fixed(0.714136 * 255 / 224) * red,
        luma + _fixed(1.772 * 255 / 224) * blue,
    )
    return np.stack([np.clip((channel + half) >> _FIXED, 0, 255) for channel in channels], axis=2).astype(np.uint8)


def _fixed(factor: float) -> int:
    return round(factor * (1 << _FIXED))
