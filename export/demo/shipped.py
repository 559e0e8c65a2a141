"""The drawings that ship with the product for its replay camera: twelve, larger than those of the training."""

from pathlib import Path
from typing import Final

from export.demo.drawings import Drawing, draw, jpeg_bytes

SHIPPED_STREAM: Final = 2026
"""Seed of a stream that neither the training nor the held-out set uses."""

SHIPPED_SCALE: Final = 4
"""640 x 640 pixels."""

_JPEG_QUALITY: Final = 89

SHIPPED: Final[dict[str, int]] = {
    "01-medium-raised": 17,
    "02-dark-symmetric": 18,
    "03-light-spotted": 98,
    "04-medium-scaly": 27,
    "05-dark-raised": 64,
    "06-light-hairy": 71,
    "07-light-several": 40,
    "08-medium-ragged": 44,
    "09-dark-scaly": 58,
    "10-medium-blurred": 29,
    "11-medium-glare": 8,
    "12-dark-bare": 53,
}
"""File stem to index in the stream, chosen by eye across skin tones, surfaces and faults."""


def shipped_drawing(stem: str) -> Drawing:
    """Draw one of the shipped pictures again, from its seed."""
    return draw(SHIPPED_STREAM, SHIPPED[stem], SHIPPED_SCALE)


def write_shipped(folder: Path) -> list[Path]:
    """Write all shipped pictures as JPEG; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for stem in SHIPPED:
        path = folder / f"{stem}.jpg"
        path.write_bytes(jpeg_bytes(shipped_drawing(stem).pixels, _JPEG_QUALITY))
        paths.append(path)
    return paths
