"""The scale marker of a drawing: a white ruler along one whole side, one tick per millimetre.

Every fifth tick is longer and every tenth the longest, so the spacing of the ticks carries the camera scale.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from export.demo.canvas import SIDE_PX, Canvas, Plane

STRIP_PX: Final = 18.0
"""Width of the side strip that lesions keep clear of, in unit pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """Where the ruler lies: along the top (0), bottom (1), left (2) or right (3) side; its width in unit pixels."""

    side: int
    width_px: float
    phase_mm: float
    px_per_mm: float


def place_ruler(rng: np.random.Generator, px_per_mm: float) -> Ruler:
    """Choose a side, a width and where the millimetres start."""
    side, width_px, phase_mm = int(rng.integers(4)), float(rng.uniform(13, 16)), float(rng.uniform(0, 10))
    return Ruler(side=side, width_px=width_px, phase_mm=phase_mm, px_per_mm=px_per_mm)


def free_area(ruler: Ruler) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper corner (x, y) in unit pixels of the area in which lesions may lie."""
    low, high = np.array([4.0, 4.0]), np.array([SIDE_PX - 4.0, SIDE_PX - 4.0])
    axis = 1 if ruler.side < 2 else 0
    if ruler.side % 2:
        high[axis] -= STRIP_PX - 2
    else:
        low[axis] += STRIP_PX - 2
    return low, high


def paint_ruler(canvas: Canvas, ruler: Ruler) -> Plane:
    """Paint the ruler; return its coverage, float32 [H, W], range [0, 1]."""
    along, across = (canvas.x, canvas.y) if ruler.side < 2 else (canvas.y, canvas.x)
    depth = across if ruler.side % 2 == 0 else SIDE_PX - 1 - across
    sharpness = np.float32(canvas.scale)
    cover: Plane = np.clip((ruler.width_px - 0.5 - depth) * sharpness + 0.5, 0, 1)
    shadow = np.clip(1 - (depth - ruler.width_px) / 2.5, 0, 1) * (1 - cover) * np.float32(0.3)
    position_mm = along / np.float32(ruler.px_per_mm) + np.float32(ruler.phase_mm)
    tick = np.round(position_mm)
    distance_px = np.abs(position_mm - tick) * np.float32(ruler.px_per_mm)
    share = np.where(tick % 10 == 0, 0.82, np.where(tick % 5 == 0, 0.62, 0.38))
    from_edge = ruler.width_px - depth
    half_width_px = np.where(tick % 5 == 0, 0.85, 0.65)
    ink = np.clip((half_width_px - distance_px) * sharpness + 0.5, 0, 1)
    ink = ink * np.clip((share * ruler.width_px - from_edge) * sharpness + 0.5, 0, 1)
    paper = np.float32(canvas.rng.uniform(228, 246)) * np.array([1, 1, 0.985], np.float32)
    canvas.shade((1 - shadow).astype(np.float32))
    canvas.blend(paper * (1 - 0.88 * ink[..., None]), cover)
    return cover
