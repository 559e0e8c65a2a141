"""The procedural drawings: reproducible, legible and true to their attributes."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance.assessment import ASYMMETRIES, BORDERS, COLOURS, DIAMETERS_MM, NUMBERS, QUALITIES, SKIN_TONES, SURFACES
from export.demo.canvas import SIDE_PX, blank_canvas
from export.demo.drawings import draw, draw_scene, draw_varied, jpeg_bytes
from export.demo.outline import make_outline
from export.demo.pictures import HELD_OUT_STREAM, TRAINING_STREAM, draw_set, load_set
from export.demo.ruler import Ruler, paint_ruler
from export.demo.scene import Attributes, Scene, plan_scene
from export.demo.shipped import SHIPPED_STREAM

_BOUNDS_MM = {"<3": (0, 3), "3-6": (3, 6), "6-10": (6, 10), ">10": (10, 20)}


def _attributes(count: int = 300) -> list[Attributes]:
    return [plan_scene(np.random.default_rng((7, index))).attributes for index in range(count)]


def _scene(asymmetry: str, seed: int = 0, base: str = "dark brown", extras: tuple[str, ...] = ()) -> Scene:
    attributes = Attributes(
        quality="ok",
        monk_tone=3,
        number="single",
        asymmetry=asymmetry,
        border="regular",
        colours=tuple(colour for colour in COLOURS if colour in (base, *extras)),
        diameter_mm="6-10",
        surface="flat",
        width_mm=8.0,
        px_per_mm=9.0,
    )
    return Scene(attributes=attributes, base=base, extras=extras)


def test_same_seed_and_index_give_the_same_pixels() -> None:
    first, second = draw(5, 11), draw(5, 11)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.maps, second.maps)
    assert first.attributes == second.attributes


def test_another_index_gives_another_drawing() -> None:
    assert not np.array_equal(draw(5, 11).pixels, draw(5, 12).pixels)


def test_streams_are_distinct() -> None:
    assert len({TRAINING_STREAM, HELD_OUT_STREAM, SHIPPED_STREAM}) == 3


def test_pixels_and_maps_have_their_shapes() -> None:
    drawing = draw(5, 1)
    assert drawing.pixels.shape == (SIDE_PX, SIDE_PX, 3)
    assert drawing.maps.shape == (9, 10, 10)
    assert {str(drawing.pixels.dtype), str(drawing.maps.dtype)} == {"uint8"}


@pytest.mark.parametrize("index", range(4))
def test_large_drawing_reduced_shows_the_same_picture(index: int) -> None:
    small, large = draw(6, index), draw(6, index, 3)
    reduced = Image.fromarray(large.pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    difference = np.abs(np.asarray(reduced, np.float32) - small.pixels)
    assert large.attributes == small.attributes
    # Grain differs by up to 4 in standard deviation; everything that means something agrees.
    assert difference.mean() < 6


def test_every_attribute_is_a_word_of_the_assessment() -> None:
    for truth in _attributes():
        assert truth.quality in QUALITIES
        assert truth.skin_tone in SKIN_TONES
        assert truth.number in NUMBERS
        assert set(truth.colours) <= set(COLOURS)
        if truth.has_lesion:
            assert truth.asymmetry in ASYMMETRIES
            assert truth.border in BORDERS
            assert truth.diameter_mm in DIAMETERS_MM
            assert truth.surface in SURFACES
            assert truth.colours
        else:
            assert (truth.asymmetry, truth.border, truth.diameter_mm, truth.surface) == (None, None, None, None)


def test_diameter_word_contains_the_width_with_room_to_spare() -> None:
    for truth in _attributes():
        if truth.diameter_mm:
            low, high = _BOUNDS_MM[truth.diameter_mm]
            assert low + 0.3 < truth.width_mm < high - 0.3


def test_camera_scale_alone_does_not_tell_the_diameter() -> None:
    scales: dict[str, list[float]] = {}
    for truth in _attributes(2000):
        if truth.diameter_mm:
            scales.setdefault(truth.diameter_mm, []).append(truth.px_per_mm * truth.width_mm)
    for smaller, larger in itertools.pairwise(DIAMETERS_MM):
        assert max(scales[smaller]) > min(scales[larger])


def test_every_lesion_is_at_least_forty_pixels_wide() -> None:
    assert min(truth.px_per_mm * truth.width_mm for truth in _attributes() if truth.has_lesion) > 40


def test_every_value_occurs() -> None:
    truths = _attributes(1000)
    for name, words in (("quality", QUALITIES), ("number", NUMBERS), ("asymmetry", ASYMMETRIES), ("surface", SURFACES)):
        assert {getattr(truth, name) for truth in truths} >= set(words)
    assert {truth.monk_tone for truth in truths} == set(range(1, 11))


def test_ulcer_is_always_red() -> None:
    assert all("red" in truth.colours for truth in _attributes() if truth.surface == "ulcerated")


@pytest.mark.parametrize("asymmetry", ASYMMETRIES)
@pytest.mark.parametrize("seed", range(5))
def test_outline_is_as_symmetric_as_its_class(asymmetry: str, seed: int) -> None:
    outline = make_outline(np.random.default_rng(seed), asymmetry, is_ragged=False, radius_px=40.0)
    axis = int(outline.axis / (2 * np.pi) * 256)
    table = np.roll(outline.table, -axis)
    mirrored = np.roll(table[::-1], 1)
    turned = np.roll(mirrored, 128)
    about_axis = float(np.abs(table - mirrored).mean()) / 40
    across = float(np.abs(table - turned).mean()) / 40
    assert (about_axis < 0.05) == (asymmetry != "two axes")
    assert (across < 0.05) == (asymmetry == "symmetric")


@pytest.mark.parametrize("asymmetry", ASYMMETRIES)
@pytest.mark.parametrize("is_ragged", [False, True])
def test_outline_has_the_width_that_was_asked_for(asymmetry: str, is_ragged: bool) -> None:
    outline = make_outline(np.random.default_rng(3), asymmetry, is_ragged=is_ragged, radius_px=30.0)
    assert (outline.table + np.roll(outline.table, 128)).max() == pytest.approx(60.0, rel=1e-5)


@pytest.mark.parametrize("asymmetry", ASYMMETRIES)
def test_named_colours_cover_enough_to_be_seen(asymmetry: str) -> None:
    scene = _scene(asymmetry, extras=("red", "blue-grey"))
    drawing = draw_scene(scene, np.random.default_rng(1), 1)
    assert drawing is not None
    cover = drawing.maps[2:8].astype(float).sum((1, 2)) / drawing.maps[1].sum()
    for colour, share in zip(COLOURS, cover, strict=True):
        assert (share > 0.05) == (colour in scene.attributes.colours)


def test_too_dark_picture_is_dark_and_glare_is_bright() -> None:
    brightness: dict[str, list[float]] = {}
    for index in range(200):
        drawing = draw(8, index)
        brightness.setdefault(drawing.attributes.quality, []).append(float(drawing.pixels.mean()))
    assert np.mean(brightness["too dark"]) < 40 < np.mean(brightness["ok"]) < np.mean(brightness["glare"])


def test_ruler_has_a_tick_a_millimetre() -> None:
    canvas = blank_canvas(np.random.default_rng(0), 5, 4)
    paint_ruler(canvas, Ruler(side=0, width_px=14.0, phase_mm=0.4, px_per_mm=10.0))
    row = canvas.image[13 * 4, :, 0] < 128
    ticks = int(np.count_nonzero(row[1:] & ~row[:-1]))
    assert ticks == SIDE_PX / 10


def test_varied_drawing_is_always_160_pixels_wide() -> None:
    assert {draw_varied(9, index).pixels.shape for index in range(30)} == {(SIDE_PX, SIDE_PX, 3)}


def test_jpeg_bytes_are_a_jpeg_of_the_same_size() -> None:
    picture = Image.open(io.BytesIO(jpeg_bytes(draw(5, 1).pixels, 90)))
    assert (picture.format, picture.size) == ("JPEG", (SIDE_PX, SIDE_PX))


def test_set_on_disk_is_what_the_stream_draws(tmp_path: Path) -> None:
    draw_set(tmp_path, stream=3, count=5, processes=1)
    loaded = load_set(tmp_path)
    assert len(loaded) == 5
    expected = draw_varied(3, 4)
    assert np.array_equal(loaded.pixels[4], expected.pixels)
    assert np.array_equal(loaded.maps[4], expected.maps)
    assert loaded.attributes[4] == expected.attributes
