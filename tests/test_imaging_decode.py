"""Hostile and odd image files: one sentence each, never a traceback."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.errors import ImageError
from appliance.imaging import decode
from appliance.imaging.decode import image_from_bytes


def gradient(width_px: int = 40, height_px: int = 30) -> Image.Image:
    rows, columns = np.mgrid[:height_px, :width_px]
    return Image.fromarray(np.stack([rows * 4, columns * 4, rows + columns], axis=2).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width_px: int, height_px: int) -> bytes:
    """Claim a size without having the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def assert_refused(content: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        image_from_bytes(content)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 300


def test_png_pixels_come_out_as_they_went_in() -> None:
    image = gradient()
    pixels = image_from_bytes(encoded(image))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_pixel_formats_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert image_from_bytes(encoded(gradient().convert(mode), kind)).shape == (30, 40, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = gradient(64, 48)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = image_from_bytes(encoded(image, "JPEG", exif=exif, quality=95, subsampling=0))
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }
    expected = turned[orientation](np.asarray(image).astype(int))
    assert pixels.shape == expected.shape
    # JPEG at quality 95: a few grey levels; a wrong turn of this gradient differs by dozens.
    assert np.abs(pixels - expected).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused(kind: str) -> None:
    assert_refused(encoded(gradient(), kind), "neither a JPEG nor a PNG")


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 50]
)
def test_scraps_are_refused(content: bytes) -> None:
    assert_refused(content, "The image is")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind: str, part: float) -> None:
    content = encoded(gradient(400, 300), kind)
    assert_refused(content[: int(len(content) * part)], "damaged")


def test_flipped_byte_in_a_png_is_noticed() -> None:
    content = bytearray(encoded(gradient(400, 300)))
    content[len(content) // 2] ^= 0xFF
    assert_refused(bytes(content), "damaged")


@pytest.mark.parametrize(
    ("width_px", "height_px"), [(8_001, 10), (10, 8_001), (5_000, 5_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_bombs_are_refused_before_they_are_decoded(width_px: int, height_px: int) -> None:
    assert_refused(png_of_size(width_px, height_px), "pixels|damaged")


def test_largest_allowed_size_passes_the_limit() -> None:
    # Only the claim is large: the header is accepted, the missing pixels are not.
    assert_refused(png_of_size(8_000, 3_000), "damaged")


def test_file_over_the_byte_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    assert_refused(encoded(gradient()), "at most 100 are read")


def test_deep_grey_is_refused_instead_of_turning_white() -> None:
    deep = Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))
    assert_refused(encoded(deep), "more than 8 bits")


def test_compressed_text_bomb_is_refused() -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "A" * (80 << 20), zip=True)
    assert_refused(encoded(gradient(), pnginfo=text), "damaged")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_damage_ends_in_pixels_or_in_a_sentence(data: st.DataObject) -> None:
    content = bytearray(encoded(gradient(), data.draw(st.sampled_from(["JPEG", "PNG"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    # Whatever else it raised would fail the test.
    with contextlib.suppress(ImageError):
        assert image_from_bytes(bytes(content)).ndim == 3
