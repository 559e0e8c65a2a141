"""Lays the photo of one visit over that of another: turn, size and place by the skin's pattern, then sheared to fit.

The skin around the lesion is what is fitted, so that a lesion that grew stays larger. No features are matched: bare
skin has few.
Source: Reddy and Chatterji, IEEE TIP 5(8), 1996 (log-polar phase correlation); Baker and Matthews, IJCV 56(3), 2004
(Lucas-Kanade); Evangelidis and Psarakis, IEEE PAMI 30(10), 2008 (gain and offset beside the warp).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from appliance.imaging.filters import Plane, box_blur, luma, phase_shift, sample

Affine = NDArray[np.float64]
"""float64 [2, 3]: x' = A x + t, pixel centres at whole numbers."""

_COARSE_SHORT_SIDE_PX: Final = 192
_LEVELS_PX: Final = (96, 192, 384)
"""Short sides of the planes on which the fit is refined, one after the other."""
_ITERATIONS: Final = 25
_STEP_MIN_PX: Final = 0.003
_CORRELATION_MIN: Final = 0.35
"""Of two planes without their slow changes; two photos of different skin stay below 0.15."""
_POLAR: Final = (180, 128)
_RADIUS_PX: Final = (6.0, 80.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How two photos lie over each other."""

    to_later: Affine
    """Takes a place of the earlier photo to the later one."""
    correlation: float
    """Of the two patterns where they overlap, -1 to 1."""

    @property
    def scale(self) -> float:
        """How much larger the skin is in the later photo: the square root of the change of area."""
        return float(np.sqrt(abs(np.linalg.det(self.to_later[:, :2]))))


def register(earlier: NDArray[np.uint8], later: NDArray[np.uint8]) -> Registration | None:
    """Find how the earlier photo lies over the later one; None when they do not show the same skin.

    Args:
        earlier: uint8 [H, W, 3], RGB.
        later: uint8 [H', W', 3], RGB.
    """
    first, second = luma(earlier), luma(later)
    warp = _coarse(_shrunk(first, _COARSE_SHORT_SIDE_PX), _shrunk(second, _COARSE_SHORT_SIDE_PX))
    at_px = float(_COARSE_SHORT_SIDE_PX)
    for short_side_px in _LEVELS_PX:
        warp = _rescaled(warp, short_side_px / at_px, short_side_px / at_px)
        warp = _refined(_shrunk(first, short_side_px), _shrunk(second, short_side_px), warp)
        at_px = float(short_side_px)
    correlation = _correlation(_shrunk(first, _LEVELS_PX[-1]), _shrunk(second, _LEVELS_PX[-1]), warp)
    if correlation < _CORRELATION_MIN:
        return None
    to_later = _rescaled(warp, min(first.shape) / at_px, min(second.shape) / at_px)
    return Registration(to_later=to_later, correlation=correlation)


def warped(pixels: NDArray[np.uint8], to_target: Affine, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a photo as it lies in another one's frame: float32 [*shape, 3], NaN where it has no pixels."""
    back = inverted(to_target)
    places = _mapped(back, *_grid(shape))
    outside = _is_outside(places, (pixels.shape[0], pixels.shape[1]))
    channels = [sample(pixels[..., channel].astype(np.float32), places) for channel in range(3)]
    result = np.stack(channels, axis=1)
    result[outside] = np.nan
    return np.asarray(result.reshape(*shape, 3), np.float32)


def inverted(affine: Affine) -> Affine:
    """Return the map back."""
    inner = np.linalg.inv(affine[:, :2])
    return np.column_stack([inner, -inner @ affine[:, 2]])


def _coarse(first: Plane, second: Plane) -> Affine:
    """Try the turns and sizes that the spectra allow, each at its best place; return the one that correlates best."""
    angle, scale = _turn_and_scale(first, second)
    candidates = [(0.0, 1.0), (angle, scale), (angle + np.pi, scale), (0.0, scale), (angle, 1.0)]
    best, best_score = np.eye(2, 3), -1.0
    for turn, factor in candidates:
        warp = _placed(first, second, turn, factor)
        score = _correlation(first, second, warp)
        if score > best_score:
            best, best_score = warp, score
    return best


def _placed(first: Plane, second: Plane, turn: float, scale: float) -> Affine:
    inner = scale * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
    middle_first, middle_second = ((np.array(plane.shape[::-1]) - 1) / 2 for plane in (first, second))
    warp = np.column_stack([inner, middle_second - inner @ middle_first])
    places = _mapped(inverted(warp), *_grid((second.shape[0], second.shape[1])))
    turned = sample(_flat(first), places)
    turned[_is_outside(places, (first.shape[0], first.shape[1]))] = 0.0
    right, down, _ = phase_shift(turned.reshape(second.shape), _flat(second))
    warp[:, 2] += (right, down)
    return warp


def _turn_and_scale(first: Plane, second: Plane) -> tuple[float, float]:
    """Compare the planes' spectra in polar coordinates, where a turn and a change of size are displacements."""
    side = min(*first.shape, *second.shape)
    spectra = [_log_polar(_middle(plane, side)) for plane in (first, second)]
    # Rows are angles, columns logarithms of radii.
    along_radii, along_angles, _ = phase_shift(spectra[0], spectra[1])
    angle = along_angles * np.pi / _POLAR[0]
    step = np.log(_RADIUS_PX[1] / _RADIUS_PX[0]) / (_POLAR[1] - 1)
    scale = float(np.exp(-along_radii * step))
    return angle, scale if 0.5 < scale < 2 else 1.0


def _log_polar(plane: Plane) -> Plane:
    side = plane.shape[0]
    window = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    spectrum = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(_flat(plane) * window)))).astype(np.float32)
    angles = np.arange(_POLAR[0]) * np.pi / _POLAR[0]
    radii = np.geomspace(*_RADIUS_PX, _POLAR[1]) * side / _COARSE_SHORT_SIDE_PX
    x = side // 2 + np.outer(np.cos(angles), radii)
    y = side // 2 + np.outer(np.sin(angles), radii)
    polar = sample(spectrum, np.column_stack([x.ravel(), y.ravel()])).reshape(_POLAR)
    return np.asarray(polar - polar.mean(axis=0), np.float32)


