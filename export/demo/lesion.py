"""Paints one lesion on a canvas: ground colour, pigment pattern, further colours, border and surface.

Pigment and colours follow the asymmetry class: concentric, along one axis, or off both axes.
Source: ABCD rule of dermoscopy; colour names of `appliance.assessment`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from appliance.assessment import COLOURS
from export.demo.canvas import Canvas, Plane, sigmoid
from export.demo.outline import Outline, Polar, polar
from export.demo.surface import paint_surface_under, surface_of

_LIGHT_BROWN_OF_SKIN: Final = np.array([0.74, 0.60, 0.46])
_BRIGHT_PALETTE: Final = ((88, 52, 34), (28, 24, 26), (200, 74, 74), (90, 106, 134), (238, 232, 226))
_DARK_PALETTE: Final = ((62, 32, 20), (12, 10, 12), (170, 52, 50), (80, 98, 130), (206, 198, 190))
_RING_EDGES: Final = {1: (0.0, 0.58), 2: (0.0, 0.44, 0.75), 3: (0.0, 0.37, 0.60, 0.80)}

Colour = npt.NDArray[np.float32]
"""float32 [3], RGB, range [0, 255]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionPlan:
    """What one lesion looks like; `base` and `extras` are words of `COLOURS`."""

    outline: Outline
    asymmetry: str
    border: str
    surface: str
    base: str
    extras: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCover:
    """Where one lesion lies: `alpha` float32 [H, W]; `colours` float32 [6, H, W] in the order of `COLOURS`; 0 to 1."""

    alpha: Plane
    colours: npt.NDArray[np.float32]


def paint_lesion(canvas: Canvas, plan: LesionPlan, texture: Plane, skin: Colour) -> LesionCover:
    """Paint one lesion and return its cover; `texture` is the fine structure of the skin around it."""
    view = _ragged(canvas, plan, polar(canvas, plan.outline))
    alpha = sigmoid(view.depth / _softness(canvas, plan))
    palette = _palette(canvas, skin)
    mottle = canvas.field(1.6) * np.float32(0.05) + canvas.field(4.0) * np.float32(0.06)
    layer = palette[COLOURS.index(plan.base)] * ((1 + mottle) * _pigment(canvas, plan, view))[..., None]
    cover = np.zeros((len(COLOURS), *alpha.shape), np.float32)
    cover[COLOURS.index(plan.base)] = alpha
    crater: Plane = np.zeros_like(alpha)
    for colour, patch in zip(plan.extras, _patches(canvas, plan, view), strict=True):
        index = COLOURS.index(colour)
        weight = patch[..., None]
        layer = layer * (1 - weight) + palette[index] * (1 + 0.7 * mottle)[..., None] * weight
        cover *= 1 - patch
        cover[index] += patch * alpha
        crater = patch if colour == "red" else crater * (1 - patch)
    layer = layer * (1 + 0.6 * texture)[..., None]
    layer = surface_of(canvas, plan.surface, plan.outline, view, crater, layer)
    paint_surface_under(canvas, plan.surface, plan.outline, alpha)
    canvas.blend(layer, alpha)
    return LesionCover(alpha=alpha, colours=cover)


def _ragged(canvas: Canvas, plan: LesionPlan, view: Polar) -> Polar:
    """Warp an irregular outline with noise much finer than the lesion."""
    if plan.border == "regular":
        return view
    radius = plan.outline.radius_px
    fine, coarse = (0.8, 0.2) if radius < 30 else (0.65, 0.4)
    warp = canvas.field(1.6) * np.float32(fine) + canvas.field(4.0) * np.float32(coarse)
    amplitude = np.float32(max(1.9, radius * canvas.rng.uniform(0.075, 0.10)))
    depth = np.asarray(view.depth + warp * amplitude, np.float32)
    return Polar(depth=depth, share=view.share, dx=view.dx, dy=view.dy)


def _softness(canvas: Canvas, plan: LesionPlan) -> np.float32:
    """Return the width of the edge in unit pixels: a regular border fades, an irregular one ends abruptly."""
    if plan.border == "irregular":
        return np.float32(canvas.rng.uniform(0.40, 0.60))
    return np.float32(min(canvas.rng.uniform(1.5, 2.5), 0.12 * plan.outline.radius_px))


def _palette(canvas: Canvas, skin: Colour) -> Colour:
    """Return float32 [6, 3] for this skin, each colour varied a little."""
    rest = np.array(_DARK_PALETTE if canvas.monk_tone >= 8 else _BRIGHT_PALETTE, np.float32)
    palette = np.concatenate([[skin * _LIGHT_BROWN_OF_SKIN], rest])
    if canvas.monk_tone in (6, 7):
        palette[1] *= 0.85
    brightness = 1 + canvas.rng.normal(0, 0.035, (len(COLOURS), 1))
    return np.asarray(palette * brightness * (1 + canvas.rng.normal(0, 0.012, palette.shape)), np.float32)


