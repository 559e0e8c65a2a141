"""One opened video device: formats, buffers, frames. The only module that knows linuxpy's video API.

It owns the descriptor and the mapped buffers, has no thread and no policy. linuxpy is imported when a device is opened:
it is GPL-3 and comes with the extra `camera`.
Source: V4L2 API, "Streaming I/O (Memory Mapping)".
"""

import contextlib
import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from appliance.camera.frame_check import Buffer, PictureFormat
from appliance.camera.negotiation import OfferedSizes, choose
from appliance.errors import CameraError

BUFFERS: Final = 4
"""Two in the driver's hands while one is copied, and one to spare for a thread that is late."""
LET_GO_S: Final = 0.25
"""From the moment when a camera is gone to letting go of it: Linux 6.1 frees what it still works with if the last
descriptor is closed while it takes an unplugged camera apart, and then no camera is ever seen again. DESIGN.md."""
_REFUSALS: Final = {
    errno.EACCES: "The station may not use the camera; a technician has to allow it.",
    errno.EPERM: "The station may not use the camera; a technician has to allow it.",
    errno.EBUSY: "Another program is using the camera; close it.",
    errno.ENOSPC: "The cameras are too many for one USB socket; plug one into another socket.",
}
"""What a camera that is there refuses, and what the screen says then."""


def load_linuxpy() -> Any:
    """Import linuxpy's video module.

    Raises:
        CameraError: It is not installed.
    """
    try:
        from linuxpy.video import device
    except ImportError as error:
        raise CameraError("Cameras need the package linuxpy; install the station with its extra 'camera'.") from error
    return device


