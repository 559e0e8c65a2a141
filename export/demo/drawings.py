"""Procedural drawings of skin lesions with known attributes: a seed in, a picture and its truth out.

These are drawings, not medical pictures, and say nothing about real skin.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from export.demo.canvas import SIDE_PX, Canvas, blank_canvas
from export.demo.lesion import LesionCover, LesionPlan, paint_lesion
from export.demo.outline import Outline, make_outline, moved
from export.demo.ruler import free_area, paint_ruler, place_ruler
from export.demo.scene import Attributes, Scene, plan_scene
from export.demo.skin import add_grain, light_unevenly, paint_hairs, paint_skin, skin_colour, spoil

MAP_SIDE: Final = 10
MAP_CHANNELS: Final = 9
"""Any lesion, the main lesion, the six colours, the ruler."""

_MAX_ATTEMPTS: Final = 40
# A colour counts only where it can be seen; below these shares the drawing is thrown away.
_MIN_COLOUR_SHARE: Final = 0.07
_MIN_COLOUR_AREA_PX: Final = 60.0
_LARGE_SHARE: Final = 0.08
_JPEG_SHARE: Final = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """`pixels`: uint8 [H, W, 3], RGB. `maps`: uint8 [9, 10, 10], coverage of each cell in 1/255."""

    pixels: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.uint8]
    attributes: Attributes


def draw(seed: int, index: int, scale: int = 1) -> Drawing:
    """Draw picture `index` of stream `seed` at side 160 x `scale`; the same arguments give the same pixels."""
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng((seed, index, attempt))
        drawing = draw_scene(plan_scene(rng), rng, scale)
        if drawing is not None:
            return drawing
    raise RuntimeError(f"No legible drawing for seed {seed}, index {index} in {_MAX_ATTEMPTS} attempts.")


def draw_varied(seed: int, index: int) -> Drawing:
    """Draw one picture of side 160 as a camera might deliver it: some are reduced from larger ones, some are JPEG."""
    rng = np.random.default_rng((seed, index, _MAX_ATTEMPTS))
    is_large, is_jpeg, quality = rng.random() < _LARGE_SHARE, rng.random() < _JPEG_SHARE, int(rng.integers(85, 96))
    drawing = draw(seed, index, 2 if is_large else 1)
    picture = Image.fromarray(drawing.pixels)
    if is_jpeg:
        picture = Image.open(io.BytesIO(jpeg_bytes(drawing.pixels, quality)))
    if is_large:
        picture = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return Drawing(pixels=np.array(picture), maps=drawing.maps, attributes=drawing.attributes)


def jpeg_bytes(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """Encode uint8 [H, W, 3] as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def draw_scene(scene: Scene, rng: np.random.Generator, scale: int) -> Drawing | None:
    """Paint one planned scene; `None` if a colour of the plan cannot be seen or the lesions do not fit."""
    truth = scene.attributes
    canvas = blank_canvas(rng, truth.monk_tone, scale)
    skin = skin_colour(rng, truth.monk_tone)
    texture = paint_skin(canvas, skin)
    ruler = place_ruler(rng, truth.px_per_mm)
    maps = np.zeros((MAP_CHANNELS, *canvas.x.shape), np.float32)
    centre = (SIDE_PX / 2, SIDE_PX / 2)
    if truth.has_lesion:
        plans = _place_lesions(rng, scene, *free_area(ruler))
        if plans is None:
            return None
        for plan in plans:
            cover = paint_lesion(canvas, plan, texture, skin)
            maps[0] = np.maximum(maps[0], cover.alpha)
        if not _is_legible(cover, scene, scale):
            return None
        maps[1], maps[2:8] = cover.alpha, cover.colours
        centre = (plan.outline.x, plan.outline.y)
    paint_hairs(canvas)
    maps[8] = paint_ruler(canvas, ruler)
    return _develop(canvas, truth, maps, centre)


def _develop(canvas: Canvas, truth: Attributes, maps: npt.NDArray[np.float32], centre: tuple[float, float]) -> Drawing:
    """Apply light, camera faults and grain, and reduce the maps to their grid."""
    light_unevenly(canvas)
    spoil(canvas, truth.quality, centre)
    add_grain(canvas)
    cell = maps.shape[1] // MAP_SIDE
    cells = maps.reshape(MAP_CHANNELS, MAP_SIDE, cell, MAP_SIDE, cell).mean((2, 4))
    pixels = np.clip(canvas.image, 0, 255).astype(np.uint8)
    return Drawing(pixels=pixels, maps=(cells * 255).astype(np.uint8), attributes=truth)


def _place_lesions(
    rng: np.random.Generator, scene: Scene, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> list[LesionPlan] | None:
    """Return the companions, if any, and the main lesion last; `None` if they do not fit."""
    truth = scene.attributes
    radius_px = truth.width_mm * truth.px_per_mm / 2
    shape = make_outline(
        rng, truth.asymmetry or "symmetric", is_ragged=truth.border == "irregular", radius_px=radius_px
    )
    box_low, box_high = shape.corners()
    first, last = low - box_low, high - box_high
    slack = np.maximum((last - first) / 2, 0) * 0.8
    x, y = (first + last) / 2 + rng.uniform(-1, 1, 2) * slack
    outline = moved(shape, float(x), float(y))
    main = LesionPlan(
        outline=outline,
        asymmetry=truth.asymmetry or "symmetric",
        border=truth.border or "regular",
        surface=truth.surface or "flat",
        base=scene.base,
        extras=scene.extras,
    )
    if truth.number != "several":
        return [main]
    companions = list(_companions(rng, scene, outline, low, high))
    return [*companions, main] if companions else None


def _companions(
    rng: np.random.Generator,
    scene: Scene,
    main: Outline,
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
) -> Iterator[LesionPlan]:
    """Yield one to three plain, round, clearly smaller lesions that touch nothing."""
    placed = [(main.x, main.y, float(main.table.max()))]
    wanted = int(rng.integers(1, 4))
    for _ in range(60):
        radius = float(np.clip(main.radius_px * rng.uniform(0.3, 0.5), 6.0, 13.0))
        x, y = (float(value) for value in rng.uniform(low + radius, high - radius))
        if all(np.hypot(x - other_x, y - other_y) > other + radius + 5 for other_x, other_y, other in placed):
            placed.append((x, y, radius))
            outline = moved(make_outline(rng, "symmetric", is_ragged=False, radius_px=radius), x, y)
            yield LesionPlan(
                outline=outline, asymmetry="symmetric", border="regular", surface="flat", base=scene.base, extras=()
            )
        if len(placed) > wanted:
            return


def _is_legible(cover: LesionCover, scene: Scene, scale: int) -> bool:
    """Whether each colour of the truth covers enough of the lesion to be seen."""
    unit_area = scale * scale
    area = float(cover.alpha.sum()) / unit_area
    enough = max(_MIN_COLOUR_AREA_PX, _MIN_COLOUR_SHARE * area)
    visible = cover.colours.sum((1, 2)) / unit_area
    return int(np.count_nonzero(visible >= enough)) == len(scene.attributes.colours)