def _pigment(canvas: Canvas, plan: LesionPlan, view: Polar) -> Plane:
    """Return the brightness pattern of the ground colour: a target, one dark end, or spots off both axes."""
    rng, outline = canvas.rng, plan.outline
    # Light brown that is darkened more would be dark brown.
    contrast = 0.36 if plan.base == "light brown" else 0.55
    contrast *= rng.uniform(0.9, 1.1)
    if plan.asymmetry == "symmetric":
        slope = contrast * float(rng.choice([-1, 1]))
        return np.asarray(1 + slope * (view.share - 0.6), np.float32)
    if plan.asymmetry == "one axis":
        along = _along(outline, view) * float(rng.choice([-1, 1]))
        return np.asarray(1.17 - contrast * sigmoid((along - 0.1) * 12), np.float32)
    wobble = 0.05 * canvas.field(4.0)
    turn = float(rng.choice([-1, 1]))
    spots = [
        _disc(view, outline, outline.lobe + turn * (angle + rng.normal(0, 0.2)), share, size)
        for angle, share, size in ((0.0, 0.62, 0.26), (1.7, 0.55, 0.19), (3.6, 0.60, 0.22), (5.0, 0.50, 0.15))
    ]
    dark = sigmoid((np.maximum.reduce(spots) + wobble) * 18)
    return np.asarray(1.17 - contrast * dark, np.float32)


def _along(outline: Outline, view: Polar) -> Plane:
    """Return the place along the long axis, in lesion radii, 0 at the middle of the lesion's length."""
    front, back = outline.at(outline.axis), outline.at(outline.axis + np.pi)
    along = view.dx * np.float32(np.cos(outline.axis)) + view.dy * np.float32(np.sin(outline.axis))
    return np.asarray((along - 0.5 * (front - back)) / outline.radius_px, np.float32)


def _disc(view: Polar, outline: Outline, angle: float, share: float, size: float) -> Plane:
    """Return how far inside a disc each pixel lies, in lesion radii; its centre lies at a share of the way out."""
    reach = share * outline.at(angle)
    dx = view.dx - np.float32(reach * np.cos(angle))
    dy = view.dy - np.float32(reach * np.sin(angle))
    return np.asarray(size - np.sqrt(dx * dx + dy * dy) / outline.radius_px, np.float32)


def _patches(canvas: Canvas, plan: LesionPlan, view: Polar) -> list[Plane]:
    """Return one mask for each further colour, float32 [H, W], range [0, 1]."""
    count = len(plan.extras)
    if not count:
        return []
    wobble: Plane = canvas.field(4.0) * np.float32(0.10) + canvas.field(1.6) * np.float32(0.04)
    inside = np.clip(view.depth / 1.5, 0, 1)
    if plan.asymmetry == "symmetric":
        masks = _rings(count, plan.outline.radius_px, view.share + wobble * np.float32(0.5))
    elif plan.asymmetry == "one axis":
        masks = _bands(canvas, plan, view, wobble)
    else:
        masks = _islands(canvas, plan, view, wobble)
    return [np.asarray(mask * inside, np.float32) for mask in masks]


def _rings(count: int, radius_px: float, share: Plane) -> list[Plane]:
    sharpness = radius_px / 0.7
    edges = _RING_EDGES[count]
    inner = [sigmoid((edge - share) * sharpness) for edge in edges[1:]]
    return [mask if j == 0 else mask * (1 - inner[j - 1]) for j, mask in enumerate(inner)]


def _bands(canvas: Canvas, plan: LesionPlan, view: Polar, wobble: Plane) -> list[Plane]:
    """Cut the lesion across its long axis: one end, both ends, or both ends and a stripe between them."""
    place = (_along(plan.outline, view) + wobble) * float(canvas.rng.choice([-1, 1]))
    sharpness = np.float32(plan.outline.radius_px / 0.8)
    cut = 0.18 if len(plan.extras) == 1 else 0.38
    ends = [sigmoid((place - cut) * sharpness), sigmoid((-place - cut) * sharpness)]
    stripe = sigmoid((0.17 - np.abs(place)) * sharpness)
    return [*ends, stripe][: len(plan.extras)]


def _islands(canvas: Canvas, plan: LesionPlan, view: Polar, wobble: Plane) -> list[Plane]:
    """Scatter the colours off both axes; a single colour forms two islands of unlike size."""
    rng, outline, count = canvas.rng, plan.outline, len(plan.extras)
    size = {1: 0.37, 2: 0.35, 3: 0.30}[count] * rng.uniform(0.95, 1.08)
    sharpness = np.float32(outline.radius_px / max(0.5, 0.05 * outline.radius_px))
    turn = float(rng.choice([-1, 1]))
    masks = []
    for j in range(count):
        angle = outline.lobe + 2 * np.pi * j / count + rng.normal(0, 0.15)
        inside = _disc(view, outline, angle, rng.uniform(0.48, 0.58), size)
        if count == 1:
            inside = np.maximum(inside, _disc(view, outline, angle + turn * rng.uniform(1.9, 2.5), 0.58, 0.6 * size))
        masks.append(sigmoid((inside + wobble * np.float32(size * 1.3)) * sharpness))
    return masks