class VideoDevice:
    """A capture device from `__enter__` to `__exit__`; every method may raise OSError once it is unplugged.

    Args:
        path: A lasting name of the device.
        wanted: Width and height in pixels at most.
        frames_per_s: Frame rate that is asked for; the camera decides.
        pause: Waits for so many seconds, before a camera that is unplugged while it is opened is let go of.
    """

    def __init__(
        self,
        path: Path,
        wanted: tuple[int, int],
        frames_per_s: float,
        *,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._path = path
        self._wanted = wanted
        self._frames_per_s = frames_per_s
        self._pause = pause
        self._api = load_linuxpy()
        self._maps: list[mmap.mmap] = []
        self._fd = -1
        self.format: PictureFormat | None = None
        """Set by `__enter__`."""

    def __enter__(self) -> Self:
        """Open, agree on a format, and start the stream.

        Raises:
            CameraError: The camera offers no format that we know.
            OSError: It cannot be opened or started.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def fileno(self) -> int:
        """Return the descriptor: readable when a buffer is full."""
        return self._fd

    def close(self) -> None:
        """Stop and let go of memory and descriptor, also when the device is gone; may be called again."""
        if self._fd < 0:
            return
        kind = self._api.BufferType.VIDEO_CAPTURE
        with contextlib.suppress(OSError):
            self._api.stream_off(self._fd, kind)
        while self._maps:
            self._maps.pop().close()
        with contextlib.suppress(OSError):
            self._api.free_buffers(self._fd, kind, self._api.Memory.MMAP)
        os.close(self._fd)
        self._fd = -1

    def read(self) -> Buffer | None:
        """Take the oldest full buffer, if there is one, and give its memory back to the driver."""
        api = self._api
        try:
            taken = api.dequeue_buffer(self._fd, api.BufferType.VIDEO_CAPTURE, api.Memory.MMAP)
        except BlockingIOError:
            return None
        used = min(taken.bytesused, len(self._maps[taken.index]))
        buffer = Buffer(
            content=self._maps[taken.index][:used],
            sequence=taken.sequence,
            taken_s=_taken_s(api, taken),
            is_damaged=bool(taken.flags & api.BufferFlag.ERROR),
        )
        api.enqueue_buffer(self._fd, api.BufferType.VIDEO_CAPTURE, api.Memory.MMAP, 0, taken.index)
        return buffer

    def offers(self) -> Iterator[OfferedSizes]:
        """Return what the camera can send."""
        api = self._api
        for description in list(api.iter_read_formats(self._fd, api.BufferType.VIDEO_CAPTURE)):
            name = api.human_pixel_format(description.pixel_format)
            sizes = list(api.iter_read_frame_sizes(self._fd, description.pixel_format))
            for size in sizes:
                yield _offer(name, size, is_discrete=size.type == api.FrameSizeType.DISCRETE)
            if not sizes:  # a driver without a list takes any size and says what it made of it
                yield OfferedSizes(pixel_format=name, least=(1, 1), most=self._wanted)

    def _begin(self) -> None:
        try:
            self.format = self._negotiate()
            self._start()
        except OSError as error:
            if may_be_gone(error):
                self._pause(LET_GO_S)
            raise

    def _negotiate(self) -> PictureFormat:
        api = self._api
        kind = api.BufferType.VIDEO_CAPTURE
        chosen = choose(self.offers(), self._wanted)
        if chosen is None:
            raise CameraError("This camera sends no kind of picture that the station knows: MJPEG, YUYV or RGB.")
        pixel_format, (width, height) = chosen
        api.set_format(self._fd, kind, width, height, pixel_format)
        # The driver may settle for something else, and its word is what the buffers hold.
        settled = api.get_format(self._fd, kind)
        if api.human_pixel_format(settled.pixel_format) != pixel_format:
            raise CameraError("This camera does not keep to the kind of picture that it offers.")
        with contextlib.suppress(OSError):  # a rate need not be settable
            api.set_fps(self._fd, kind, self._frames_per_s)
        return PictureFormat(
            pixel_format=pixel_format,
            width_px=settled.width,
            height_px=settled.height,
            stride_bytes=settled.bytes_per_line,
            frames_per_s=self._settled_rate(),
        )

    def _settled_rate(self) -> float:
        try:
            return float(self._api.get_fps(self._fd, self._api.BufferType.VIDEO_CAPTURE))
        except (OSError, ZeroDivisionError):
            return self._frames_per_s

    def _start(self) -> None:
        api = self._api
        kind, memory = api.BufferType.VIDEO_CAPTURE, api.Memory.MMAP
        count = api.request_buffers(self._fd, kind, memory, BUFFERS).count
        for index in range(count):
            described = api.query_buffer(self._fd, kind, memory, index)
            self._maps.append(mmap.mmap(self._fd, described.length, offset=described.m.offset))
            api.enqueue_buffer(self._fd, kind, memory, 0, index)
        api.stream_on(self._fd, kind)


def may_be_gone(error: OSError) -> bool:
    """Tell whether a device that fails so may have been unplugged, which only a refusal of the device's own rules out.

    Until the hub has noticed, an unplugged device's transfers fail with EPROTO, EILSEQ or ETIME, and uvcvideo makes EIO
    of some. Source: Linux, "USB Error codes".
    """
    return error.errno not in _REFUSALS


def sentence_of(error: OSError) -> str:
    """Return what the screen says when a device cannot be opened or read."""
    return _REFUSALS.get(error.errno or 0, "The camera was unplugged or has failed. Plug it in again.")


def _taken_s(api: Any, taken: Any) -> float:
    """Return when the frame was taken, on CLOCK_MONOTONIC; the present for a driver that does not say."""
    clock = taken.flags & api.BufferFlag.TIMESTAMP_MASK
    if clock != api.BufferFlag.TIMESTAMP_MONOTONIC:
        return time.monotonic()
    return float(taken.timestamp.secs) + float(taken.timestamp.usecs) / 1e6


def _offer(name: str, size: Any, *, is_discrete: bool) -> OfferedSizes:
    info = size.info
    if is_discrete:
        return OfferedSizes(pixel_format=name, least=(info.width, info.height), most=(info.width, info.height))
    return OfferedSizes(
        pixel_format=name,
        least=(info.min_width, info.min_height),
        most=(info.max_width, info.max_height),
        step=(info.step_width, info.step_height),
    )
