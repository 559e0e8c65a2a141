"""JPEG and PNG bytes to pixels, without trusting them: the one way in for every picture that came from elsewhere.

The decoding itself happens in a confined process (`sandbox`), which all callers in this process share.
"""

import atexit
from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.errors import ImageError
from appliance.imaging.pixels import MAX_BYTES
from appliance.imaging.sandbox import Sandbox

__all__ = ["MAX_BYTES", "image_from_bytes"]


def image_from_bytes(content: bytes) -> NDArray[np.uint8]:
    """Decode one picture, upright, in a process of its own; callers take turns.

    EXIF orientation is applied and all other metadata dropped; transparency is dropped; grey, palette and CMYK pictures
    become RGB. Embedded colour profiles are ignored, as in training.

    Args:
        content: A whole JPEG or PNG file.

    Returns:
        uint8 [H, W, 3], RGB, at least 1 x 1.

    Raises:
        ImageError: Not a JPEG or PNG, damaged, truncated or over a limit, or it brought the decoding process down.
    """
    if len(content) > MAX_BYTES:
        raise ImageError(f"The image file has {len(content)} bytes; at most {MAX_BYTES} are read.")
    return _shared_sandbox().decode(content)


@cache
def _shared_sandbox() -> Sandbox:
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox
