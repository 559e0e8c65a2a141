"""The surface of a drawn lesion: flat, raised (a lit dome), scaly (dull flakes) or ulcerated (a crusted crater)."""

from typing import Final

import numpy as np
import numpy.typing as npt

from export.demo.canvas import Canvas, Plane, sigmoid
from export.demo.outline import Outline, Polar, polar

_FLAKE_RGB: Final = np.array([214, 194, 152], np.float32)
_CRUST_RGB: Final = np.array([210, 164, 72], np.float32)

Layer = npt.NDArray[np.float32]
"""float32 [H, W, 3], RGB, range [0, 255]."""


def surface_of(canvas: Canvas, surface: str, outline: Outline, view: Polar, crater: Plane, layer: Layer) -> Layer:
    """Return the lesion's colours with the surface on them; `crater` float32 [H, W] is where an ulcer is open."""
    if surface == "raised":
        return _dome(canvas, outline, view, layer)
    if surface == "scaly":
        return _scales(canvas, view, layer)
    if surface == "ulcerated":
        return _ulcer(canvas, crater, layer)
    return layer


def paint_surface_under(canvas: Canvas, surface: str, outline: Outline, alpha: Plane) -> None:
    """Darken the skin beside a raised lesion, on the side away from the light."""
    if surface != "raised":
        return
    reach = 0.17 * outline.radius_px
    shadow = polar(canvas, outline, (-reach * canvas.light[0], -reach * canvas.light[1])).depth
    cast = sigmoid(shadow / np.float32(max(1.0, 0.10 * outline.radius_px)))
    canvas.shade((1 - 0.48 * cast * (1 - alpha)).astype(np.float32))


def _towards_light(canvas: Canvas, outline: Outline, view: Polar) -> Plane:
    light_x, light_y = canvas.light
    return np.asarray((view.dx * light_x + view.dy * light_y) / outline.radius_px, np.float32)


def _dome(canvas: Canvas, outline: Outline, view: Polar, layer: Layer) -> Layer:
    """Weak shading, because a strong one would look like pigment along an axis; a bright, small highlight."""
    radius, (light_x, light_y) = outline.radius_px, canvas.light
    layer = layer * (1 + 0.13 * np.clip(_towards_light(canvas, outline, view), -1, 1))[..., None]
    angle = float(np.arctan2(light_y, light_x))
    reach = 0.42 * outline.at(angle)
    dx, dy = view.dx - np.float32(reach * light_x), view.dy - np.float32(reach * light_y)
    along, across = dx * light_x + dy * light_y, dy * light_x - dx * light_y
    size = max(3.2, 0.13 * radius)
    spot = np.exp(-((along / size) ** 2) - (across / (1.7 * size)) ** 2)
    return np.asarray(layer + (190 * spot)[..., None], np.float32)


def _scales(canvas: Canvas, view: Polar, layer: Layer) -> Layer:
    """Small ochre flakes, duller than the colour white, with dark gaps; kept away from the edge."""
    rough = canvas.field(0.7) + np.float32(0.6) * canvas.field(1.6)
    strength = np.float32(canvas.rng.uniform(0.75, 0.95))
    inner = np.clip((view.depth - 1) / 2, 0, 1)
    cover: Plane = np.asarray(np.clip((rough - 0.65) * 2.2, 0, 1) * inner * strength, np.float32)
    flake = _FLAKE_RGB * np.float32(0.66 if canvas.monk_tone >= 8 else 0.82 if canvas.monk_tone >= 6 else 0.95)
    gaps = 1 - 0.25 * np.clip(-rough - 0.7, 0, 1)
    layer = np.asarray(layer * gaps[..., None], np.float32)
    return np.asarray(layer * (1 - cover[..., None]) + flake * cover[..., None], np.float32)


def _ulcer(canvas: Canvas, crater: Plane, layer: Layer) -> Layer:
    """A darker wet floor with small glints, and a ragged yellow crust around it."""
    rim = np.clip(4 * crater * (1 - crater), 0, 1) ** 0.6 * np.clip(0.85 + 0.4 * canvas.field(4.0), 0.25, 1)
    floor = np.clip((crater - 0.5) * 2, 0, 1)
    glint = np.clip((canvas.field(1.6) - 1.0) * 2, 0, 1) * floor
    crust = _CRUST_RGB * np.float32(0.75 if canvas.monk_tone >= 8 else 1.0)
    layer = layer * (1 - 0.28 * floor[..., None])
    layer = layer * (1 - 0.88 * rim[..., None]) + crust * 0.88 * rim[..., None]
    return np.asarray(layer + (150 * glint)[..., None], np.float32)
