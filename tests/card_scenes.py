"""Pictures of the printed card on skin, seen by a camera of known distance and angle, with a lesion of known size.

The card is the real PDF page, rasterised by poppler; the skin is the real photo.
"""

import io
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from degraded_photos import photo
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from appliance.imaging.card_layout import ARM_LENGTH_MM, ARM_WIDTH_MM, LESION_MM
from appliance.imaging.card_page import CARD_AT_MM, card_pdf
from appliance.imaging.filters import linear_from_srgb, srgb_from_linear
from appliance.imaging.homography import Matrix, apply, inverse

PDFTOPPM = shutil.which("pdftoppm")
MISSING = "pdftoppm is missing: install Debian's poppler-utils"
DPI = 508
PX_PER_MM = DPI / 25.4
SKIN_PX_PER_MM = 20.0
"""What the photo is taken to have; it was never measured, and nothing depends on it."""
FRAME_PX = (960, 540)
_LINEAR = linear_from_srgb(np.arange(256)).astype(np.float32)
LESION_LIGHT = _LINEAR[np.array((88, 58, 46))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the camera sees."""

    height_mm: float = 90.0
    """Covered by the frame's height in the middle of the picture."""
    tilt_deg: float = 0.0
    tilt_towards_deg: float = 0.0
    turn_deg: float = 0.0
    lesion_mm: float = 7.0
    lesion_ratio: float = 0.7
    """Short over long diameter."""
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 2.0
    blur_px: float = 0.7
    print_scale: float = 1.0
    seed: int = 0
    has_card: bool = True
    aim_mm: tuple[float, float] = LESION_MM


@cache
def card_texture() -> NDArray[np.uint8]:
    """Rasterise the card, from its origin to 2 mm beyond its arms; uint8 [H, W, 3]."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "card.pdf"
        path.write_bytes(card_pdf())
        assert PDFTOPPM is not None
        left, top = (round(at * PX_PER_MM) for at in CARD_AT_MM)
        side = str(round(ARM_LENGTH_MM * PX_PER_MM))
        area = ["-x", str(left), "-y", str(top), "-W", side, "-H", side]
        subprocess.run([PDFTOPPM, "-r", str(DPI), *area, "-png", "-singlefile", path, path.with_suffix("")], check=True)
        with Image.open(path.with_suffix(".png")) as page:
            return np.asarray(page.convert("RGB"))


@cache
def skin_texture() -> NDArray[np.uint8]:
    pixels = np.asarray(photo())
    return np.concatenate(
        [np.concatenate([pixels, pixels[:, ::-1]], 1), np.concatenate([pixels, pixels[:, ::-1]], 1)[::-1]]
    )


def camera(scene: Scene, frame_px: tuple[int, int] = FRAME_PX) -> Matrix:
    """Return card mm to frame pixels for a pinhole camera with a field of view of 40 degrees over its height."""
    width_px, height_px = frame_px
    focal_px = height_px / 2 / np.tan(np.deg2rad(20))
    distance_mm = scene.height_mm * focal_px / height_px
    towards, tilt, turn = np.deg2rad([scene.tilt_towards_deg, scene.tilt_deg, scene.turn_deg])
    axis = np.array([np.cos(towards), np.sin(towards), 0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    tilted = np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    rotation = turned @ tilted
    inner = np.array([[focal_px, 0, (width_px - 1) / 2], [0, focal_px, (height_px - 1) / 2], [0, 0, 1]])
    plane = np.column_stack([rotation[:, 0], rotation[:, 1], np.array([0, 0, distance_mm])])
    aimed = np.array([[1, 0, -scene.aim_mm[0]], [0, 1, -scene.aim_mm[1]], [0, 0, 1]])
    matrix = inner @ plane @ aimed
    return np.asarray(matrix / matrix[2, 2])


@cache
def rendered(scene: Scene, frame_px: tuple[int, int] = FRAME_PX) -> NDArray[np.uint8]:
    """Take the picture: uint8 [H, W, 3], JPEG at quality 85."""
    rng = np.random.default_rng(scene.seed)
    large = (frame_px[0] * 2, frame_px[1] * 2)
    zoom = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1.0]])
    x, y = np.meshgrid(np.arange(large[0]), np.arange(large[1]))
    to_card = inverse(zoom @ camera(scene, frame_px))
    place = apply(to_card, np.column_stack([x.ravel(), y.ravel()]).astype(np.float64))
    colour = _looked_up(skin_texture(), place * SKIN_PX_PER_MM + 500, wraps=True)
    colour = _with_lesion(colour, place, scene)
    if scene.has_card:
        at = place / scene.print_scale
        on_card = (at.min(axis=1) >= 0) & (at.max(axis=1) < ARM_LENGTH_MM) & (at.min(axis=1) < ARM_WIDTH_MM)
        colour[on_card] = _looked_up(card_texture(), at[on_card] * PX_PER_MM, wraps=False)
    # Light is added up in linear light, as on a sensor: two by two samples a pixel.
    light = colour.reshape(frame_px[1], 2, frame_px[0], 2, 3).mean(axis=(1, 3)) * 0.9 * np.array(scene.light)
    picture = Image.fromarray(np.round(srgb_from_linear(light)).astype(np.uint8))
    soft = picture.filter(ImageFilter.GaussianBlur(scene.blur_px))
    noisy = np.asarray(soft, np.float32) + rng.normal(0, scene.noise, light.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


def _with_lesion(colour: NDArray[np.float32], place: NDArray[np.float64], scene: Scene) -> NDArray[np.float32]:
    """Paint an ellipse with an edge 0.3 mm wide, half of it inside the stated size, over the skin's own pattern."""
    dx, dy = (place - np.array(LESION_MM)).T
    angle = np.deg2rad(30)
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    radius = np.hypot(along, across / scene.lesion_ratio)
    cover = np.clip((scene.lesion_mm / 2 - radius) / 0.3 + 0.5, 0, 1)[:, None]
    pattern = colour / np.median(colour[::101], axis=0)
    return np.asarray(colour * (1 - cover) + LESION_LIGHT * pattern * cover, np.float32)


def _looked_up(texture: NDArray[np.uint8], at: NDArray[np.float64], *, wraps: bool) -> NDArray[np.float32]:
    """Return the nearest texel's linear light; the picture is taken at twice the size and averaged."""
    columns, rows = np.floor(at[:, 0]).astype(np.int64), np.floor(at[:, 1]).astype(np.int64)
    if wraps:
        columns, rows = columns % texture.shape[1], rows % texture.shape[0]
    else:
        columns, rows = np.clip(columns, 0, texture.shape[1] - 1), np.clip(rows, 0, texture.shape[0] - 1)
    return np.asarray(_LINEAR[texture[rows, columns]])
