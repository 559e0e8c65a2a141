"""The surface a drawing is painted on: a pixel grid in scale-free coordinates, and banks of smooth random fields.

Every length is in pixels of a 160-pixel picture ("unit pixels"), whatever the size of the drawing, so that a large
drawing that is reduced shows the same thing as a small one.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIDE_PX: Final = 160
GRAINS_PX: Final = (0.7, 1.6, 4.0, 10.0, 24.0)
"""Standard deviations of the Gaussian kernels of the random fields, in unit pixels."""

_BANK_SIDE_PX: Final = 2 * SIDE_PX
_BANK_SEED: Final = 7
_FIELDS_PER_GRAIN: Final = 10

Plane = npt.NDArray[np.float32]
"""float32 [H, W], one value per pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Banks:
    """Random fields drawn once and cropped at random afterwards; each plane is float32 [320, 320]."""

    noise: dict[float, tuple[Plane, ...]]
    follicles: tuple[Plane, ...]
    hairs: tuple[Plane, ...]


@dataclass(slots=True, kw_only=True)
class Canvas:
    """One drawing in progress.

    `x`, `y`: float32 [H, W], unit pixels. `image`: float32 [H, W, 3], RGB, range [0, 255].
    `light`: unit vector from which the light comes.
    """

    rng: np.random.Generator
    scale: int
    monk_tone: int
    light: tuple[float, float]
    x: Plane
    y: Plane
    image: npt.NDArray[np.float32]

    def field(self, grain_px: float) -> Plane:
        """Return one random field of this grain: float32 [H, W], mean 0, standard deviation 1."""
        plane = self.crop(_banks().noise[grain_px])
        return plane[::-1] if self.rng.random() < 0.5 else plane

    def follicles(self) -> Plane:
        """Return pores and fine creases of the skin: float32 [H, W], around 0."""
        return self.crop(_banks().follicles)

    def hairs(self) -> Plane:
        """Return coverage by a few hairs: float32 [H, W], range [0, 1]."""
        return np.clip(self.crop(_banks().hairs), 0, 1)

    def crop(self, planes: tuple[Plane, ...]) -> Plane:
        """Cut a random window out of a random plane, enlarged to the drawing's size."""
        top, left = self.rng.integers(0, _BANK_SIDE_PX - SIDE_PX, 2)
        window = planes[int(self.rng.integers(len(planes)))][top : top + SIDE_PX, left : left + SIDE_PX]
        if self.scale == 1:
            return window
        side = SIDE_PX * self.scale
        return np.asarray(Image.fromarray(window).resize((side, side), Image.Resampling.BICUBIC))

    def blend(self, colour: npt.ArrayLike, alpha: Plane) -> None:
        """Lay a colour (RGB, or float32 [H, W, 3]) over the picture."""
        weight = alpha[..., None]
        self.image = self.image * (1 - weight) + np.asarray(colour, np.float32) * weight

    def shade(self, factor: Plane) -> None:
        """Multiply every channel by float32 [H, W]."""
        self.image = self.image * factor[..., None]


def blank_canvas(rng: np.random.Generator, monk_tone: int, scale: int) -> Canvas:
    """Return a black canvas of side 160 x `scale` pixels with a random direction of light."""
    side = SIDE_PX * scale
    y, x = ((np.mgrid[0:side, 0:side] + 0.5) / scale - 0.5).astype(np.float32)
    angle = float(rng.uniform(0, 2 * np.pi))
    light = (float(np.cos(angle)), float(np.sin(angle)))
    image = np.zeros((side, side, 3), np.float32)
    return Canvas(rng=rng, scale=scale, monk_tone=monk_tone, light=light, x=x, y=y, image=image)


def sigmoid(values: Plane) -> Plane:
    """Map float32 [H, W] to (0, 1) without overflow."""
    return (1 / (1 + np.exp(-np.clip(values, -20, 20)))).astype(np.float32)


@lru_cache(maxsize=1)
def _banks() -> Banks:
    rng = np.random.default_rng(_BANK_SEED)
    noise = {grain: tuple(_noise_plane(rng, grain) for _ in range(_FIELDS_PER_GRAIN)) for grain in GRAINS_PX}
    follicles = tuple(_follicle_plane(rng, noise[4.0]) for _ in range(12))
    hairs = tuple(_hair_plane(rng) for _ in range(100))
    return Banks(noise=noise, follicles=follicles, hairs=hairs)


def _blur(plane: Plane, sigma_px: float) -> Plane:
    """Gaussian blur, separable, mirrored at the edges."""
    reach = max(1, int(3 * sigma_px))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma_px * sigma_px))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(reach, reach) if axis == a else (0, 0) for a in (0, 1)]
        padded, length = np.pad(plane, padding, mode="reflect"), plane.shape[axis]
        shifted = (np.take(padded, range(i, i + length), axis) * weight for i, weight in enumerate(kernel))
        plane = np.asarray(sum(shifted), np.float32)
    return plane


def _noise_plane(rng: np.random.Generator, grain_px: float) -> Plane:
    plane = _blur(rng.standard_normal((_BANK_SIDE_PX, _BANK_SIDE_PX)).astype(np.float32), grain_px)
    return np.asarray((plane - plane.mean()) / plane.std(), np.float32)


def _follicle_plane(rng: np.random.Generator, waves: tuple[Plane, ...]) -> Plane:
    """Dots on a jittered lattice with paler rings, and two crossing sets of creases."""
    step = float(rng.uniform(9, 14))
    dots = np.zeros((_BANK_SIDE_PX, _BANK_SIDE_PX), np.float32)
    grid = np.stack(np.meshgrid(np.arange(0, _BANK_SIDE_PX, step), np.arange(0, _BANK_SIDE_PX, step)), -1).reshape(
        -1, 2
    )
    places = (grid + rng.normal(0, step * 0.28, grid.shape)).astype(int) % _BANK_SIDE_PX
    np.add.at(dots, (places[:, 0], places[:, 1]), rng.uniform(0.3, 1, len(places)).astype(np.float32))
    pores = _blur(dots, 1.0) * 6 - _blur(dots, 2.6) * 12
    y, x = np.mgrid[0:_BANK_SIDE_PX, 0:_BANK_SIDE_PX]
    first = float(rng.uniform(0, np.pi))
    wave = waves[int(rng.integers(len(waves)))] * 1.6
    creases = np.zeros_like(dots)
    for angle in (first, first + float(rng.uniform(0.9, 1.4))):
        phase = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / rng.uniform(11, 17) + wave
        creases += np.exp(-((np.sin(phase) / 0.25) ** 2)).astype(np.float32)
    return np.asarray(pores + 0.8 * creases - 0.5, np.float32)


def _hair_plane(rng: np.random.Generator) -> Plane:
    """One to six bent hairs, drawn at double size and reduced."""
    side = 2 * _BANK_SIDE_PX
    sheet = Image.new("L", (side, side))
    pen = ImageDraw.Draw(sheet)
    heading = rng.uniform(0, 2 * np.pi)
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(int(rng.integers(3, 16))):
        start = rng.uniform(0, side, 2)
        angle, length = heading + rng.normal(0, 0.5), rng.uniform(60, 220)
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        bend = (start + end) / 2 + rng.normal(0, length * 0.15, 2)
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t * t * end
        pen.line(
            [(float(a), float(b)) for a, b in curve], fill=int(rng.uniform(120, 255)), width=int(rng.integers(1, 4))
        )
    reduced = sheet.resize((_BANK_SIDE_PX, _BANK_SIDE_PX), Image.Resampling.BOX)
    return np.asarray(reduced, np.float32) / np.float32(255)
