"""What the kiosk's tests share: a clock and a camera that obey, drawn pictures, and a station around a real engine."""

import io
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from manual_clock import ManualClock as ManualClock  # noqa: PLC0414 - known by this module's name too
from PIL import Image

from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.camera.selection import CameraRole, CameraSet
from appliance.errors import CameraError
from appliance.service.station import EngineClientLike, Station
from appliance.types import Frame, Modality

WAIT_S = 10.0
"""Longest wait for something that another thread does; only a failing test waits so long."""


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.002)


class ObedientCamera:
    """A camera without a device: a frame is there when a test says `take`, and nothing ever blocks."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._newest: Frame | None = None
        self.is_plugged = True
        self.subject = "nobody"
        """Who is before the lens; part of every frame's bytes."""

    def take(self) -> Frame:
        """Take one frame; a millisecond passes meanwhile."""
        self._clock.passed_s += 0.001
        sequence = self._newest.sequence + 1 if self._newest is not None else 0
        content = b"\xff\xd8\xff" + f"{self.subject} {sequence}".encode()
        self._newest = Frame(
            content=content, media_type="image/jpeg", sequence=sequence, captured_s=self._clock.monotonic_s()
        )
        return self._newest

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        if not self.is_plugged:
            raise CameraError("The camera is not connected.")
        return self._newest if self._newest is not None and self._newest.sequence > after else None

    def close(self) -> None:
        self.is_plugged = False


class RoleCamera(ObedientCamera):
    """One of several obedient cameras, with a button on its body."""

    def __init__(self, clock: ManualClock, numbers: Iterator[int], on_press: Callable[[float], None]) -> None:
        super().__init__(clock)
        self._numbers = numbers
        self.press = on_press
        self.is_held = False
        self.modality: Modality = "XC"
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens while somebody waits for a frame."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> Frame:
        number = next(self._numbers)
        content = b"\xff\xd8\xff" + f"{self.subject} {number}".encode()
        self._newest = replace(super().take(), content=content, sequence=number, modality=self.modality)
        return self._newest

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        self.meanwhile()
        return super().frame(after, timeout_s)

    def hold_series(self, *, is_held: bool) -> None:
        self.is_held = is_held


ALL_ROLES: tuple[CameraRole, ...] = ("overview", "dermatoscope")


def camera_set(
    clock: ManualClock, roles: tuple[CameraRole, ...] = ALL_ROLES, *, has_clip_on_lens: bool = False
) -> tuple[CameraSet, dict[CameraRole, RoleCamera]]:
    """Make an overview camera and, if wanted, a dermatoscope, and the set of them."""
    numbers, made = itertools.count(), {}

    def maker(role: CameraRole) -> Callable[[Callable[[float], None]], RoleCamera]:
        def make(on_press: Callable[[float], None]) -> RoleCamera:
            made[role] = RoleCamera(clock, numbers, on_press)
            made[role].modality = "DMS" if role == "dermatoscope" else "XC"
            return made[role]

        return make

    makers = {role: maker(role) for role in roles}
    return CameraSet(makers, held=frozenset({"dermatoscope"}), has_clip_on_lens=has_clip_on_lens), made


def picture(colour: str, size: tuple[int, int] = (96, 72)) -> bytes:
    """Draw one JPEG of a single colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def replay_camera(folder: Path) -> ReplayCamera:
    """Make a fast camera that stays on each of the drawn pictures, in a folder that it makes."""
    folder.mkdir()
    return ReplayCamera(picture_folder(folder), frames_per_s=50, picture_s=60)


def picture_folder(folder: Path, *colours: str) -> Path:
    """Write one picture a colour, in this order of names."""
    for number, colour in enumerate(colours or ("tan", "sienna", "peru")):
        (folder / f"{number:02}.jpg").write_bytes(picture(colour))
    return folder


@contextmanager
def running_station(engine: EngineClientLike, pictures: Path, camera: Camera | None = None) -> Iterator[Station]:
    """Run a station with a fast replay camera around an engine's client."""
    with Station(camera or ReplayCamera(pictures, frames_per_s=50, picture_s=60), engine) as station:
        yield station
