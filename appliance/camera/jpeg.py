"""Tells one whole JPEG from a torn, padded or foreign one by its markers; it decodes nothing.

A picture that lost its end on the way has no end-of-image marker; one that ran into the next has something behind it.
A hole inside a scan shows only where the camera sends restart markers; otherwise the driver has to tell of lost data.
Source: ITU-T T.81, B.1.1 (markers), B.2 (order of segments), E.1.4 (restart).
"""

import re
from typing import Final

_NOT_OF_A_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_START_OF_SCAN: Final = 0xDA
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""


def whole_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels of one whole JPEG; None when it is not exactly that.

    Zero bytes may follow the end: some cameras fill their buffers up. Tables may be missing, as motion JPEG allows.
    """
    if not content.startswith(_START):
        return None
    size, position = None, 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == _START[1]:  # the next picture's
            return None
        if marker == 0xFF or marker in _ALONE:  # fill byte; marker without a segment
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4])
        if marker in _FRAME_HEADERS and position + 9 <= len(content):
            height = int.from_bytes(content[position + 5 : position + 7])
            size = int.from_bytes(content[position + 7 : position + 9]), height
        position += 2 + length
        if marker == _START_OF_SCAN:
            return size if size is not None and _ends_well(content, position) else None
    return None


def _ends_well(content: bytes, position: int) -> bool:
    """Tell whether the scan at `position` is followed by the end of the image and nothing but zeros.

    Inside a scan 0xFF is followed by 0x00 or is a restart marker; those count from 0 to 7 again and again.
    """
    end = _NOT_OF_A_SCAN.search(content, position)
    if end is None or end.group() != _END or content[end.end() :].strip(b"\0"):
        return False
    restarts = _RESTART.findall(content, position, end.start())
    return all(found[0] == 0xD0 + number % 8 for number, found in enumerate(restarts))
