"""Outlines of lesions: symmetric, symmetric about one axis only, or about none; smooth or ragged.

An outline is a table of radii. Raggedness is fine-grained, so that an irregular border leaves the symmetry class alone.
Source: ABCD rule of dermoscopy (asymmetry in no, one or two axes).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from export.demo.canvas import Canvas, Plane

ANGLES: Final = 256
_TURN: Final = 2 * np.pi

Table = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A closed curve around (`x`, `y`), in unit pixels.

    `table`: float32 [256], radius at 256 equal angles, in unit pixels. `radius_px`: half the largest width.
    `axis`: angle of the long axis in radians. `lobe`: angle of the pigment that lies off both axes, in radians.
    """

    x: float
    y: float
    table: Table
    radius_px: float
    axis: float
    lobe: float

    def at(self, angle: float) -> float:
        """Return the radius at an angle in radians, in unit pixels."""
        return float(self.table[int(angle / _TURN * ANGLES) % ANGLES])

    def corners(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the lower and upper corner (x, y) of the box around the curve, relative to its centre."""
        angles = np.linspace(0, _TURN, ANGLES, endpoint=False)
        points = np.stack([self.table * np.cos(angles), self.table * np.sin(angles)], 1)
        return points.min(0), points.max(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Polar:
    """The canvas seen from an outline: planes float32 [H, W] in unit pixels.

    `depth` is positive inside; `share` is 0 at the centre and 1 on the curve; `dx`, `dy` are offsets from the centre.
    """

    depth: Plane
    share: Plane
    dx: Plane
    dy: Plane


def make_outline(rng: np.random.Generator, asymmetry: str, *, is_ragged: bool, radius_px: float) -> Outline:
    """Return an outline around the origin whose largest width is twice `radius_px`."""
    t = np.linspace(0, _TURN, ANGLES, endpoint=False)
    handed = float(rng.choice([-1, 1]))
    lobe = handed * float(rng.uniform(0.75, 1.0))
    if asymmetry == "symmetric":
        radii = 1 + rng.uniform(0, 0.13) * np.cos(2 * t)
    elif asymmetry == "one axis":
        radii = _drop(rng, t)
    else:
        radii = _boot(rng, t, handed, lobe)
    amplitude = rng.uniform(0.05, 0.07) if is_ragged else 0.008
    waves = range(9, 17) if is_ragged else range(3, 6)
    ripple = sum(rng.normal() * np.cos(k * t + rng.uniform(0, _TURN)) for k in waves) / len(waves) ** 0.5
    radii = radii * (1 + amplitude * np.clip(ripple, -1.8, 1.8))
    largest_width = (radii + np.roll(radii, ANGLES // 2)).max()
    axis = float(rng.uniform(0, _TURN))
    table = np.roll(radii * (2 * radius_px / largest_width), int(axis / _TURN * ANGLES)).astype(np.float32)
    return Outline(x=0.0, y=0.0, table=table, radius_px=radius_px, axis=axis, lobe=axis + lobe)


def moved(outline: Outline, x: float, y: float) -> Outline:
    """Return the same outline around another centre."""
    return Outline(x=x, y=y, table=outline.table, radius_px=outline.radius_px, axis=outline.axis, lobe=outline.lobe)


def polar(canvas: Canvas, outline: Outline, shift: tuple[float, float] = (0.0, 0.0)) -> Polar:
    """Measure every pixel of the canvas against the outline, optionally shifted (a cast shadow)."""
    dx = canvas.x - np.float32(outline.x + shift[0])
    dy = canvas.y - np.float32(outline.y + shift[1])
    distance = np.sqrt(dx * dx + dy * dy)
    index = (np.arctan2(dy, dx) * np.float32(ANGLES / _TURN)).astype(np.int32) & (ANGLES - 1)
    depth = outline.table[index] - distance
    return Polar(depth=depth, share=distance / np.maximum(distance + depth, 1), dx=dx, dy=dy)


def _bump(t: npt.NDArray[np.float64], centre: float, width: float) -> npt.NDArray[np.float64]:
    offset = (t - centre + np.pi) % _TURN - np.pi
    return np.asarray(np.exp(-((offset / width) ** 2)))


def _drop(rng: np.random.Generator, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A circle drawn out to one blunt tip: convex, symmetric about its long axis, plainly not about the other."""
    tip = rng.uniform(1.75, 2.2)
    tangent = np.arccos(1 / tip)
    offset = np.abs((t + np.pi) % _TURN - np.pi)
    radii = np.where(offset < tangent, 1 / np.cos(np.minimum(tangent - offset, 1.4)), 1.0)
    blunt = np.hanning(25) / np.hanning(25).sum()
    return np.convolve(np.concatenate([radii[-12:], radii, radii[:12]]), blunt, "valid")


def _boot(rng: np.random.Generator, t: npt.NDArray[np.float64], handed: float, lobe: float) -> npt.NDArray[np.float64]:
    """One large lobe and a smaller one off the axis, and a deep notch on the other side: nowhere symmetric."""
    large = rng.uniform(0.65, 0.85) * _bump(t, lobe, 0.40)
    small = rng.uniform(0.25, 0.40) * _bump(t, handed * rng.uniform(2.5, 2.9), 0.36)
    notch = rng.uniform(0.42, 0.52) * _bump(t, -handed * rng.uniform(0.30, 0.65), 0.42)
    return np.asarray(1 + rng.uniform(0.08, 0.16) * np.cos(2 * t) + large + small - notch)
