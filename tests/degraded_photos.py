"""A real photo of skin in known steps of degradation and in ten skin tones: what thresholds are chosen and tested on.

The photo: tests/data/dermapred. A tone is put on it in linear light, channel by channel, so that the pattern of the
skin keeps its relative contrast; no camera was ever before those nine other tones.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from appliance.imaging.filters import linear_from_srgb, srgb_from_linear
from export.demo.skin import MONK_RGB

PHOTO = Path(__file__).parent / "data/dermapred/example_image.jpg"
ASPECT = 16 / 9
CROP_SIDES_PX = (600, 760, 960, 1200, 1360)
"""Short sides of crops; all are larger than the 540 that are measured, so none is blurred by being enlarged."""
Degrade = Callable[[Image.Image, np.random.Generator], Image.Image]


def photo() -> Image.Image:
    with Image.open(PHOTO) as opened:
        return opened.convert("RGB")


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def crops(rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    """Yield crops of camera frames' shapes."""
    whole = photo()
    for number in range(count):
        height = CROP_SIDES_PX[number % len(CROP_SIDES_PX)]
        width = min(whole.width, round(height * ASPECT))
        left = int(rng.integers(0, whole.width - width + 1))
        top = int(rng.integers(0, whole.height - height + 1))
        yield whole.crop((left, top, left + width, top + height))


def in_tone(picture: Image.Image, monk_tone: int, exposure: float = 1.0) -> Image.Image:
    """Give the skin the median colour of a Monk tone, 1 to 10, times `exposure` in linear light."""
    light = linear_from_srgb(np.asarray(picture))
    median = np.median(light.reshape(-1, 3), axis=0)
    wanted = linear_from_srgb(MONK_RGB[monk_tone - 1]) * exposure
    return from_light(light * (wanted / median))


def from_light(light: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.round(srgb_from_linear(light)).astype(np.uint8))


def blurred(sigma_px: float) -> Degrade:
    """Defocus; lengths are in pixels of a frame 1080 high."""
    return lambda picture, rng: picture.filter(ImageFilter.GaussianBlur(sigma_px * min(picture.size) / 1080))


def smeared(length_px: float) -> Degrade:
    """Motion during the exposure, in a random direction."""

    def smear(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        length = length_px * min(picture.size) / 1080
        angle = rng.uniform(0, np.pi)
        pixels = np.asarray(picture, np.float32)
        steps = max(2, round(length) + 1)
        total = np.zeros_like(pixels)
        for along in np.linspace(-length / 2, length / 2, steps):
            total += np.roll(pixels, (round(along * np.sin(angle)), round(along * np.cos(angle))), (0, 1))
        return Image.fromarray((total / steps).astype(np.uint8))

    return smear


def exposed(stops: float) -> Degrade:
    return lambda picture, rng: from_light(linear_from_srgb(np.asarray(picture)) * 2.0**stops)


def cast(red: float, green: float, blue: float) -> Degrade:
    """Light of another colour, as factors in linear light."""
    factors = np.array([red, green, blue])
    return lambda picture, rng: from_light(linear_from_srgb(np.asarray(picture)) * factors)


def glaring(radius_share: float) -> Degrade:
    """A highlight near the middle: light added in a soft ellipse whose saturated core has about this radius."""

    def glare(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        light = linear_from_srgb(np.asarray(picture))
        height, width = light.shape[:2]
        side = min(height, width)
        y, x = np.mgrid[:height, :width] / side
        middle_x, middle_y = width / side / 2 + rng.uniform(-0.2, 0.2), 0.5 + rng.uniform(-0.2, 0.2)
        angle = rng.uniform(0, np.pi)
        along = (x - middle_x) * np.cos(angle) + (y - middle_y) * np.sin(angle)
        across = (y - middle_y) * np.cos(angle) - (x - middle_x) * np.sin(angle)
        far = (along / radius_share / 1.3) ** 2 + (across / radius_share * 1.3) ** 2
        return from_light(light + 1.6 * np.exp(-far * 0.6)[..., None])

    return glare


def shifted(share: float) -> Degrade:
    """The next frame of a hand that moves: displaced by a share of the short side, rolled around the edges."""

    def shift(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        angle, length = rng.uniform(0, 2 * np.pi), share * min(picture.size)
        by = (round(length * np.sin(angle)), round(length * np.cos(angle)))
        return Image.fromarray(np.roll(np.asarray(picture), by, (0, 1)))

    return shift


STEPS: dict[str, tuple[str, Degrade]] = {
    "blur, sigma 1 px": ("quality.blurred", blurred(1)),
    "blur, sigma 2 px": ("quality.blurred", blurred(2)),
    "blur, sigma 3 px": ("quality.blurred", blurred(3)),
    "blur, sigma 5 px": ("quality.blurred", blurred(5)),
    "motion, 4 px": ("quality.blurred", smeared(4)),
    "motion, 8 px": ("quality.blurred", smeared(8)),
    "motion, 16 px": ("quality.blurred", smeared(16)),
    "motion, 32 px": ("quality.blurred", smeared(32)),
    "exposure, -2 stops": ("quality.too_dark", exposed(-2)),
    "exposure, -4 stops": ("quality.too_dark", exposed(-4)),
    "exposure, -5 stops": ("quality.too_dark", exposed(-5)),
    "exposure, -6 stops": ("quality.too_dark", exposed(-6)),
    "exposure, +1 stop": ("quality.too_bright", exposed(1)),
    "exposure, +2 stops": ("quality.too_bright", exposed(2)),
    "exposure, +3 stops": ("quality.too_bright", exposed(3)),
    "glare, radius 1 %": ("quality.glare", glaring(0.01)),
    "glare, radius 3 %": ("quality.glare", glaring(0.03)),
    "glare, radius 6 %": ("quality.glare", glaring(0.06)),
    "glare, radius 12 %": ("quality.glare", glaring(0.12)),
    "light, tungsten": ("quality.coloured_light", cast(1.3, 1, 0.5)),
    "light, candle": ("quality.coloured_light", cast(1.7, 1, 0.25)),
    "light, green tube": ("quality.coloured_light", cast(0.7, 1.1, 0.75)),
    "light, blue": ("quality.coloured_light", cast(0.6, 0.9, 1.5)),
    "shift, 0.5 %": ("quality.moving", shifted(0.005)),
    "shift, 1.5 %": ("quality.moving", shifted(0.015)),
    "shift, 4 %": ("quality.moving", shifted(0.04)),
    "shift, 10 %": ("quality.moving", shifted(0.1)),
}
"""What a step should be called; the mildest of each kind may be harmless, the strongest must not be missed."""
