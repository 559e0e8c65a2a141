"""A USB camera that is not there: the kernel's own uvcvideo driver drives it through USB/IP.

Every frame differs, as a sensor's do: a JPEG carries a comment with its number and the name of the subject, a raw frame
carries the number in its first pixels. What was sent is remembered, so that a test can tell a whole frame from a torn
one.
Faults are switched on and off while it runs. Source: USB Video Class 1.1, 2.4.2.2 (status), 2.4.3 (payloads), 4.2, 4.3.
"""

import hashlib
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from rig import uvc_descriptors as descriptors
from rig.usbip import Cable, Identity, Setup

Fault = Literal["freeze", "truncate", "stall", "foreign_size", "flagged"]
"""freeze: the same bytes again and again. truncate: half a frame. stall: nothing. foreign_size: a JPEG of another size
than was negotiated. flagged: the payload's error bit."""

_SET_CUR = 0x01
_GET_CUR, _GET_MIN, _GET_MAX, _GET_RES, _GET_LEN, _GET_INFO, _GET_DEF = range(0x81, 0x88)
_END_OF_HEADER, _ERROR, _END_OF_FRAME = 0x80, 0x40, 0x02
_POLL_S: Final = 0.1
_FRAMES_REMEMBERED: Final = 4096


@dataclass(slots=True, kw_only=True)
class _Control:
    """One control of the camera or of its processing unit, little-endian."""

    size: int
    value: int
    low: int
    high: int
    step: int = 1
    default: int = 0
    info: int = 3  # may be read and set

    def answer(self, request: int) -> bytes | None:
        numbers = {
            _GET_CUR: self.value,
            _GET_MIN: self.low,
            _GET_MAX: self.high,
            _GET_RES: self.step,
            _GET_DEF: self.default,
        }
        if request == _GET_INFO:
            return bytes((self.info,))
        if request == _GET_LEN:
            return struct.pack("<H", self.size)
        return numbers[request].to_bytes(self.size, "little") if request in numbers else None


def _controls() -> dict[tuple[int, int], _Control]:
    """Return (unit, selector) to control; 4.2.2.1 and 4.2.2.3."""
    camera, unit = descriptors.CAMERA_TERMINAL, descriptors.PROCESSING_UNIT
    return {
        (camera, 0x02): _Control(size=1, value=8, low=1, high=8, step=9, default=8),  # AE mode: aperture priority
        (camera, 0x04): _Control(size=4, value=333, low=1, high=10_000, default=333),  # exposure time, 100 us
        (camera, 0x06): _Control(size=2, value=120, low=0, high=1023, default=100),  # focus
        (camera, 0x08): _Control(size=1, value=1, low=0, high=1, default=1),  # focus auto
        (unit, 0x0A): _Control(size=2, value=4600, low=2800, high=6500, default=4600),  # white balance temperature
        (unit, 0x0B): _Control(size=1, value=1, low=0, high=1, default=1),  # its automatic
    }


