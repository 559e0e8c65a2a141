"""Live quality: known degradations of a real photo are named, good ones of every skin tone are left alone."""

from itertools import pairwise

import numpy as np
import pytest
from degraded_photos import STEPS, blurred, crops, exposed, in_tone, jpeg, shifted, smeared
from numpy.typing import NDArray
from PIL import Image

from appliance.config import QualityConfig
from appliance.errors import ImageError
from appliance.imaging.advice import ADVICE, SENTENCES, Advice, advice_for
from appliance.imaging.pixels import reduced_pixels_from_bytes
from appliance.imaging.quality import WORKING_SHORT_SIDE_PX, ImageMeasures, QualityMeter

CONFIG = QualityConfig()
CAMERA_EXPOSURE = (0.6, 0.6, 0.6, 0.65, 0.8, 1.0, 1.2, 1.6, 2.2, 2.8)
GOOD = ImageMeasures(
    focus=0.35, brightness=150, clipped=0.0, glare=0.0, red_over_green=0.5, blue_over_green=-0.5, shift=0.0
)


def working(picture: Image.Image) -> NDArray[np.uint8]:
    return reduced_pixels_from_bytes(jpeg(picture), WORKING_SHORT_SIDE_PX)


def said_of(first: Image.Image, second: Image.Image | None = None) -> Advice:
    meter = QualityMeter()
    meter.measure(working(first))
    return advice_for(meter.measure(working(second or first)), CONFIG)


@pytest.fixture(scope="module")
def good() -> list[Image.Image]:
    # 540 high is what is measured; starting from twice that costs time and shows no more.
    return [crop.resize((960, 540), Image.Resampling.BOX) for crop in crops(np.random.default_rng(1), 5)]


def test_good_pictures_are_left_alone(good: list[Image.Image]) -> None:
    assert [said_of(picture) for picture in good] == ["quality.good"] * len(good)


@pytest.mark.parametrize("tone", range(1, 11))
def test_every_skin_tone_is_good_when_the_camera_is_set_for_it(good: list[Image.Image], tone: int) -> None:
    said = [said_of(in_tone(picture, tone, CAMERA_EXPOSURE[tone - 1])) for picture in good[:2]]
    assert said == ["quality.good"] * 2


def test_dark_skin_is_not_called_dark_at_its_own_brightness(good: list[Image.Image]) -> None:
    # The darkest swatch as it is, by a camera that helps in nothing.
    assert said_of(in_tone(good[0], 10)) == "quality.good"


@pytest.mark.parametrize(
    "step",
    [
        "blur, sigma 2 px",
        "blur, sigma 3 px",
        "blur, sigma 5 px",
        "motion, 16 px",
        "motion, 32 px",
        "exposure, -6 stops",
        "exposure, +3 stops",
        "glare, radius 6 %",
        "glare, radius 12 %",
        "light, green tube",
        "light, blue",
    ],
)
def test_strong_degradations_are_named(good: list[Image.Image], step: str) -> None:
    expected, degrade = STEPS[step]
    rng = np.random.default_rng(2)
    said = [said_of(degrade(picture, rng)) for picture in good]
    assert said.count(expected) >= len(good) - 1, said  # type: ignore[arg-type] # the steps' keys are plain strings


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_moving_camera_is_named_and_its_displacement_measured(good: list[Image.Image], share: float) -> None:
    meter = QualityMeter()
    assert meter.measure(working(good[0])).shift is None
    measures = meter.measure(working(shifted(share)(good[0], np.random.default_rng(3))))
    assert measures.shift == pytest.approx(share, rel=0.15)
    assert advice_for(measures, CONFIG) == "quality.moving"


def test_blur_that_stands_still_is_not_called_motion(good: list[Image.Image]) -> None:
    rng = np.random.default_rng(4)
    assert said_of(blurred(12)(good[0], rng)) == "quality.blurred"


def test_focus_falls_with_every_step_of_blur(good: list[Image.Image]) -> None:
    rng = np.random.default_rng(5)
    for degrade in (blurred, smeared):
        focus = [QualityMeter().measure(working(degrade(px)(good[0], rng))).focus for px in (0.5, 3, 6, 12)]
        assert all(later < before for before, later in pairwise(focus[:3]))
        assert max(focus[2:]) < CONFIG.focus_min


def test_focus_does_not_depend_on_light_or_noise(good: list[Image.Image]) -> None:
    rng = np.random.default_rng(6)
    plain = QualityMeter().measure(working(good[0])).focus
    darker = QualityMeter().measure(working(exposed(-2)(good[0], rng))).focus
    noisy = np.asarray(blurred(6)(good[0], rng), np.float32) + rng.normal(0, 3, (540, 960, 3))
    noise = QualityMeter().measure(working(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))).focus
    assert darker == pytest.approx(plain, abs=0.06)
    # Noise on a blurred picture looks like detail to a plain Laplacian.
    assert noise < CONFIG.focus_min


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "quality.good"),
        ({"brightness": 10, "focus": 0.0, "shift": 1.0}, "quality.too_dark"),
        ({"clipped": 0.5, "glare": 0.2}, "quality.too_bright"),
        ({"clipped": 0.05, "glare": 0.05, "focus": 0.0}, "quality.glare"),
        ({"shift": 0.1, "focus": 0.0}, "quality.moving"),
        ({"focus": 0.1, "frame_height_mm": 400.0}, "quality.blurred"),
        ({"frame_height_mm": 400.0}, "quality.too_far"),
        ({"frame_height_mm": 10.0}, "quality.too_near"),
        ({"frame_height_mm": 60.0, "off_centre": 0.4}, "quality.off_centre"),
        ({"frame_height_mm": 60.0, "off_centre": 0.1}, "quality.good"),
        ({"shift": None}, "quality.good"),
    ],
)
def test_the_most_useful_thing_is_said_first(changed: dict[str, float | None], expected: str) -> None:
    measures = ImageMeasures(**{**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__}, **changed})
    assert advice_for(measures, CONFIG) == expected


def test_every_advice_is_one_clear_sentence() -> None:
    assert set(SENTENCES) == set(ADVICE)
    for sentence in SENTENCES.values():
        assert sentence.endswith(".")
        assert len(sentence) < 45


def test_frame_is_reduced_to_the_measured_size_whatever_it_was() -> None:
    for size in ((1920, 1080), (640, 480), (1080, 1920), (541, 3000)):
        pixels = reduced_pixels_from_bytes(jpeg(Image.new("RGB", size)), WORKING_SHORT_SIDE_PX)
        assert min(pixels.shape[:2]) == WORKING_SHORT_SIDE_PX
        assert pixels.shape[0] / pixels.shape[1] == pytest.approx(size[1] / size[0], rel=0.01)
    with pytest.raises(ImageError):
        reduced_pixels_from_bytes(b"\xff\xd8\xff", WORKING_SHORT_SIDE_PX)
