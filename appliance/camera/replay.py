"""A camera that shows the pictures of a folder, one after the other: for demonstrations, training and tests.

It is a fake that ships: it behaves like a camera, its faults included, and never touches a device. The bytes of a frame
are the file's own.
"""

import threading
from pathlib import Path
from typing import Final, Literal

from appliance.clock import Clock, SystemClock
from appliance.errors import CameraError
from appliance.types import Frame, MediaType, media_type_of

_POLL_S: Final = 0.02
_FILE_MAX_BYTES: Final = 16 << 20

Fault = Literal["unplugged", "frozen"]


class ReplayCamera:
    """Replays a folder's JPEG and PNG files in the order of their names.

    Raises:
        CameraError: The folder holds no picture, or one that is neither JPEG nor PNG.
    """

    def __init__(
        self, folder: Path, *, frames_per_s: float = 10.0, picture_s: float = 6.0, clock: Clock | None = None
    ) -> None:
        self._pictures = _pictures(folder)
        self._frames_per_s = frames_per_s
        self._picture_s = picture_s
        self._clock = clock or SystemClock()
        self._started_s = self._clock.monotonic_s()
        self._lock = threading.Lock()
        self._turn_s = self._started_s
        self._position = 0
        self._frozen: Frame | None = None
        self._fault: Fault | None = None
        self._closed = threading.Event()

    @property
    def fault(self) -> Fault | None:
        """What is wrong with it at the moment; set it to make a fault happen, to None to cure it."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._frozen = self._newest() if fault == "frozen" else None
        self._fault = fault

    def next_picture(self) -> None:
        """Go on to the next picture now."""
        with self._lock:
            self._turn(self._clock.monotonic_s())
            self._position += 1
            self._turn_s = self._clock.monotonic_s()

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame newer than `after`, as `Camera.frame` says."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        while True:
            if self._fault == "unplugged" or self._closed.is_set():
                raise CameraError("The camera is not connected.")
            frame = self._frozen or self._newest()
            if frame.sequence > after:
                return frame
            if self._clock.monotonic_s() >= deadline_s:
                return None
            self._closed.wait(_POLL_S)

    def close(self) -> None:
        """End every wait."""
        self._closed.set()

    def _newest(self) -> Frame:
        now_s = self._clock.monotonic_s()
        sequence = int((now_s - self._started_s) * self._frames_per_s)
        with self._lock:
            self._turn(now_s)
            content, media_type = self._pictures[self._position % len(self._pictures)]
        captured_s = self._started_s + sequence / self._frames_per_s
        return Frame(content=content, media_type=media_type, sequence=sequence, captured_s=captured_s)

    def _turn(self, now_s: float) -> None:
        """Advance by as many pictures as their time has passed."""
        turns = int((now_s - self._turn_s) / self._picture_s)
        self._position += turns
        self._turn_s += turns * self._picture_s


def _pictures(folder: Path) -> list[tuple[bytes, MediaType]]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    except OSError as error:
        raise CameraError(f"The replay camera's folder {folder} cannot be read: {error.strerror}.") from error
    if not paths:
        raise CameraError(f"The replay camera's folder {folder} holds no JPEG or PNG picture.")
    return [_picture(path) for path in paths]


def _picture(path: Path) -> tuple[bytes, MediaType]:
    try:
        if path.stat().st_size > _FILE_MAX_BYTES:
            raise CameraError(f"The replay camera's picture {path} is larger than {_FILE_MAX_BYTES >> 20} MiB.")
        content = path.read_bytes()
    except OSError as error:
        raise CameraError(f"The replay camera's picture {path} cannot be read: {error.strerror}.") from error
    media_type = media_type_of(content)
    if media_type is None:
        raise CameraError(f"The replay camera's picture {path} is neither JPEG nor PNG.")
    return content, media_type