@dataclass(slots=True)
class _Negotiated:
    """What VS_COMMIT_CONTROL settled."""

    format_index: int = descriptors.MJPEG
    frame_index: int = 1
    interval: int = 1_000_000

    def packed(self, sizes: descriptors.Sizes) -> bytes:
        width, height = sizes.of(self.format_index)[self.frame_index - 1]
        head = struct.pack("<HBBIHHHHH", 1, self.format_index, self.frame_index, self.interval, 0, 0, 0, 0, 0)
        tail = struct.pack("<III", width * height * 2, descriptors.PAYLOAD_BYTES, descriptors.CLOCK_HZ)
        return head + tail + bytes((0, 1, 1, 1))


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame that left whole and unspoilt."""

    sha256: str
    subject: str


class CameraSimulator:
    """The device end; give it to `UsbIpServer`.

    Args:
        pictures: One JPEG for each (width, height) that is to be offered as MJPEG; none for a camera without it.
        product: Product name; "dermat" in it makes it a dermatoscope for the udev rules.
        serial: Serial number, part of the name below /dev/v4l/by-id.
    """

    identity = Identity(
        vendor=descriptors.VENDOR,
        product=descriptors.PRODUCT,
        release=descriptors.RELEASE,
        device_class=descriptors.DEVICE_CLASS,
        interfaces=2,
    )

    def __init__(self, pictures: Mapping[tuple[int, int], bytes], product: str, serial: str) -> None:
        self.pictures = dict(pictures)
        self.sizes = descriptors.Sizes(mjpeg=tuple(sorted(pictures, reverse=True)))
        self.subject = "nobody"
        """Who is before the lens; part of every JPEG's comment."""
        self.faults: set[Fault] = set()
        self.sent: deque[SentFrame] = deque(maxlen=_FRAMES_REMEMBERED)
        self.controls = _controls()
        self._strings = (None, "dermstation rig", product, serial)
        self._configuration = descriptors.configuration(self.sizes)
        self._negotiated = _Negotiated(descriptors.MJPEG if pictures else descriptors.YUY2)
        self._restart = threading.Event()
        self._count = 0
        self._last = b""
        self._presses: deque[bytes] = deque()
        self._cable: Cable | None = None
        self._threads: list[threading.Thread] = []
        self._unplug_in_frame = False

    def plugged(self, cable: Cable) -> None:
        self._cable = cable
        self._restart.set()
        for body in (self._stream, self._tell_status):
            thread = threading.Thread(target=_until_cut, args=(body, cable), name=f"uvc-{body.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def unplugged(self) -> None:
        self._cable = None
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    @property
    def is_plugged(self) -> bool:
        """Whether a guest has it."""
        return self._cable is not None and not self._cable.is_cut

    def press(self) -> None:
        """Press and let go of the snapshot button."""
        interface = descriptors.STREAM_INTERFACE
        self._presses += [bytes((2, interface, 0, 1)), bytes((2, interface, 0, 0))]

    def unplug_in_frame(self) -> None:
        """Pull the plug when half of the next frame is sent."""
        self._unplug_in_frame = True

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        kind = setup.request_type & 0x60
        if kind == 0:
            return self._standard(setup)
        unit, selector = setup.index >> 8, setup.value >> 8
        if setup.index & 0xFF == descriptors.STREAM_INTERFACE and unit == 0 and selector in (1, 2):
            return self._negotiate(setup, data)
        control = self.controls.get((unit, selector))
        if control is None:
            return None
        if setup.request == _SET_CUR:
            control.value = int.from_bytes(data, "little")
            return b""
        return control.answer(setup.request)

    def _standard(self, setup: Setup) -> bytes | None:
        if setup.request == 6:  # GET_DESCRIPTOR
            kind, index = setup.value >> 8, setup.value & 0xFF
            if kind == 3:
                return descriptors.string_descriptor(self._strings[index]) if index < len(self._strings) else None
            return {1: descriptors.device_descriptor(), 2: self._configuration}.get(kind)
        if setup.request == 1 and setup.request_type == 2:  # CLEAR_FEATURE on an endpoint ends a bulk stream
            self._restart.set()
        return b"\0\0" if setup.request == 0 else b""

    def _negotiate(self, setup: Setup, data: bytes) -> bytes | None:
        if setup.request == _SET_CUR:
            _, format_index, frame_index, interval = struct.unpack_from("<HBBI", data)
            if format_index != descriptors.MJPEG or not self.sizes.mjpeg:
                format_index = descriptors.YUY2
            frames = len(self.sizes.of(format_index))
            self._negotiated = _Negotiated(format_index, min(max(frame_index, 1), frames), interval or 1_000_000)
            self._restart.set()
            return b""
        if setup.request == _GET_INFO:
            return b"\x03"
        packed = self._negotiated.packed(self.sizes)
        return struct.pack("<H", len(packed)) if setup.request == _GET_LEN else packed

    def _tell_status(self, cable: Cable) -> None:
        while not cable.is_cut:
            if not self._presses:
                time.sleep(0.005)
                continue
            transfer = cable.next_transfer(descriptors.STATUS_ENDPOINT, _POLL_S)
            if transfer is not None:
                cable.complete(transfer[0], self._presses.popleft())

    def _stream(self, cable: Cable) -> None:
        toggle, due_s = 0, time.monotonic()
        while not cable.is_cut:
            if "stall" in self.faults or time.monotonic() < due_s:
                time.sleep(0.002)
                continue
            self._restart.clear()
            subject, frame = self.subject, self._next_frame()
            spoilt = {"truncate", "foreign_size", "flagged"} & self.faults
            if self._send(cable, frame[: len(frame) // 2] if "truncate" in self.faults else frame, toggle):
                toggle ^= 1
                due_s = max(due_s + self._negotiated.interval / 1e7, time.monotonic() - 0.1)
                if not spoilt:
                    self.sent.append(SentFrame(hashlib.sha256(frame).hexdigest(), subject))

    def _send(self, cable: Cable, frame: bytes, toggle: int) -> bool:
        """Send one frame in payloads; False when the stream was restarted or unplugged meanwhile."""
        position = 0
        while position < len(frame):
            transfer = cable.next_transfer(descriptors.STREAM_ENDPOINT, _POLL_S)
            if self._restart.is_set() or cable.is_cut:
                # A transfer taken for the old stream is spent on an empty payload.
                if transfer is not None and not cable.is_cut:
                    cable.complete(transfer[0])
                return False
            if transfer is None:
                continue
            sequence, room = transfer
            piece = frame[position : position + min(room, descriptors.PAYLOAD_BYTES) - 2]
            position += len(piece)
            if self._unplug_in_frame and position > len(frame) // 2:
                self._unplug_in_frame = False
                cable.cut()
                return False
            flags = _END_OF_HEADER | toggle | (_END_OF_FRAME if position >= len(frame) else 0)
            flags |= _ERROR if "flagged" in self.faults else 0
            cable.complete(sequence, bytes((2, flags)) + piece)
        return True

    def _next_frame(self) -> bytes:
        if "freeze" in self.faults and self._last:
            return self._last
        self._count += 1
        negotiated = self._negotiated
        size = self.sizes.of(negotiated.format_index)[negotiated.frame_index - 1]
        if negotiated.format_index == descriptors.YUY2:
            self._last = numbered_yuyv(size, self._count)
        else:
            offered = [other for other in self.pictures if other != size] if "foreign_size" in self.faults else [size]
            self._last = numbered_jpeg(self.pictures[offered[0]], self._count, self.subject)
        return self._last


def numbered_jpeg(picture: bytes, number: int, subject: str) -> bytes:
    """Put a comment (ITU-T T.81, B.2.4.5) behind a JPEG's first marker; the picture itself stays as it is."""
    comment = f"frame {number} of {subject}".encode()
    return picture[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + picture[2:]


def subject_of(content: bytes) -> str:
    """Return the subject that a numbered JPEG names."""
    length = struct.unpack(">H", content[4:6])[0]
    return content[6 : 4 + length].decode().partition(" of ")[2]


def numbered_yuyv(size: tuple[int, int], number: int) -> bytes:
    """Make a grey YUY2 frame whose first pixels hold its number."""
    return number.to_bytes(4, "little") + b"\x80\x80" * (size[0] * size[1] - 2)


def _until_cut(body: Callable[[Cable], None], cable: Cable) -> None:
    try:
        body(cable)
    except OSError:
        cable.cut()
