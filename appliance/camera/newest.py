"""The newest frame of a camera, for any number of readers; raw pixels are turned into a PNG only when somebody asks.

It holds one frame and nothing else: what is not read in time is gone.
"""

import threading
import time
from dataclasses import dataclass

from appliance.camera.frame_check import Buffer, PictureFormat
from appliance.camera.raw_formats import png_from_raw
from appliance.errors import CameraError
from appliance.types import Frame, Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    buffer: Buffer
    format: PictureFormat
    sequence: int
    captured_s: float
    modality: Modality

    def frame(self) -> Frame:
        content, pixel_format = self.buffer.content, self.format.pixel_format
        if pixel_format != "MJPG":
            content = png_from_raw(content, pixel_format, self.format.size, self.format.stride_bytes)
        return Frame(
            content=content,
            media_type="image/jpeg" if pixel_format == "MJPG" else "image/png",
            sequence=self.sequence,
            captured_s=self.captured_s,
            modality=self.modality,
        )


class NewestFrame:
    """One place for one frame; `put` and `drop` are the camera's, `wait` is everybody's.

    Args:
        sentence: Why there is none yet.
    """

    def __init__(self, sentence: str) -> None:
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._held: _Held | None = None
        self._frame: Frame | None = None
        self._sentence: str | None = sentence

    def put(
        self, buffer: Buffer, picture_format: PictureFormat, sequence: int, captured_s: float, modality: Modality
    ) -> None:
        """Replace the newest frame."""
        held = _Held(buffer=buffer, format=picture_format, sequence=sequence, captured_s=captured_s, modality=modality)
        with self._changed:
            self._held, self._sentence = held, None
            self._changed.notify_all()

    def drop(self, sentence: str) -> None:
        """Let go of the newest frame, and say why there is none."""
        with self._changed:
            self._held, self._sentence = None, sentence
            self._changed.notify_all()

    def wait(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame whose sequence is greater than `after`, as `Camera.frame` says."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._sentence is not None:
                    raise CameraError(self._sentence)
                if self._held is not None and self._held.sequence > after:
                    held = self._held
                    break
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)
        return self._encoded(held)

    def _encoded(self, held: _Held) -> Frame:
        """Encode once for all readers, outside the lock that the camera needs."""
        with self._encoding:
            if self._frame is None or self._frame.sequence != held.sequence:
                self._frame = held.frame()
            return self._frame
