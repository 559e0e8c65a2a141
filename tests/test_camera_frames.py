"""What becomes a frame and what does not: torn, padded, repeated, foreign pictures; raw pixels; a format's choice."""

import io
import random

import numpy as np
import pytest
from kiosk_station import picture
from PIL import Image

from appliance.camera.frame_check import Buffer, FrameCheck, PictureFormat
from appliance.camera.jpeg import whole_jpeg_size
from appliance.camera.negotiation import OfferedSizes, choose
from appliance.camera.raw_formats import png_from_raw

MJPEG = PictureFormat(pixel_format="MJPG", width_px=96, height_px=72, stride_bytes=0, frames_per_s=30)
YUYV = PictureFormat(pixel_format="YUYV", width_px=4, height_px=2, stride_bytes=8, frames_per_s=5)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise((96, 72), 60).convert(mode)
    noise.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def buffer(content: bytes, number: int = 0, *, is_damaged: bool = False) -> Buffer:
    return Buffer(content=content, sequence=number, taken_s=number / 30, is_damaged=is_damaged)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}, {"optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_of_a_whole_jpeg_is_read(mode: str, options: dict[str, object]) -> None:
    content = jpeg(mode, **options)
    if "progressive" in options:
        # Cameras never send it; several scans are refused rather than half understood.
        assert whole_jpeg_size(content) in {None, (96, 72)}
    else:
        assert whole_jpeg_size(content) == (96, 72)


def test_zeros_behind_the_end_are_a_cameras_padding() -> None:
    assert whole_jpeg_size(jpeg() + bytes(1000)) == (96, 72)


def test_motion_jpeg_without_huffman_tables_is_whole() -> None:
    content = jpeg()
    while (start := content.find(b"\xff\xc4")) >= 0:
        length = int.from_bytes(content[start + 2 : start + 4])
        content = content[:start] + content[start + 2 + length :]
    assert whole_jpeg_size(content) == (96, 72)


def test_end_marker_in_a_thumbnail_is_not_the_end() -> None:
    thumbnail = jpeg()
    content = jpeg()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    whole = content[:2] + segment + content[2:]
    assert whole_jpeg_size(whole) == (96, 72)
    assert whole_jpeg_size(whole[: len(segment) + 40]) is None


def test_no_cut_and_no_splice_of_a_jpeg_is_whole(seed: int) -> None:
    chance = random.Random(seed)
    content, other = jpeg(), jpeg()
    scan = content.index(b"\xff\xda")
    for _ in range(2000):
        cut = chance.randrange(len(content) - 1)
        assert whole_jpeg_size(content[:cut]) is None, f"cut at {cut}"
        assert whole_jpeg_size(content + other[: chance.randrange(1, len(other))]) is None
        # Before the scan the tables of one picture may run into the whole of the next, which is then what is seen.
        assert whole_jpeg_size(content[:cut] + other) is None or cut < scan, f"splice at {cut}"


def test_hole_between_restart_markers_is_seen() -> None:
    content = jpeg(restart_marker_blocks=2)
    second = content.index(b"\xff\xd1")
    assert whole_jpeg_size(content) == (96, 72)
    assert whole_jpeg_size(content[:second] + content[content.index(b"\xff\xd3") :]) is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", bytes(100), b"\xff" * 100]
)
def test_what_is_no_jpeg_is_refused(content: bytes) -> None:
    assert whole_jpeg_size(content) is None


def test_new_whole_frames_pass_and_lost_ones_are_counted() -> None:
    check = FrameCheck(MJPEG)
    assert [check.refuse(buffer(jpeg(), number)) for number in (0, 1, 4)] == [None, None, None]
    assert check.lost == 2


def test_damaged_torn_and_foreign_buffers_are_refused() -> None:
    check = FrameCheck(MJPEG)
    assert check.refuse(buffer(jpeg(), 0, is_damaged=True)) == "damaged"
    assert check.refuse(buffer(jpeg()[:-500], 1)) == "torn"
    assert check.refuse(buffer(b"", 2)) == "torn"
    assert check.refuse(buffer(picture("tan", (48, 36)), 3)) == "wrong_size"
    assert check.refuse(buffer(jpeg(), 4)) is None


def test_frozen_camera_repeats_itself_whatever_its_counters_say() -> None:
    check = FrameCheck(MJPEG)
    content = jpeg()
    assert check.refuse(buffer(content, 7)) is None
    assert check.refuse(buffer(jpeg(), 7)) == "repeated"
    assert check.refuse(buffer(jpeg(), 6)) == "repeated"
    assert check.refuse(buffer(content, 8)) == "repeated"
    assert check.refuse(buffer(jpeg(), 9)) is None


def test_short_raw_buffer_is_torn() -> None:
    check = FrameCheck(YUYV)
    assert check.refuse(buffer(bytes(15))) == "torn"
    assert check.refuse(buffer(bytes(16))) is None


def test_rgb_and_bgr_are_stored_without_loss_over_a_wider_stride(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    lines = np.zeros((5, 32), np.uint8)
    for name, order in (("RGB3", 1), ("BGR3", -1)):
        lines[:, :21] = pixels[:, :, ::order].reshape(5, 21)
        png = png_from_raw(lines.tobytes(), name, (7, 5), 32)  # type: ignore[arg-type] # from a tuple of str
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


def test_yuyv_colours_are_those_of_bt_601(seed: int) -> None:
    luma, blue, red = (np.random.default_rng(seed + n).integers(16, 236, (6, 8)) for n in range(3))
    blue[:, 1::2], red[:, 1::2] = blue[:, ::2], red[:, ::2]
    lines = np.zeros((6, 16), np.uint8)
    lines[:, 0::2], lines[:, 1::4], lines[:, 3::4] = luma, blue[:, ::2], red[:, ::2]
    png = png_from_raw(lines.tobytes(), "YUYV", (8, 6), 16)
    scaled = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    expected = np.stack(
        [
            scaled[0] + 1.402 * scaled[2],
            scaled[0] - 0.344136 * scaled[1] - 0.714136 * scaled[2],
            scaled[0] + 1.772 * scaled[1],
        ],
        axis=2,
    )
    difference = np.asarray(Image.open(io.BytesIO(png))) - np.clip(expected, 0, 1) * 255
    assert np.abs(difference).max() <= 0.51  # the rounding to whole numbers


def offer(name: str, *sizes: tuple[int, int]) -> list[OfferedSizes]:
    return [OfferedSizes(pixel_format=name, least=size, most=size) for size in sizes]


def test_mjpeg_is_preferred_and_the_largest_size_that_fits_is_taken() -> None:
    offers = offer("YUYV", (1920, 1080)) + offer("MJPG", (640, 480), (2592, 1944), (1280, 720))
    assert choose(offers, (1920, 1080)) == ("MJPG", (1280, 720))
    assert choose(offers, (100, 100)) == ("MJPG", (640, 480))
    assert choose(offer("H264", (640, 480)) + offer("RGB3", (320, 240)), (640, 480)) == ("RGB3", (320, 240))
    assert choose(offer("H264", (640, 480)), (640, 480)) is None


def test_size_of_a_range_keeps_to_its_step() -> None:
    ranged = [OfferedSizes(pixel_format="YUYV", least=(64, 64), most=(1024, 768), step=(16, 8))]
    assert choose(ranged, (650, 481)) == ("YUYV", (640, 480))
    assert choose(ranged, (4000, 3000)) == ("YUYV", (1024, 768))
    assert choose(ranged, (10, 10)) == ("YUYV", (64, 64))
