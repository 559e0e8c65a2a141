"""The kernel's side of a video device, in this process: what V4L2 promises, on linuxpy's own structures.

Only the kernel's calls are replaced: `fcntl.ioctl`, and `mmap.mmap` where it maps the device. The nodes are real FIFOs
in a real folder, so that opening, polling, closing and unplugging are the operating system's. Formats, buffers and
faults follow the V4L2 API; a call that a driver would refuse is refused.
Source: V4L2 API, "Streaming I/O (Memory Mapping)", ioctl reference.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import pytest
from linuxpy.video import raw

IOC = raw.IOC
_AUTOMATIC = {raw.ControlID.EXPOSURE_AUTO: 3, raw.ControlID.FOCUS_AUTO: 1, raw.ControlID.AUTO_WHITE_BALANCE: 1}
_VALUES = {
    raw.ControlID.EXPOSURE_ABSOLUTE: 250,
    raw.ControlID.FOCUS_ABSOLUTE: 40,
    raw.ControlID.WHITE_BALANCE_TEMPERATURE: 4600,
}


class FakeCamera:
    """One camera with its node below `folder`; plugged in at the start.

    Args:
        folder: Stands for /dev.
        name: Its name by id.
        formats: Pixel format by V4L2's name to the sizes that it offers.
    """

    def __init__(self, folder: Path, name: str, formats: dict[str, list[tuple[int, int]]]) -> None:
        self.link = folder / "v4l/by-id" / f"usb-{name}-video-index0"
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._formats = formats
        self.controls: dict[int, int] = {int(key): value for key, value in (_AUTOMATIC | _VALUES).items()}
        self.timestamps = raw.BufferFlag.TIMESTAMP_MONOTONIC
        self.failures: dict[int, int] = {}
        """Calls that fail, and with which errno."""
        self.unplugged_at: int | None = None
        """The call in the midst of which it is unplugged."""
        self.lock = RLock()
        self._plugs = 0
        self.plug()

    def plug(self) -> None:
        """Plug it in: a new node, as after every plugging."""
        with self.lock:
            self._plugs += 1
            self.node = self._folder / f"video{self._plugs}-{self.link.name}"
            os.mkfifo(self.node)
            self._wake = os.open(self.node, os.O_RDWR | os.O_NONBLOCK)
            self.is_plugged = True
            self._format = ("", (0, 0))
            self._buffers: list[bytearray] = []
            self._queued: deque[int] = deque()
            self._full: deque[Any] = deque()
            self.is_streaming = False
            self._sequence = 0
            self.link.symlink_to(self.node)

    def unplug(self) -> None:
        """Pull it: the name goes, and every call fails from now on."""
        with self.lock:
            self.is_plugged = False
            self.link.unlink()
            self.node.unlink()
            os.write(self._wake, b"!")  # a driver wakes whoever polls
            os.close(self._wake)

    def send(self, content: bytes, *, is_damaged: bool = False, skipped: int = 0, age_s: float = 0.0) -> bool:
        """Fill the next buffer; False when none is queued and the frame is lost."""
        with self.lock:
            if not self.is_streaming:
                return False
            self._sequence += 1 + skipped
            if not self._queued:
                return False
            buffer = raw.v4l2_buffer()
            buffer.index = self._queued.popleft()
            target = self._buffers[buffer.index]
            buffer.bytesused = min(len(content), len(target))
            target[: buffer.bytesused] = content[: buffer.bytesused]
            buffer.sequence = self._sequence
            taken_us = int((time.monotonic() - age_s) * 1e6)
            buffer.timestamp.secs, buffer.timestamp.usecs = divmod(taken_us, 1_000_000)
            buffer.flags = int(self.timestamps) | (int(raw.BufferFlag.ERROR) if is_damaged else 0)
            self._full.append(buffer)
            os.write(self._wake, b".")
            return True

    def ioctl(self, fd: int, request: int, argument: Any) -> None:
        """Answer one call on a descriptor of the node."""
        with self.lock:
            if request == self.unplugged_at:
                self.unplugged_at = None
                self.unplug()
            if not self.is_plugged or os.fstat(fd).st_ino != self.node.stat().st_ino:
                raise OSError(errno.ENODEV, "No such device")
            if (number := self.failures.get(request)) is not None:
                raise OSError(number, os.strerror(number))
            handler = self._handlers().get(request)
            if handler is None:
                raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
            handler(fd, argument)

    def map(self, length: int, offset: int) -> "_Mapped":
        """Map the buffer that QUERYBUF gave this offset to."""
        with self.lock:
            if not self.is_plugged:
                raise OSError(errno.ENODEV, "No such device")
            target = self._buffers[offset >> 20]
            if length != len(target):
                raise OSError(errno.EINVAL, "Invalid argument")
            return _Mapped(target)

    def _handlers(self) -> dict[int, Callable[[int, Any], None]]:
        return {
            IOC.ENUM_FMT: self._enum_fmt,
            IOC.ENUM_FRAMESIZES: self._enum_sizes,
            IOC.S_FMT: self._set_format,
            IOC.G_FMT: self._get_format,
            IOC.S_PARM: lambda _fd, _argument: None,
            IOC.G_PARM: self._get_rate,
            IOC.REQBUFS: self._request_buffers,
            IOC.QUERYBUF: self._query_buffer,
            IOC.QBUF: self._queue,
            IOC.DQBUF: self._dequeue,
            IOC.STREAMON: self._stream_on,
            IOC.STREAMOFF: self._stream_off,
            IOC.G_CTRL: self._get_control,
            IOC.S_CTRL: self._set_control,
        }

    def _enum_fmt(self, _fd: int, argument: Any) -> None:
        names = list(self._formats)
        if argument.index >= len(names):
            raise OSError(errno.EINVAL, "Invalid argument")
        argument.pixelformat = _fourcc(names[argument.index])
        argument.description = names[argument.index].encode()

    def _enum_sizes(self, _fd: int, argument: Any) -> None:
        sizes = self._formats[_name(argument.pixel_format)]
        if argument.index >= len(sizes):
            raise OSError(errno.EINVAL, "Invalid argument")
        argument.type = int(raw.Frmsizetypes.DISCRETE)
        argument.m1.discrete.width, argument.m1.discrete.height = sizes[argument.index]

    def _set_format(self, _fd: int, argument: Any) -> None:
        if self._buffers:
            raise OSError(errno.EBUSY, "Device or resource busy")
        name = _name(argument.fmt.pix.pixelformat)
        self._format = (name, (argument.fmt.pix.width, argument.fmt.pix.height))
        self._get_format(_fd, argument)

    def _get_format(self, _fd: int, argument: Any) -> None:
        name, (width, height) = self._format
        argument.fmt.pix.pixelformat = _fourcc(name)
        argument.fmt.pix.width, argument.fmt.pix.height = width, height
        argument.fmt.pix.bytesperline = 0 if name == "MJPG" else width * (2 if name == "YUYV" else 3)
        argument.fmt.pix.sizeimage = width * height * 3

    def _get_rate(self, _fd: int, argument: Any) -> None:
        argument.parm.capture.timeperframe.numerator = 1
        argument.parm.capture.timeperframe.denominator = 30

    def _request_buffers(self, _fd: int, argument: Any) -> None:
        _, (width, height) = self._format
        self._buffers = [bytearray(width * height * 3) for _ in range(argument.count)]
        self._queued.clear()
        self._full.clear()

    def _query_buffer(self, _fd: int, argument: Any) -> None:
        argument.length = len(self._buffers[argument.index])
        argument.m.offset = argument.index << 20

    def _queue(self, _fd: int, argument: Any) -> None:
        if argument.index >= len(self._buffers) or argument.index in self._queued:
            raise OSError(errno.EINVAL, "Invalid argument")
        self._queued.append(argument.index)

    def _dequeue(self, fd: int, argument: Any) -> None:
        if not self.is_streaming:
            raise OSError(errno.EINVAL, "Invalid argument")
        if not self._full:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        os.read(fd, 1)
        filled = self._full.popleft()
        for field in ("index", "bytesused", "sequence", "flags", "timestamp"):
            setattr(argument, field, getattr(filled, field))

    def _stream_on(self, _fd: int, _argument: Any) -> None:
        self.is_streaming = True
        self._sequence = 0

    def _stream_off(self, fd: int, _argument: Any) -> None:
        self.is_streaming = False
        self._queued.clear()
        while self._full:
            self._full.popleft()
            os.read(fd, 1)

    def _get_control(self, _fd: int, argument: Any) -> None:
        if argument.id not in self.controls:
            raise OSError(errno.EINVAL, "Invalid argument")
        argument.value = self.controls[argument.id]

    def _set_control(self, _fd: int, argument: Any) -> None:
        self._get_control(_fd, raw.v4l2_control(argument.id))
        self.controls[argument.id] = argument.value


class _Mapped:
    """A mapped buffer: a view of the driver's memory, not a copy."""

    def __init__(self, target: bytearray) -> None:
        self._target = target

    def __len__(self) -> int:
        return len(self._target)

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._target[part])

    def close(self) -> None:
        self._target = bytearray()


