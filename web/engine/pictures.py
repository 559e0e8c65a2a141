"""Pictures in requests: data URIs to bytes, and a first look at them before they may take a place in the queue.

Nothing is fetched: a picture is in the request or there is none.
Source: RFC 2397 (data URIs), RFC 4648 section 4 (base64).
"""

import base64
import binascii
import re
import threading
from typing import Final

from appliance.engine_request import required_media_type
from appliance.errors import ImageError
from appliance.imaging.decode import MAX_BYTES, image_from_bytes

MEDIA_TYPES: Final = ("image/jpeg", "image/png")
_DATA_URI: Final = re.compile(r"data:(image/(?:jpeg|png));base64,", re.ASCII)

# One at a time: a picture of the largest size takes 150 MB while it is decoded.
_one_decoder = threading.Lock()


def picture_from_data_uri(uri: str) -> bytes:
    """Return the bytes of a picture.

    Raises:
        ImageError: It is an address on a network, not base64, not JPEG or PNG, or too large.
    """
    header = _DATA_URI.match(uri)
    if header is None:
        raise ImageError(
            "image_url takes data:image/jpeg;base64,... or data:image/png;base64,... only: nothing is fetched."
        )
    # Base64 writes 3 bytes as 4 characters.
    if len(uri) - header.end() > MAX_BYTES // 3 * 4 + 4:
        raise ImageError(f"The image is larger than {MAX_BYTES} bytes.")
    try:
        content = base64.b64decode(uri[header.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("The image's data URI is not base64.") from error
    check_picture(content, header[1])
    return content


def check_picture(content: bytes, media_type: str) -> None:
    """Decode a picture once and drop it, so that a bad one is refused before it waits.

    Raises:
        ImageError: It is not of the media type that it claims, damaged or too large.
    """
    if required_media_type(content) != media_type:
        raise ImageError(f"The image claims to be {media_type} and is {required_media_type(content)}.")
    with _one_decoder:
        image_from_bytes(content)
