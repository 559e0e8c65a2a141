"""Plane to plane: the projective map between the card and the picture.

Source: Hartley and Zisserman, "Multiple View Geometry", 2nd ed., 4.1 (normalised direct linear transform).
"""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]
"""float64 [N, 2], x and y."""


def homography(source: Points, target: Points) -> Matrix:
    """Return float64 [3, 3] that takes `source` to `target`, at least four points each, with the least error.

    Raises:
        ValueError: Too few points.
    """
    if len(source) < 4 or len(source) != len(target):
        raise ValueError("a homography needs four pairs of points")
    from_source, from_target = _normaliser(source), _normaliser(target)
    one, other = apply(from_source, source), apply(from_target, target)
    rows = []
    for (x, y), (u, v) in zip(one, other, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y, -u), (0, 0, 0, x, y, 1, -v * x, -v * y, -v)]
    solution = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    matrix = np.linalg.inv(from_target) @ solution @ from_source
    return np.asarray(matrix / matrix[2, 2], np.float64)


def inverse(matrix: Matrix) -> Matrix:
    """Return the map back."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def apply(matrix: Matrix, points: Points) -> Points:
    """Map float64 [N, 2]."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)


def _normaliser(points: Points) -> Matrix:
    middle = points.mean(axis=0)
    scale = np.sqrt(2) / max(1e-9, float(np.linalg.norm(points - middle, axis=1).mean()))
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])
