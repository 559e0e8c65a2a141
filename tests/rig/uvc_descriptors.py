"""The descriptors of a USB camera: MJPEG and YUY2 over one bulk endpoint, a snapshot button, a few controls.

Source: USB Device Class Definition for Video Devices 1.1, 3.7 to 3.9; Uncompressed and Motion-JPEG payload formats.
"""

import struct
from dataclasses import dataclass

VENDOR, PRODUCT = 0x0C45, 0x6366
RELEASE = 0x0100
DEVICE_CLASS = (0xEF, 2, 1)  # miscellaneous, interface association
STREAM_ENDPOINT, STATUS_ENDPOINT = 1, 3
CONTROL_INTERFACE, STREAM_INTERFACE = 0, 1
CAMERA_TERMINAL, PROCESSING_UNIT = 1, 2
MJPEG, YUY2 = 1, 2
"""Format indexes, as in VS_PROBE_CONTROL."""
PAYLOAD_BYTES = 16_384
CLOCK_HZ = 48_000_000
_YUY2_GUID = b"YUY2" + bytes.fromhex("0000 1000 8000 00AA 0038 9B71".replace(" ", ""))
_INTERVALS = (333_333, 666_666, 1_000_000, 2_000_000)
"""30, 15, 10 and 5 frames/s in units of 100 ns."""
_STRINGS_LANGUAGE = 0x0409
_CLASS_INTERFACE, _CLASS_ENDPOINT = 0x24, 0x25
_CAMERA_CONTROLS = (1 << 1) | (1 << 3) | (1 << 5) | (1 << 17)  # AE mode, exposure time, focus, focus auto
_UNIT_CONTROLS = (1 << 6) | (1 << 12)  # white balance temperature, and its automatic


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Frame sizes in pixels, width by height, for each format; index 1 is the first."""

    mjpeg: tuple[tuple[int, int], ...] = ((1920, 1080), (1280, 720), (640, 480))
    yuy2: tuple[tuple[int, int], ...] = ((640, 480), (320, 240))

    def of(self, format_index: int) -> tuple[tuple[int, int], ...]:
        return self.mjpeg if format_index == MJPEG else self.yuy2


def device_descriptor() -> bytes:
    """Return the device descriptor (USB 2.0, 9.6.1)."""
    ids = struct.pack("<HHH", VENDOR, PRODUCT, RELEASE)
    return struct.pack("<BBHBBBB", 18, 1, 0x0200, *DEVICE_CLASS, 64) + ids + bytes((1, 2, 3, 1))


def string_descriptor(text: str | None) -> bytes:
    """Return a string descriptor; the list of languages for None."""
    payload = struct.pack("<H", _STRINGS_LANGUAGE) if text is None else text.encode("utf-16-le")
    return bytes((len(payload) + 2, 3)) + payload


def configuration(sizes: Sizes) -> bytes:
    """Return the configuration with all that stands below it."""
    association = bytes((8, 0x0B, CONTROL_INTERFACE, 2, 0x0E, 3, 0, 2))
    body = association + _control_interface() + _stream_interface(sizes)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body


def _control_interface() -> bytes:
    camera = struct.pack("<BBBBHBBHHHB", 18, _CLASS_INTERFACE, 2, CAMERA_TERMINAL, 0x0201, 0, 0, 0, 0, 0, 3)
    camera += _CAMERA_CONTROLS.to_bytes(3, "little")
    unit = struct.pack("<BBBBBHB", 13, _CLASS_INTERFACE, 5, PROCESSING_UNIT, CAMERA_TERMINAL, 0, 3)
    unit += _UNIT_CONTROLS.to_bytes(3, "little") + bytes((0, 0))
    output = struct.pack("<BBBBHBBB", 9, _CLASS_INTERFACE, 3, 3, 0x0101, 0, PROCESSING_UNIT, 0)
    units = camera + unit + output
    header = struct.pack("<BBBHHIBB", 13, _CLASS_INTERFACE, 1, 0x0110, 13 + len(units), CLOCK_HZ, 1, STREAM_INTERFACE)
    interface = bytes((9, 4, CONTROL_INTERFACE, 0, 1, 0x0E, 1, 0, 0))
    status = struct.pack("<BBBBHB", 7, 5, 0x80 | STATUS_ENDPOINT, 3, 16, 8)
    return interface + header + units + status + struct.pack("<BBBH", 5, _CLASS_ENDPOINT, 3, 16)


def _stream_interface(sizes: Sizes) -> bytes:
    mjpeg = bytes((11, _CLASS_INTERFACE, 6, MJPEG, len(sizes.mjpeg), 1, 1, 0, 0, 0, 0))
    mjpeg += b"".join(_frame(7, index, size, 8) for index, size in enumerate(sizes.mjpeg, 1)) + _colour()
    yuy2 = (
        struct.pack("<BBBBB", 27, _CLASS_INTERFACE, 4, YUY2, len(sizes.yuy2)) + _YUY2_GUID + bytes((16, 1, 0, 0, 0, 0))
    )
    yuy2 += b"".join(_frame(5, index, size, 16) for index, size in enumerate(sizes.yuy2, 1)) + _colour()
    formats = mjpeg + yuy2 if sizes.mjpeg else yuy2
    count = 2 if sizes.mjpeg else 1
    # Still capture method 1 with a hardware trigger: the snapshot button.
    length = 13 + count
    header = struct.pack("<BBBBHB", length, _CLASS_INTERFACE, 1, count, length + len(formats), 0x80 | STREAM_ENDPOINT)
    header += bytes((0, 3, 1, 1, 1, 1)) + bytes(count)
    interface = bytes((9, 4, STREAM_INTERFACE, 0, 1, 0x0E, 2, 0, 0))
    return interface + header + formats + struct.pack("<BBBBHB", 7, 5, 0x80 | STREAM_ENDPOINT, 2, 512, 0)


def _frame(subtype: int, index: int, size: tuple[int, int], bits: int) -> bytes:
    pixels = size[0] * size[1]
    slowest, fastest = 10_000_000 // _INTERVALS[-1], 10_000_000 // _INTERVALS[0]
    rates = struct.pack("<II", pixels * bits * slowest, pixels * bits * fastest)
    head = struct.pack("<BBBBBHH", 26 + 4 * len(_INTERVALS), _CLASS_INTERFACE, subtype, index, 0, *size)
    tail = struct.pack("<IIB", pixels * 2, _INTERVALS[0], len(_INTERVALS))
    return head + rates + tail + struct.pack(f"<{len(_INTERVALS)}I", *_INTERVALS)


def _colour() -> bytes:
    return bytes((6, _CLASS_INTERFACE, 0x0D, 1, 1, 4))
