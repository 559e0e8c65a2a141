"""Finds the card's markers in a grey picture: dark regions, their four corners, their bits, their edges to a fraction.

Source: Garrido-Jurado et al., "Automatic generation and detection of highly reliable fiducial markers under occlusion",
Pattern Recognition 47(6), 2014.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.imaging.card_layout import MARKER_BITS, MARKER_CELLS, marker_cells
from appliance.imaging.components import connected_runs
from appliance.imaging.filters import Plane, box_blur, sample
from appliance.imaging.homography import Matrix, Points, apply, homography

_SIDE_MIN_PX: Final = 14.0
"""Two pixels a cell and a little; below, bits cannot be told."""
_SURROUNDINGS_SHARE: Final = 1 / 14
"""Radius over which paper and marker are averaged, as a share of the short side."""
_DARK_SHARE: Final = 0.72
_FILLED_MIN: Final = 0.35
"""A marker's black cells are 20 to 32 of 36; blur takes some."""
_CONTRAST_MIN: Final = 0.3
_UNIT_SQUARE: Final = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
_CELL_SAMPLES: Final = (np.arange(MARKER_CELLS * 3) + 0.5) / (MARKER_CELLS * 3)
_EDGE_POINTS: Final = 24
_EDGE_REACH_CELLS: Final = 0.7
_EDGE_STEPS: Final = 25


def find_markers(grey: Plane) -> dict[int, Points]:
    """Return the corners of each marker that is seen, in pixels, pixel centres at whole numbers.

    Args:
        grey: float32 [H, W], range [0, 255].

    Returns:
        By marker number: float64 [4, 2], x and y of the corners in the order of `card_layout.marker_corners`. A number
        that is seen twice is left out: one of the two is no marker.
    """
    found: dict[int, Points] = {}
    twice = set()
    for quad in _quads(grey):
        read = _read(grey, quad)
        if read is None:
            continue
        number, corners = read
        if number in found:
            twice.add(number)
        found[number] = refine_corners(grey, corners)
    return {number: corners for number, corners in found.items() if number not in twice}


def refine_corners(grey: Plane, corners: Points) -> Points:
    """Put a marker's corners where lines through the middles of its blurred edges meet: to about a tenth of a pixel."""
    lines = [_edge_line(grey, corners[side], corners[(side + 1) % 4]) for side in range(4)]
    refined = []
    for side in range(4):
        # Corner n lies on the sides before and after it.
        meeting = np.cross(lines[side - 1], lines[side])
        refined.append(meeting[:2] / meeting[2] if abs(meeting[2]) > 1e-9 else corners[side])
    result = np.array(refined)
    far = float(np.abs(result - corners).max())
    return result if far < _side_px(corners) / MARKER_CELLS else corners


def _quads(grey: Plane) -> list[Points]:
    short = min(grey.shape)
    surroundings = box_blur(grey, max(4, round(short * _SURROUNDINGS_SHARE)))
    runs = connected_runs(box_blur(grey, 1) < surroundings * _DARK_SHARE)
    areas = runs.areas()
    likely = np.nonzero((areas >= _SIDE_MIN_PX**2 * _FILLED_MIN) & (areas < (short * 0.7) ** 2))[0]
    quads = []
    for region in likely:
        rows, starts, ends = runs.of_region(int(region))
        if rows[0] == 0 or rows[-1] == grey.shape[0] - 1 or starts.min() == 0 or ends.max() == grey.shape[1]:
            continue
        points = np.concatenate([np.column_stack([starts, rows]), np.column_stack([ends - 1, rows])]).astype(np.float64)
        quad = _corners_of(points)
        if quad is not None and areas[region] >= _FILLED_MIN * _area(quad):
            quads.append(quad)
    return quads


def _corners_of(points: Points) -> Points | None:
    """Return the four extreme points of a region, around it clockwise on the screen; None if it is no quadrilateral."""
    first = points[np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1))]
    third = points[np.argmax(np.linalg.norm(points - first, axis=1))]
    along = third - first
    sides = (points - first) @ np.array([-along[1], along[0]])
    second, fourth = points[np.argmin(sides)], points[np.argmax(sides)]
    quad = np.array([first, second, third, fourth])
    edges = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    if edges.min() < _SIDE_MIN_PX * 0.6 or edges.max() < _SIDE_MIN_PX or edges.max() > 4 * edges.min():
        return None
    turns = _turns(quad)
    if not (np.all(turns > 0) or np.all(turns < 0)):
        return None
    return quad if np.all(turns > 0) else quad[::-1].copy()


