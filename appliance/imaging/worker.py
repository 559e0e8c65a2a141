"""The process in which bytes from elsewhere are decoded: it reads a job, answers, and waits for the next one.

It starts with `python -m appliance.imaging.worker` and one Unix socket as its standard input, warms up, and shuts
itself in before the first job. It ends when the socket does. What it answers is checked by `sandbox`: whoever takes
this process over gains the right to lie about one picture, and nothing else.

A job: u8 operation, u32 length, bytes. An answer: u8 kind, then for pixels u32 height, u32 width, RGB bytes; else u32
length, UTF-8 bytes (a sentence, or JSON). Little-endian. Two pictures in one job: u32 length of the first, both.
"""

import contextlib
import io
import os
import struct
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin

from appliance.confinement import confine
from appliance.errors import ImageError
from appliance.imaging.codes import CodeAnswer, code_text
from appliance.imaging.findings import CardAnswer, ChangeAnswer, balanced_by_card, card_finding, change_finding
from appliance.imaging.pixels import pixels_from_bytes
from appliance.imaging.preview import measure_frame
from appliance.imaging.quality import QualityMeter

MEMORY_BYTES: Final = 640 << 20
"""Of address space; 110 MB are Python, numpy and Pillow, and a picture at the limit of pixels takes 170 to 270 MB."""
CPU_S: Final = 100
JOB: Final = struct.Struct("<BI")
SIZE: Final = struct.Struct("<II")
LENGTH: Final = struct.Struct("<I")
PIXELS, SENTENCE, READY = b"P", b"E", b"R"
TEXT: Final = b"J"
DECODE, MEASURE, MEASURE_ALONE, CARD, BALANCE, CHANGE, CODE = range(7)
"""Pixels of a picture; measures of the next frame of a preview; measures of a frame by itself; what the card says; the
picture as under white light; what changed between two pictures; the text of the QR code on it."""
NO_CARD: Final = "The card is not seen on this photo, so its colours stay as they are."
PLUGINS: Final = (JpegImagePlugin, PngImagePlugin, MpoImagePlugin, TiffImagePlugin)
"""Imported beforehand, as Pillow would only at the first picture that needs them: EXIF is a TIFF, iPhones write MPO."""
_ORIENTATION: Final = 0x0112
_SOCKET: Final = 0
_WRITE_BYTES: Final = 1 << 20


def main() -> None:
    """Serve jobs until the socket ends."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    _warm_up()
    is_filtered = confine(memory_bytes=MEMORY_BYTES, cpu_s=CPU_S)
    _write(READY + bytes([is_filtered]))
    meter = QualityMeter()
    while (head := _read(JOB.size)) is not None:
        operation, length = JOB.unpack(head)
        content = _read(length)
        if content is None:
            return
        _answer(operation, bytes(content), meter)


def _answer(operation: int, content: bytes, meter: QualityMeter) -> None:
    try:
        pixels = _worked(operation, content, meter)
    except ImageError as error:
        sentence = str(error).encode(errors="replace")
        _write(SENTENCE + LENGTH.pack(len(sentence)) + sentence)
        return
    if isinstance(pixels, bytes):
        _write(TEXT + LENGTH.pack(len(pixels)) + pixels)
        return
    _write(PIXELS + SIZE.pack(*pixels.shape[:2]))
    _write(np.ascontiguousarray(pixels).reshape(-1).data)


def _worked(operation: int, content: bytes, meter: QualityMeter) -> bytes | NDArray[np.uint8]:
    """Do a job; return JSON or pixels."""
    if operation in {MEASURE, MEASURE_ALONE}:
        return msgspec.json.encode(measure_frame(content, meter if operation == MEASURE else QualityMeter()))
    if operation == CARD:
        return msgspec.json.encode(CardAnswer(found=card_finding(pixels_from_bytes(content))))
    if operation == CHANGE:
        (length,) = LENGTH.unpack_from(content)
        first, second = content[LENGTH.size : LENGTH.size + length], content[LENGTH.size + length :]
        found = change_finding(pixels_from_bytes(first), pixels_from_bytes(second))
        return msgspec.json.encode(ChangeAnswer(found=found))
    pixels = pixels_from_bytes(content)
    if operation == CODE:
        return msgspec.json.encode(CodeAnswer(text=code_text(pixels)))
    if operation == BALANCE:
        balanced = balanced_by_card(pixels)
        if balanced is None:
            raise ImageError(NO_CARD)
        return balanced
    return pixels


def _warm_up() -> None:
    """Have Pillow load and register what it does at the first picture of each kind: later there are no files."""
    meter = QualityMeter()
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16)).save(buffer, kind, exif=exif)
        pixels_from_bytes(buffer.getvalue())
        with contextlib.suppress(ImageError):
            code_text(pixels_from_bytes(buffer.getvalue()))
        # The second one has one before it: numpy loads its Fourier transforms only then.
        msgspec.json.encode(measure_frame(buffer.getvalue(), meter))
    try:
        pixels_from_bytes(b"")
    except ImageError:
        return


def _read(length: int) -> bytearray | None:
    """Read exactly `length` bytes; None when the socket ends first."""
    content = bytearray()
    while len(content) < length:
        piece = os.read(_SOCKET, min(length - len(content), _WRITE_BYTES))
        if not piece:
            return None
        content += piece
    return content


def _write(content: bytes | memoryview) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(_SOCKET, view[:_WRITE_BYTES]) :]


if __name__ == "__main__":
    main()