def _refined(first: Plane, second: Plane, warp: Affine) -> Affine:
    """Fit all six numbers of the warp, and gain and offset of the light, by least squares that distrusts outliers."""
    template = box_blur(first, 1)
    moving = box_blur(second, 1)
    x, y = _grid((first.shape[0], first.shape[1]))
    slope_x, slope_y = (np.gradient(moving, axis=axis).astype(np.float32) for axis in (1, 0))
    for _ in range(_ITERATIONS):
        places = _mapped(warp, x, y)
        inside = ~_is_outside(places, (second.shape[0], second.shape[1]))
        if inside.mean() < 0.2:
            return warp
        chosen = places[inside]
        seen, along, across = sample(moving, chosen), sample(slope_x, chosen), sample(slope_y, chosen)
        px, py, wanted = x[inside], y[inside], template.reshape(-1)[inside]
        terms: list[NDArray[Any]] = [
            along * px,
            along * py,
            along,
            across * px,
            across * py,
            across,
            -wanted,
            -np.ones_like(wanted),
        ]
        matrix = np.stack(terms, axis=1).astype(np.float64)
        # seen + slope * step = gain * wanted + offset
        step = _robust_solution(matrix, -seen.astype(np.float64))
        gain = step[6]
        if not 0.2 < gain < 5:
            return warp
        change = step[:6].reshape(2, 3)
        warp = warp + change
        if np.abs(change @ np.array([first.shape[1], first.shape[0], 1.0])).max() < _STEP_MIN_PX:
            break
    return warp


def _robust_solution(matrix: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve by normal equations, then again with little weight for what does not fit, such as a lesion that grew."""
    weights = np.ones(len(wanted))
    for _ in range(2):
        weighted = matrix * weights[:, None]
        normal = weighted.T @ matrix
        solution = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(normal)), weighted.T @ wanted)
        residual = np.abs(matrix @ solution - wanted)
        weights = 1 / np.maximum(1.0, residual / max(1e-6, 2 * float(np.median(residual))))
    return np.asarray(solution)


def _correlation(first: Plane, second: Plane, warp: Affine) -> float:
    x, y = _grid((first.shape[0], first.shape[1]))
    places = _mapped(warp, x, y)
    inside = ~_is_outside(places, (second.shape[0], second.shape[1]))
    if inside.mean() < 0.2:
        return -1.0
    one, other = _flat(first).reshape(-1)[inside], sample(_flat(second), places[inside])
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(1e-9, float(np.linalg.norm(one) * np.linalg.norm(other))))


def _flat(plane: Plane) -> Plane:
    """Return a plane without its slow changes, which are light more than skin."""
    return box_blur(plane, 1) - box_blur(plane, max(3, min(plane.shape) // 10))


def _shrunk(plane: Plane, short_side_px: int) -> Plane:
    scale = short_side_px / min(plane.shape)
    size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX), np.float32)


def _rescaled(warp: Affine, first: float, second: float) -> Affine:
    """Return the warp between planes whose sides are `first` and `second` times as long; pixel centres are kept."""
    inner = warp[:, :2] * second / first
    middle = (warp[:, 2] + 0.5 - warp[:, :2] @ np.array([0.5, 0.5])) * second - 0.5 + inner @ np.array([0.5, 0.5])
    return np.column_stack([inner, middle])


def _middle(plane: Plane, side: int) -> Plane:
    top, left = (plane.shape[0] - side) // 2, (plane.shape[1] - side) // 2
    return plane[top : top + side, left : left + side]


def _grid(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return x.reshape(-1), y.reshape(-1)


def _mapped(warp: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([row[0] * x + row[1] * y + row[2] for row in warp])


def _is_outside(places: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    return (places < 0).any(axis=1) | (places[:, 0] > shape[1] - 1) | (places[:, 1] > shape[0] - 1)