def _turns(quad: Points) -> NDArray[np.float64]:
    edges = np.roll(quad, -1, axis=0) - quad
    following = np.roll(edges, -1, axis=0)
    return np.asarray(edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0])


def _area(quad: Points) -> float:
    x, y = quad.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def _side_px(corners: Points) -> float:
    return float(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).mean())


def _read(grey: Plane, quad: Points) -> tuple[int, Points] | None:
    """Return a marker's number and its corners, the upper left one first; None if the quadrilateral is none."""
    to_picture = homography(_UNIT_SQUARE, quad)
    x, y = np.meshgrid(_CELL_SAMPLES, _CELL_SAMPLES)
    values = sample(grey, apply(to_picture, np.column_stack([x.ravel(), y.ravel()])))
    cells = values.reshape(MARKER_CELLS, 3, MARKER_CELLS, 3).mean(axis=(1, 3))
    white = _paper_around(grey, to_picture)
    border = np.concatenate([cells[0], cells[-1], cells[1:-1, 0], cells[1:-1, -1]])
    black = float(np.median(border))
    if white - black < _CONTRAST_MIN * white:
        return None
    is_white = cells > (white + black) / 2
    for number in range(len(MARKER_BITS)):
        for turns in range(4):
            # The region's first corner is where this turn has the marker's upper left one.
            if np.array_equal(np.rot90(is_white, turns), marker_cells(number)):
                return number, np.roll(quad, -turns, axis=0)
    return None


def _paper_around(grey: Plane, to_picture: Matrix) -> float:
    along = np.linspace(0, 1, 12)
    out, over = np.full(12, -0.1), np.full(12, 1.1)
    ring = np.concatenate(
        [np.column_stack(pair) for pair in ((along, out), (along, over), (out, along), (over, along))]
    )
    return float(np.median(sample(grey, apply(to_picture, ring))))


def _edge_line(grey: Plane, start: Points, end: Points) -> NDArray[np.float64]:
    """Return the line a x + b y + c = 0 through the middle of a blurred edge, from the paper to the marker's black."""
    along = end - start
    length = float(np.linalg.norm(along))
    # Clockwise on the screen: outwards is to the left of the way.
    outward = np.array([along[1], -along[0]]) / length
    reach_px = _EDGE_REACH_CELLS * length / MARKER_CELLS
    shares = np.linspace(0.08, 0.92, _EDGE_POINTS)
    steps = np.linspace(-reach_px, reach_px, _EDGE_STEPS)
    base = start + shares[:, None] * along
    points = base[:, None, :] + steps[None, :, None] * outward
    profiles = sample(grey, points.reshape(-1, 2)).reshape(_EDGE_POINTS, _EDGE_STEPS)
    low, high = profiles[:, :5].mean(axis=1), profiles[:, -5:].mean(axis=1)
    middle = ((low + high) / 2)[:, None]
    # The middle of the edge: as far out as the black reaches, counted by how much of the profile is dark.
    dark = np.clip((high[:, None] - profiles) / np.maximum(high - low, 1e-3)[:, None], 0, 1)
    is_edge = (high - low > 0.5 * np.median(high - low)) & (profiles[:, 0] < middle[:, 0])
    offsets = -reach_px + dark.mean(axis=1) * 2 * reach_px
    found = base[is_edge] + offsets[is_edge, None] * outward
    return _line(found) if len(found) >= 6 else _line(np.array([start, end]))


def _line(points: Points) -> NDArray[np.float64]:
    """Fit by total least squares, once more without the points that lie off."""
    for _ in range(2):
        middle = points.mean(axis=0)
        normal = np.linalg.svd(points - middle)[2][-1]
        off = np.abs((points - middle) @ normal)
        kept = points[off <= max(0.3, 2.0 * float(np.median(off)))]
        points = kept if len(kept) >= 4 else points
    middle = points.mean(axis=0)
    normal = np.linalg.svd(points - middle)[2][-1]
    return np.array([normal[0], normal[1], -float(normal @ middle)])
