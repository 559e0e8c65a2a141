"""Image files as a stranger might hand them over: damaged, spliced, lying about themselves, and bombs."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

ANOTHER_MAGIC = (b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"%PDF-1.7", b"8BPS\0\1", b"\0\0\1\0")


def seeds(rng: random.Random) -> list[bytes]:
    """Encode small pictures in many of the ways that JPEG and PNG know."""
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (24, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "<script>canary</script>"
    files = []
    for mode, kind, options in (
        ("RGB", "JPEG", {"exif": exif, "comment": b"<script>canary</script>"}),
        ("RGB", "JPEG", {"progressive": True, "quality": 95, "subsampling": 0}),
        ("L", "JPEG", {"restart_marker_blocks": 1}),
        ("CMYK", "JPEG", {"icc_profile": b"canary" * 50}),
        ("RGB", "PNG", {"exif": exif}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("I;16", "PNG", {}),
    ):
        buffer = io.BytesIO()
        picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
        picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture
        picture.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def hostile_files(rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield `count` files."""
    originals = seeds(rng)
    changes = (_flip, _cut, _splice, _lengthen, _number, _disguise, _png_field, _bomb)
    for _ in range(count):
        content = rng.choice(originals)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            content = rng.choice(changes)(rng, content, originals)
        yield content


def _flip(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(content or b"\0")
    for _turn in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _splice(rng: random.Random, content: bytes, originals: list[bytes]) -> bytes:
    other = rng.choice(originals)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]


def _lengthen(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 16, 4096))) + content[at:]


def _number(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    """Write a number that breaks sums somewhere, such as into a length or a size."""
    at = rng.randrange(max(1, len(content) - 4))
    value = rng.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    packed = struct.pack(">I", value)[rng.choice((0, 2)) :]
    return content[:at] + packed + content[at + len(packed) :]


def _disguise(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return rng.choice(ANOTHER_MAGIC) + content[rng.choice((0, 4, 8)) :]


def _png_field(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    """Lie in a PNG's header with a checksum that is right, so that the lie is believed."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 33:
        return _flip(rng, content, [])
    sizes = (0, 1, 31, 33, 7_999, 8_001, 2**31 - 1)
    body = struct.pack(
        ">IIBBBBB",
        rng.choice(sizes),
        rng.choice(sizes),
        rng.choice((1, 2, 4, 8, 16, 7)),
        rng.choice((0, 2, 3, 4, 6, 5)),
        0,
        0,
        rng.choice((0, 1, 2)),
    )
    return content[:12] + _with_checksum(b"IHDR", body) + content[33:]


def _bomb(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    """Put a compressed text, profile or frame of many times its size behind a PNG's header."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 33:
        return _cut(rng, content, [])
    inflated = zlib.compress(bytes(rng.choice((1 << 10, 1 << 16, 2 << 20))))
    kind, prefix = rng.choice(
        ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"fdAT", b"\0\0\0\1"))
    )
    body = prefix + inflated
    return content[:33] + struct.pack(">I", len(body)) + _with_checksum(kind, body) + content[33:]


def _with_checksum(kind: bytes, body: bytes) -> bytes:
    return kind + body + struct.pack(">I", zlib.crc32(kind + body))
