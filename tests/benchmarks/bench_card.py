"""Print how well the printed card gives scale and diameter over distance and angle: `appliance/imaging/DESIGN.md`.

python tests/benchmarks/bench_card.py
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from card_scenes import Scene, camera, rendered

from appliance.imaging.card import find_card
from appliance.imaging.card_layout import LESION_MM
from appliance.imaging.homography import apply
from appliance.imaging.lesion_measure import measure_lesion

FRAME_PX = (1280, 720)
CROSS_MM = np.array([(-5.0, 0), (5, 0), (0, -5), (0, 5)])


def main() -> None:
    """Render each scene, find the card, measure the lesion of 7 mm by 4.9 mm."""
    print("height mm, tilt, towards, turn: markers, scale error %, long and short diameter mm")
    for height, tilt, towards, turn in product((60, 90, 130, 180, 240), (0, 20, 40), (0, 70), (0, 130)):
        scene = Scene(height_mm=height, tilt_deg=tilt, tilt_towards_deg=towards, turn_deg=turn, seed=height + tilt)
        pixels = rendered(scene, FRAME_PX)
        view = find_card(pixels)
        where = f"{height:4} {tilt:3} {towards:3} {turn:4}:"
        if view is None:
            print(where, "not found")
            continue
        ends = apply(camera(scene, FRAME_PX), np.array(LESION_MM) + CROSS_MM)
        lengths = [view.distance_mm(tuple(ends[n]), tuple(ends[n + 1])) for n in (0, 2)]
        measure = measure_lesion(pixels, view)
        error = 10 * max(abs(length - 10) for length in lengths)
        size = f"{measure.long_diameter_mm:.2f} {measure.short_diameter_mm:.2f}" if measure else "no lesion"
        print(where, view.markers, f"{error:.2f}", size)


if __name__ == "__main__":
    main()
