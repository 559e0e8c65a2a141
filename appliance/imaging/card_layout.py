"""Where everything lies on the printed card, in millimetres, and which bits its markers carry: one truth for both ends.

The card is an L that is laid beside the lesion, so that the lesion lies between three markers. Origin: the L's outer
corner; x to the right, y down.
Source: ABFO No. 2 scale (the L of forensic photography); OpenCV, DICT_4X4_50 (marker bits 0 to 2).
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ARM_LENGTH_MM: Final = 60.0
ARM_WIDTH_MM: Final = 18.0
MARKER_MM: Final = 12.0
MARKER_CELLS: Final = 6
"""Four cells of bits inside a black border one cell wide."""
MARKER_CORNERS_MM: Final = ((3.0, 3.0), (45.0, 3.0), (3.0, 45.0))
"""Upper left corner of markers 0, 1 and 2."""
LESION_MM: Final = (34.0, 34.0)
"""Where the lesion should lie: the middle of what the L encloses."""
CHECK_LINE_MM: Final = 100.0
"""Length of the line on the page by which the print is checked with a ruler."""

MARKER_BITS: Final = (
    (0b1011, 0b0101, 0b0011, 0b0010),
    (0b0000, 0b1111, 0b1001, 0b1010),
    (0b0011, 0b0011, 0b0010, 0b1101),
)
"""Rows from the top, the left cell highest; 1 is white."""


class Patch(NamedTuple):
    """A square of one colour: its middle on the card, and the sRGB values that it is printed with."""

    name: str
    x_mm: float
    y_mm: float
    srgb: tuple[int, int, int]


PATCH_MM: Final = 5.0
_GREYS: Final = (
    ("grey 200", (200, 200, 200)),
    ("grey 160", (160, 160, 160)),
    ("grey 120", (120, 120, 120)),
    ("grey 80", (80, 80, 80)),
)
_COLOURS: Final = (
    ("red", (175, 54, 60)),
    ("green", (70, 148, 73)),
    ("blue", (56, 61, 150)),
    ("light skin", (194, 150, 130)),
    ("medium skin", (160, 126, 86)),
    ("dark skin", (96, 65, 52)),
    ("yellow", (231, 199, 31)),
    ("brown", (115, 82, 68)),
)
"""Source: the ColorChecker's published sRGB values; Monk tones 6 and 8."""

_ALONG_MM: Final = (19.5, 26.5, 33.5, 40.5)
_ACROSS_MM: Final = (4.5, 10.0)
PATCHES: Final = (
    # Greys on both arms, so that light that falls off over the card is seen.
    *(Patch(name, x, _ACROSS_MM[0], srgb) for (name, srgb), x in zip(_GREYS, _ALONG_MM, strict=True)),
    *(Patch(name, _ACROSS_MM[0], y, srgb) for (name, srgb), y in zip(_GREYS, _ALONG_MM, strict=True)),
    *(Patch(name, x, _ACROSS_MM[1], srgb) for (name, srgb), x in zip(_COLOURS[:4], _ALONG_MM, strict=True)),
    *(Patch(name, _ACROSS_MM[1], y, srgb) for (name, srgb), y in zip(_COLOURS[4:], _ALONG_MM, strict=True)),
)
PAPER_MM: Final = ((23.0, 13.6), (37.0, 13.6), (13.6, 23.0), (13.6, 37.0), (1.5, 30.0), (30.0, 1.5))
"""Middles of places that are bare paper."""


def is_grey(patch: Patch) -> bool:
    """Tell the patches that are neutral by themselves."""
    return len(set(patch.srgb)) == 1


def marker_cells(number: int) -> NDArray[np.bool_]:
    """Return a marker's cells, bool [6, 6]: True is white."""
    cells = np.zeros((MARKER_CELLS, MARKER_CELLS), bool)
    for row, bits in enumerate(MARKER_BITS[number]):
        cells[row + 1, 1:-1] = [bits >> (3 - column) & 1 for column in range(4)]
    return cells


def marker_corners(number: int) -> NDArray[np.float64]:
    """Return a marker's corners on the card in mm, float64 [4, 2]: upper left, upper right, lower right, lower left."""
    x, y = MARKER_CORNERS_MM[number]
    return np.array([(x, y), (x + MARKER_MM, y), (x + MARKER_MM, y + MARKER_MM), (x, y + MARKER_MM)])
