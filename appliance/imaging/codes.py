"""The text of a QR code in a picture: a recovery sheet that is held before the camera.

It believes nothing of what it reads: whoever asks compares. Runs where pictures are decoded, `worker`.
Source: ISO/IEC 18004, by `zxing-cpp`.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import ImageError

TEXT_MAX_LETTERS: Final = 120
"""A sheet has 53."""
_LUMA: Final = np.array((0.299, 0.587, 0.114), np.float32)
"""Source: ITU-R BT.601."""


class CodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was read."""

    text: str | None


def code_text(pixels: NDArray[np.uint8]) -> str | None:
    """Read the QR code of a picture.

    Args:
        pixels: uint8 [H, W, 3], RGB.

    Returns:
        Its text, of at most 120 letters; None when there is no code, more than one, or another kind of text.

    Raises:
        ImageError: The package that reads codes is not installed.
    """
    try:
        import zxingcpp
    except ImportError as error:
        raise ImageError("Reading codes needs the extra [records]; type the words of the sheet.") from error
    grey = np.ascontiguousarray((pixels @ _LUMA).astype(np.uint8))
    found = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormat.QRCode)
    texts = {str(code.text) for code in found if code.valid}
    if len(texts) != 1:
        return None
    (text,) = texts
    return text if len(text) <= TEXT_MAX_LETTERS and text.isascii() and text.isprintable() else None
