"""Padding to a square and back, and pixel values against references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.medgemma import preprocess
from appliance.medgemma.bundle import Preprocessing
from appliance.medgemma.preprocess import PadToSquare, pixel_values_from_image

GEMMA = Preprocessing(image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5), rescale_factor=1 / 255)
sides = st.integers(1, 60)


@given(sides, sides)
@settings(deadline=None)  # a busy machine is no failure
def test_padding_is_even_and_black(width_px: int, height_px: int) -> None:
    image = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
    side_px = max(width_px, height_px)
    values, transform = pixel_values_from_image(image, side_px, GEMMA)
    inside = np.zeros((side_px, side_px), dtype=bool)
    inside[transform.top_px : transform.top_px + height_px, transform.left_px : transform.left_px + width_px] = True
    assert values.shape == (1, 3, side_px, side_px)
    assert values.dtype == np.float32
    assert (values[0, :, inside] == 1).all()
    assert (values[0, :, ~inside] == -1).all()
    left, right = transform.left_px, side_px - width_px - transform.left_px
    assert 0 <= right - left <= 1


@given(sides, sides, st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(deadline=None)  # a busy machine is no failure
def test_bands_change_no_pixel(width_px: int, height_px: int, to_px: int, band_rows: int, noise: int) -> None:
    image = np.random.default_rng(noise).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    side_px = max(width_px, height_px)
    square = Image.new("RGB", (side_px, side_px))
    square.paste(Image.fromarray(image), ((side_px - width_px) // 2, (side_px - height_px) // 2))
    at_once = np.asarray(square.resize((to_px, to_px), Image.Resampling.BILINEAR), dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "_BAND_ROWS", band_rows)
        values, _ = pixel_values_from_image(image, to_px, GEMMA)
    np.testing.assert_allclose((values[0].transpose(1, 2, 0) + 1) * 127.5, at_once, atol=1e-3)


def test_a_circle_stays_a_circle() -> None:
    rows, columns = np.mgrid[:300, :500]
    disc = ((rows - 150) ** 2 + (columns - 200) ** 2 < 80**2).astype(np.uint8) * 255
    values, _ = pixel_values_from_image(np.repeat(disc[:, :, None], 3, axis=2), 100, GEMMA)
    is_disc = values[0, 0] > 0
    height = int(is_disc.any(axis=1).sum())
    width = int(is_disc.any(axis=0).sum())
    assert height == width == 32


@pytest.mark.parametrize(("from_px", "to_px"), [(96, 32), (32, 64), (100, 37)])
def test_square_photo_equals_the_antialiased_reference(from_px: int, to_px: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(seed).integers(0, 256, (from_px, from_px, 3), dtype=np.uint8)
    values, _ = pixel_values_from_image(image, to_px, GEMMA)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(),
        size=(to_px, to_px),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    # Pillow rounds to 8 bits after each of its two passes: up to one step of 255.
    assert np.abs(values - (reference.numpy() / 127.5 - 1)).max() <= 1.01 / 127.5


@given(sides, sides, st.tuples(*[st.floats(0, 1)] * 4))
@settings(deadline=None)  # a busy machine is no failure
def test_boxes_come_back(width_px: int, height_px: int, fractions: tuple[float, float, float, float]) -> None:
    transform = PadToSquare(width_px=width_px, height_px=height_px)
    y0, x0, y1, x1 = fractions
    box = (y0 * height_px, x0 * width_px, y1 * height_px, x1 * width_px)
    assert transform.box_from_model(transform.box_to_model(box)) == pytest.approx(box, abs=1e-9)


def test_box_of_the_whole_square_is_cut_to_the_photo() -> None:
    transform = PadToSquare(width_px=400, height_px=300)
    assert transform.box_from_model((0, 0, 1000, 1000)) == (0, 0, 300, 400)
    assert transform.box_from_model((125, 500, 875, 750)) == (0, 200, 300, 300)


def test_no_pixels_is_no_image() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        PadToSquare(width_px=0, height_px=4)


def test_other_means_are_read_from_the_bundle() -> None:
    other = Preprocessing(image_mean=(0.0, 0.5, 1.0), image_std=(1.0, 0.5, 2.0), rescale_factor=1 / 255)
    values, _ = pixel_values_from_image(np.full((4, 4, 3), 255, dtype=np.uint8), 4, other)
    assert values[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]
