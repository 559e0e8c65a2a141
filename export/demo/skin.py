"""The skin of a drawing: Monk tone, texture, hair and what the camera adds (light, blur, darkness, glare, grain).

Source: Monk skin tone scale, the ten published sRGB swatches.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from export.demo.canvas import SIDE_PX, Canvas, Plane

MONK_RGB: Final = np.array(
    [
        [246, 237, 228],
        [243, 231, 219],
        [247, 234, 208],
        [234, 218, 186],
        [215, 189, 150],
        [160, 126, 86],
        [130, 92, 67],
        [96, 65, 52],
        [58, 49, 42],
        [41, 36, 32],
    ],
    np.float32,
)
# A camera that is set for the skin exposes the darkest tones up and the lightest down; without this the lesions of
# tones 9 and 10 would vanish, and with them the promise to serve every skin alike.
_EXPOSURE: Final = (0.90, 0.90, 0.90, 0.92, 0.95, 1.05, 1.08, 1.17, 1.60, 1.95)


def skin_colour(rng: np.random.Generator, monk_tone: int) -> npt.NDArray[np.float32]:
    """Return float32 [3], RGB, range [0, 255]: the exposed tone with a little variation of brightness and hue."""
    variation = (1 + rng.normal(0, 0.02)) * (1 + rng.normal(0, 0.01, 3))
    return np.asarray(MONK_RGB[monk_tone - 1] * _EXPOSURE[monk_tone - 1] * variation, np.float32)


def paint_skin(canvas: Canvas, colour: npt.NDArray[np.float32]) -> Plane:
    """Cover the canvas with skin; return its fine texture, float32 [H, W] around 0, which lesions share."""
    rng = canvas.rng
    texture: Plane = 0.045 * canvas.field(0.7) + 0.03 * canvas.field(1.6)
    pores = canvas.follicles() * np.float32(rng.uniform(0.015, 0.04))
    slow = 0.03 * canvas.field(10.0) + 0.035 * canvas.field(24.0)
    canvas.image = colour * (1 + texture * 0.6 - pores + slow)[..., None]
    flush = np.clip(canvas.field(24.0) * 0.5 + canvas.field(4.0) * 0.2, 0, 2) * np.float32(rng.uniform(0, 0.06))
    canvas.image = canvas.image * (1 - flush[..., None] * np.array([0.1, 0.8, 0.7], np.float32))
    return texture


def paint_hairs(canvas: Canvas) -> None:
    """Lay a few hairs over one drawing in three."""
    rng = canvas.rng
    if rng.random() > 0.33:
        return
    cover = np.rot90(canvas.hairs(), int(rng.integers(4))) * np.float32(rng.uniform(0.4, 0.85))
    dark = rng.random() < 0.75 or canvas.monk_tone >= 6
    colour = np.array([38, 30, 26] if dark else [120, 92, 60], np.float32)
    canvas.blend(colour * (0.5 if canvas.monk_tone >= 9 else 1.0), cover)


def light_unevenly(canvas: Canvas) -> None:
    """Shade the picture towards one side and towards its corners, and vary the exposure a little."""
    rng, centre = canvas.rng, SIDE_PX / 2
    along = ((canvas.x - centre) * canvas.light[0] + (canvas.y - centre) * canvas.light[1]) / centre
    corner = ((canvas.x - centre) ** 2 + (canvas.y - centre) ** 2) / (2 * centre * centre)
    factor = 1 + rng.uniform(0, 0.12) * along - rng.uniform(0, 0.20) * corner
    canvas.shade(np.asarray(factor * rng.uniform(0.93, 1.06), np.float32))


def spoil(canvas: Canvas, quality: str, centre: tuple[float, float]) -> None:
    """Blur, darken or overexpose the picture, as its quality says; glare falls near `centre` (unit pixels)."""
    if quality == "blurred":
        radius = float(canvas.rng.uniform(3.2, 5.5)) * canvas.scale
        picture = Image.fromarray(np.clip(canvas.image, 0, 255).astype(np.uint8))
        canvas.image = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    elif quality == "too dark":
        canvas.image = canvas.image * np.float32(canvas.rng.uniform(0.10, 0.20))
    elif quality == "glare":
        for _ in range(int(canvas.rng.integers(1, 3))):
            _add_glare(canvas, centre)


def add_grain(canvas: Canvas) -> None:
    """Add sensor noise; a larger drawing has more of it per pixel, so that it has as much once reduced."""
    height, width = canvas.x.shape
    grain = canvas.rng.standard_normal((height, width, 1), np.float32)
    canvas.image = canvas.image + grain * np.float32(canvas.rng.uniform(1.5, 4) * canvas.scale**0.5)


def _add_glare(canvas: Canvas, centre: tuple[float, float]) -> None:
    rng = canvas.rng
    glare_x, glare_y = np.clip(np.array(centre) + rng.normal(0, 18, 2), 20, SIDE_PX - 20)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = canvas.x - np.float32(glare_x), canvas.y - np.float32(glare_y)
    far = ((dx * cos + dy * sin) / rng.uniform(38, 62)) ** 2 + ((dy * cos - dx * sin) / rng.uniform(24, 44)) ** 2
    light = 430 * np.exp(-far * 1.6) * (1 + 0.1 * canvas.field(10.0))
    canvas.image = canvas.image + light[..., None].astype(np.float32) * np.array([1, 1, 0.98], np.float32)
