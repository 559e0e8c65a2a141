"""Chooses a picture format among those that a camera offers; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from appliance.camera.frame_check import PixelFormat
from appliance.camera.raw_formats import RawFormat

PREFERRED: Final[tuple[PixelFormat, ...]] = ("MJPG", *get_args(RawFormat))
"""MJPEG first: its bytes are kept as they come, and USB 2 carries raw pictures only slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedSizes:
    """Sizes of one pixel format in pixels: a list (least equals most), or a range with a step."""

    pixel_format: str
    """V4L2's name."""
    least: tuple[int, int]
    most: tuple[int, int]
    step: tuple[int, int] = (1, 1)

    def nearest(self, wanted: tuple[int, int]) -> tuple[int, int]:
        """Return the size of this offer that is nearest to the wanted one and not larger, if there is one."""
        return _fit(wanted[0], self.least[0], self.most[0], self.step[0]), _fit(
            wanted[1], self.least[1], self.most[1], self.step[1]
        )


def choose(offers: Iterable[OfferedSizes], wanted: tuple[int, int]) -> tuple[PixelFormat, tuple[int, int]] | None:
    """Return pixel format and size: the first format that we know, in it the largest size that fits into the wanted.

    The smallest size when none fits; None when the camera offers no format that we know.
    """
    known = list(offers)
    for pixel_format in PREFERRED:
        sizes = [offer.nearest(wanted) for offer in known if offer.pixel_format == pixel_format]
        if not sizes:
            continue
        fitting = [size for size in sizes if size[0] <= wanted[0] and size[1] <= wanted[1]]
        return pixel_format, max(fitting, key=_pixels) if fitting else min(sizes, key=_pixels)
    return None


def _fit(wanted: int, least: int, most: int, step: int) -> int:
    if wanted <= least:
        return least
    return min(most, wanted - (wanted - least) % max(step, 1))


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]
