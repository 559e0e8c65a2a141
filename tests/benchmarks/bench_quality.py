"""Print the tables of `appliance/imaging/DESIGN.md`, Quality: false alarms by skin tone, misses by step, time a frame.

python tests/benchmarks/bench_quality.py [--crops 20]
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from degraded_photos import STEPS, crops, exposed, in_tone, jpeg

from appliance.config import QualityConfig
from appliance.imaging.advice import Advice, advice_for
from appliance.imaging.pixels import reduced_pixels_from_bytes
from appliance.imaging.quality import WORKING_SHORT_SIDE_PX, ImageMeasures, QualityMeter

CAMERA_EXPOSURE = (0.6, 0.6, 0.6, 0.65, 0.8, 1.0, 1.2, 1.6, 2.2, 2.8)
"""Linear factors by which a camera set for the skin brings the extreme tones nearer to the middle."""


def measured(first: Image.Image, second: Image.Image | None = None) -> ImageMeasures:
    meter = QualityMeter()
    for picture in (first, second or first):
        measures = meter.measure(reduced_pixels_from_bytes(jpeg(picture), WORKING_SHORT_SIDE_PX))
    return measures


def false_alarms(count: int, config: QualityConfig) -> None:
    print("| skin tone | called bad | as | exposed half a stop less |\n|---|---|---|---|")
    pictures = list(crops(np.random.default_rng(1), count))
    rng = np.random.default_rng(2)
    said = Counter(advice_for(measured(picture), config) for picture in pictures)
    print(f"| the photo's own | {share(said, count)} | {named(said)} | |")
    for tone in range(1, 11):
        toned = [in_tone(picture, tone, CAMERA_EXPOSURE[tone - 1]) for picture in pictures]
        said = Counter(advice_for(measured(picture), config) for picture in toned)
        darker = Counter(advice_for(measured(exposed(-0.5)(picture, rng)), config) for picture in toned)
        print(f"| Monk {tone} | {share(said, count)} | {named(said)} | {share(darker, count)} |")


def misses(count: int, config: QualityConfig) -> None:
    print("\n| step | missed | said instead |\n|---|---|---|")
    for name, (expected, degrade) in STEPS.items():
        rng = np.random.default_rng(3)
        said: Counter[str] = Counter()
        for picture in crops(rng, count):
            spoiled = degrade(picture, rng)
            said[advice_for(measured(picture if expected == "quality.moving" else spoiled, spoiled), config)] += 1
        missed = count - said[expected]
        others = ", ".join(f"{key.removeprefix('quality.')} {n}" for key, n in said.items() if key != expected)
        print(f"| {name} | {100 * missed / count:.0f} % | {others} |")


def timing() -> None:
    frame = jpeg(next(crops(np.random.default_rng(1), 1)).resize((1920, 1080)))
    meter, rounds = QualityMeter(), 50
    began_s = time.process_time()
    for _ in range(rounds):
        pixels = reduced_pixels_from_bytes(frame, WORKING_SHORT_SIDE_PX)
    decoded_s = time.process_time()
    for _ in range(rounds):
        meter.measure(pixels)
    measured_s = time.process_time()
    print(
        f"\nA 1920 x 1080 JPEG frame, {len(frame) >> 10} KiB: {(decoded_s - began_s) / rounds * 1e3:.1f} ms to decode, "
        f"{(measured_s - decoded_s) / rounds * 1e3:.1f} ms to measure, of one core."
    )


def share(said: Counter[Advice], count: int) -> str:
    return f"{100 * (count - said['quality.good']) / count:.0f} %"


def named(said: Counter[Advice]) -> str:
    return ", ".join(f"{key.removeprefix('quality.')} {n}" for key, n in said.items() if key != "quality.good")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=20, help="pictures a row")
    arguments = parser.parse_args()
    false_alarms(arguments.crops, QualityConfig())
    misses(arguments.crops, QualityConfig())
    timing()
