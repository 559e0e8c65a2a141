"""Decides which buffers of a camera are frames: whole, of the negotiated size, new, and different from the one before.

It has no clock and touches no device.
Source: V4L2 API, "struct v4l2_buffer" (sequence, timestamp, V4L2_BUF_FLAG_ERROR).
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.camera.jpeg import whole_jpeg_size
from appliance.camera.raw_formats import BYTES_PER_PIXEL, RawFormat

PixelFormat = Literal["MJPG"] | RawFormat
Refusal = Literal["damaged", "torn", "wrong_size", "repeated"]
"""damaged: the driver says so. torn: not one whole picture. wrong_size: not what was negotiated. repeated: not new."""
MAX_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFormat:
    """What camera and station agreed on."""

    pixel_format: PixelFormat
    width_px: int
    height_px: int
    stride_bytes: int
    """Bytes from one line to the next; without meaning for MJPG."""
    frames_per_s: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width_px, self.height_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """What the driver handed over, copied out of its memory."""

    content: bytes = field(repr=False)
    sequence: int
    """The driver's count; it may leap over frames that were lost."""
    taken_s: float
    """When, on CLOCK_MONOTONIC."""
    is_damaged: bool
    """The driver says that data were lost."""


class FrameCheck:
    """Looks at the buffers of one stream, in order."""

    def __init__(self, picture_format: PictureFormat) -> None:
        self.format = picture_format
        self.lost = 0
        """Frames that the driver counted and never handed over, so far."""
        self._last: Buffer | None = None

    def refuse(self, buffer: Buffer) -> Refusal | None:
        """Return why a buffer is no frame; None when it is one."""
        reason = self._refusal(buffer)
        if reason is not None:
            return reason
        if self._last is not None:
            self.lost += buffer.sequence - self._last.sequence - 1
        self._last = buffer
        return None

    def _refusal(self, buffer: Buffer) -> Refusal | None:
        if buffer.is_damaged:
            return "damaged"
        if (reason := self._picture_refusal(buffer.content)) is not None:
            return reason
        last = self._last
        if last is None:
            return None
        if buffer.sequence <= last.sequence or buffer.taken_s <= last.taken_s:
            return "repeated"
        # A sensor's noise makes every picture different; one that is not comes from a camera that hangs.
        return "repeated" if buffer.content == last.content else None

    def _picture_refusal(self, content: bytes) -> Refusal | None:
        if len(content) > MAX_BYTES:
            return "wrong_size"
        if self.format.pixel_format == "MJPG":
            size = whole_jpeg_size(content)
            if size is None:
                return "torn"
            return None if size == self.format.size else "wrong_size"
        if len(content) < self.format.stride_bytes * self.format.height_px:
            return "torn"
        least = self.format.width_px * BYTES_PER_PIXEL[self.format.pixel_format]
        return "wrong_size" if self.format.stride_bytes < least else None
