"""Small numeric filters on grey planes, shared by quality, card and registration.

Planes are float32 [H, W]; edges are continued.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_LUMA: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Source: ITU-R BT.709, weights of R, G, B; applied to sRGB values as they are."""


def luma(pixels: NDArray[np.uint8]) -> Plane:
    """Return the brightness of uint8 [H, W, 3] RGB: float32 [H, W], range [0, 255]."""
    return np.asarray(pixels.astype(np.float32) @ _LUMA, np.float32)


def box_mean(plane: NDArray[Any], radius_px: int, axis: int) -> Plane:
    """Average over 2 * `radius_px` + 1 neighbours along one axis."""
    if axis == 0:
        return box_mean(plane.T, radius_px, 1).T
    width = 2 * radius_px + 1
    padded = np.pad(plane, ((0, 0), (radius_px + 1, radius_px)), mode="edge")
    # float64: sums over a row of float32 would lose the last digits that differences are made of.
    sums = padded.cumsum(axis=1, dtype=np.float64)
    return np.asarray((sums[:, width:] - sums[:, :-width]) / width, np.float32)


def box_blur(plane: NDArray[Any], radius_px: int) -> Plane:
    """Average over a square of 2 * `radius_px` + 1 pixels a side."""
    return box_mean(box_mean(plane, radius_px, 0), radius_px, 1)


def linear_from_srgb(values: NDArray[Any]) -> NDArray[np.float64]:
    """Turn sRGB values of range [0, 255] into linear light of range [0, 1]. Source: IEC 61966-2-1."""
    share = np.asarray(values, np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(values: NDArray[Any]) -> NDArray[np.float64]:
    """Turn linear light into sRGB values of range [0, 255]; what is out of range is cut off. Source: IEC 61966-2-1."""
    light = np.clip(np.asarray(values, np.float64), 0, 1)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def sample(plane: Plane, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a plane's values at points (float64 [N, 2], x and y): float32 [N], bilinear; edges are continued."""
    height, width = plane.shape
    x, y = np.clip(points[:, 0], 0, width - 1.001), np.clip(points[:, 1], 0, height - 1.001)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right_share, down_share = (x - left).astype(np.float32), (y - top).astype(np.float32)
    above = plane[top, left] * (1 - right_share) + plane[top, left + 1] * right_share
    below = plane[top + 1, left] * (1 - right_share) + plane[top + 1, left + 1] * right_share
    return np.asarray(above * (1 - down_share) + below * down_share, np.float32)


def phase_shift(first: Plane, second: Plane) -> tuple[float, float, float]:
    """Find by how much `second` is displaced against `first`, two planes of one shape, by phase correlation.

    Returns:
        Right and down in pixels, to about a tenth, and the peak's height: 1 for a pure displacement, below about 0.03
        for two planes that have nothing in common.
    """
    height, width = first.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    spectra = [np.fft.rfft2((plane - plane.mean()) * window) for plane in (first, second)]
    product = spectra[1] * np.conj(spectra[0])
    magnitude = np.abs(product)
    # Frequencies without content have a phase of noise only; what they lack in weight the peak may lack in height.
    whitened = product / (magnitude + 1e-3 * magnitude.max() + 1e-9)
    surface = np.fft.irfft2(whitened, s=first.shape) / max(1e-9, float(np.abs(whitened).mean()))
    top, left = np.unravel_index(int(surface.argmax()), surface.shape)
    peak = float(surface[top, left])
    down = int(top) + _parabola(surface[:, left], int(top))
    right = int(left) + _parabola(surface[top], int(left))
    return (
        float(right - width if right > width / 2 else right),
        float(down - height if down > height / 2 else down),
        peak,
    )


def _parabola(row: NDArray[np.float64], at: int) -> float:
    """Return where between its neighbours a peak lies, -0.5 to 0.5."""
    before, here, after = row[at - 1], row[at], row[(at + 1) % row.size]
    curvature = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0