@contextmanager
def kernel_with(cameras: list[FakeCamera], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Send the device calls of these cameras' nodes to them, and all others to the real kernel."""
    real_ioctl, real_mmap = fcntl.ioctl, mmap.mmap

    def camera_of(fd: int) -> FakeCamera | None:
        path = os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")  # noqa: PTH115 - a descriptor's, not a file's
        return next((camera for camera in cameras if path.endswith(camera.link.name)), None)

    def ioctl(fd: int, request: int, argument: Any = 0, *rest: Any) -> Any:
        camera = camera_of(fd) if fd >= 0 else None
        return real_ioctl(fd, request, argument, *rest) if camera is None else camera.ioctl(fd, request, argument)

    def map_device(fd: int, length: int, *arguments: Any, **options: Any) -> Any:
        camera = camera_of(fd) if fd >= 0 else None
        return real_mmap(fd, length, *arguments, **options) if camera is None else camera.map(length, options["offset"])

    with patch.context() as patched:
        patched.setattr(fcntl, "ioctl", ioctl)
        patched.setattr(mmap, "mmap", map_device)
        yield
    for camera in cameras:
        with contextlib.suppress(OSError):
            camera.unplug()


def _fourcc(name: str) -> int:
    return int.from_bytes(name.encode(), "little") if name else 0


def _name(code: int) -> str:
    return int(code).to_bytes(4, "little").decode()
