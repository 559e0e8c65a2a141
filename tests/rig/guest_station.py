"""Runs in the guest: the whole station but its screens, over real device nodes; the engine is missing, as it may be.

A test calls these functions by name; what they return goes over as JSON.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec

from appliance.clock import SystemClock
from appliance.config import Config
from appliance.errors import CameraError, DermstationError
from appliance.service.station import Station
from appliance.types import CapturedImage
from appliance.wiring import build_station
from rig import guest_usbip
from rig.uvc_sim import subject_of

_running: dict[str, Station] = {}
_POLL_S = 0.02
_LOOK_FOR_S = 1.5
_PAIR = "end of a pair"


def start(config: dict[str, Any]) -> None:
    """Start a station with these settings."""
    station = build_station(msgspec.convert(config, Config))
    station.quality = None  # it has tests of its own, and noise that is drawn is no good picture
    _running["station"] = station.__enter__()


def stop() -> None:
    """End it."""
    _running.pop("station").__exit__(None, None, None)


def leaks(cameras: int = 2, timeout_s: float = 20.0) -> dict[str, list[str]]:
    """Return the descriptors that are open and the threads that run, as names, once the cameras are wholly open.

    A camera's button is looked for once a second and made after its picture: what is counted before it is open is
    another state than what is counted after. Of what is counted within the next second and a half the fewest stand: a
    leak lasts, and what a thread has open while it looks for something or starts a process does not.
    """
    deadline_s = time.monotonic() + timeout_s
    while not _are_open(_descriptors(), cameras) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    fewest = _descriptors()
    settled_s = time.monotonic() + _LOOK_FOR_S
    while time.monotonic() < settled_s:
        time.sleep(_POLL_S)
        descriptors = _descriptors()
        if _are_open(descriptors, cameras) and len(descriptors) < len(fewest):
            fewest = descriptors
    return {"descriptors": fewest, "threads": sorted(thread.name for thread in threading.enumerate())}


def leave_open(path: str) -> int:
    """Open a file for good, as a leak does; returns what `close_left_open` takes."""
    return os.open(path, os.O_RDONLY)


def close_left_open(descriptor: int) -> None:
    """Close it after all."""
    os.close(descriptor)


def _are_open(descriptors: list[str], cameras: int) -> bool:
    """Whether so many cameras and their buttons are open."""
    return all(
        sum(name.startswith(kind) for name in descriptors) >= cameras for kind in ("/dev/video", "/dev/input/event")
    )


def _descriptors() -> list[str]:
    """Name what is open, but for the line to each decoding process: a picture starts it, a failure ends it."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as links, not as files
        with contextlib.suppress(OSError):
            descriptors.append(_with_its_kind(os.readlink(f"/proc/self/fd/{name}")))  # noqa: PTH115 - likewise
    lines = [name for name in descriptors if name.startswith(_PAIR)][: _processes()]
    for line in lines:
        descriptors.remove(line)
    return sorted(descriptors)


def _processes() -> int:
    """Count the processes that this one has started and that have not ended."""
    count = 0
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            count += len(path.read_text(encoding="ascii").split())
    return count


def _with_its_kind(name: str) -> str:
    """Say of a socket what it is: the row of the kernel's table that has its number."""
    if not name.startswith("socket:["):
        return name
    number = name.removeprefix("socket:[").removesuffix("]")
    for kind in ("tcp", "udp", "unix", "netlink"):
        for row in Path(f"/proc/net/{kind}").read_text(encoding="ascii", errors="replace").splitlines():
            fields = row.split()
            if number in fields:
                # The last field of a Unix socket's row is its number where it has no name, as an end of a pair.
                return f"{_PAIR if kind == 'unix' and fields[-1] == number else kind} {row.strip()}"
    return name


def stacks() -> dict[str, str]:
    """Return where every thread is, in Python and in the kernel: what a test prints when a camera is lost."""
    frames = sys._current_frames()
    told = {}
    for thread in threading.enumerate():
        python = traceback.format_stack(frames[thread.ident]) if thread.ident in frames else []
        kernel = "no stack\n"
        with contextlib.suppress(OSError):
            kernel = Path(f"/proc/self/task/{thread.native_id}/stack").read_text()
        told[thread.name] = "".join(python[-4:]) + kernel
    return told


def open_encounter() -> str:
    """Put a new visit on the screen."""
    return _station().open_encounter().encounter_id


def photo(timeout_s: float = 10.0) -> dict[str, Any]:
    """Press the touch shutter until a photo is kept, and return it; the last sentence when none is in time."""
    station, started_s, refusals = _station(), time.monotonic(), []
    while True:
        current = station.captures.current
        encounter_id = current.encounter_id if current is not None else station.open_encounter().encounter_id
        try:
            kept = _described(station.capture(encounter_id))
        except DermstationError as error:
            if time.monotonic() - started_s > timeout_s:
                return {"refused": str(error)}
            refusals.append(str(error))
            time.sleep(_POLL_S)
            continue
        return kept | {"seconds": time.monotonic() - started_s, "refusals": refusals}


def try_photo() -> dict[str, Any]:
    """Press the touch shutter once."""
    return photo(timeout_s=0.0)


def state() -> dict[str, str]:
    """Return what the screen says of the camera."""
    camera: dict[str, str] = _station().state()["camera"]
    return camera


def wait_for_state(wanted: str, timeout_s: float = 20.0) -> dict[str, str]:
    """Wait until the screen says so of the camera."""
    deadline_s = time.monotonic() + timeout_s
    while (seen := state())["state"] != wanted and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return seen


def watch(seconds: float) -> dict[str, Any]:
    """Look at the preview for a while: frames, and the age of the oldest when it was given out."""
    station, clock, after, ages = _station(), SystemClock(), -1, []
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        with contextlib.suppress(CameraError):
            if (frame := station.frame(after, 0.5)) is not None:
                after = frame.sequence
                ages.append(clock.monotonic_s() - frame.captured_s)
    return {"frames": len(ages), "oldest_s": max(ages, default=0.0)}


def select(role: str) -> None:
    """Put another camera on the screen."""
    _station().select_camera(role)  # type: ignore[arg-type] # it comes as JSON and is checked there


def hold(is_held: bool) -> None:
    """Hold the series' pictures alike, or not."""
    _station().cameras.hold_series(is_held=is_held)


def wait_for_press(number: int, timeout_s: float = 10.0) -> dict[str, Any]:
    """Wait until so many presses of buttons were dealt with, and return what became of the last."""
    station, deadline_s = _station(), time.monotonic() + timeout_s
    while station.shutter.outcome.number < number and time.monotonic() < deadline_s:
        with contextlib.suppress(CameraError):
            station.frame(-1, _POLL_S)  # as the screen does, without which nothing is kept
        time.sleep(_POLL_S)
    outcome = station.shutter.outcome
    image = _described(outcome.image) if outcome.image is not None else {}
    return {"number": outcome.number, "sentence": outcome.sentence} | image


def replug(number: int, seen_gone_s: float = 10.0) -> dict[str, Any]:
    """After the host has pulled a plug: see the camera gone, plug it in again, and take a photo.

    Returns what `photo` does, with `seconds` from plugging in to the kept photo, `named_s` from plugging in to the name
    by id, and `gone`, what the screen said.
    """
    gone = wait_for_state("off", seen_gone_s)
    refused = try_photo()
    guest_usbip.wait_for_cameras(1)
    started_s = time.monotonic()
    guest_usbip.attach(number)
    guest_usbip.wait_for_cameras(2, timeout_s=60.0)  # a busy host makes the guest's USB core try again and again
    named_s = time.monotonic() - started_s
    kept = photo(timeout_s=30.0)
    seconds = time.monotonic() - started_s
    return kept | {"seconds": seconds, "named_s": named_s, "gone": gone, "refused_while_gone": refused}


def wait_for_microcontroller(wanted: str, timeout_s: float = 20.0) -> str:
    """Wait until the link to the microcontroller is in a state, and return the one that it is in."""
    microcontroller, deadline_s = _station().microcontroller, time.monotonic() + timeout_s
    while microcontroller is not None and time.monotonic() < deadline_s:
        if microcontroller.snapshot.state.value == wanted:
            break
        time.sleep(_POLL_S)
    return microcontroller.snapshot.state.value if microcontroller is not None else "none"


def _station() -> Station:
    return _running["station"]


def _described(image: CapturedImage) -> dict[str, Any]:
    subject = subject_of(image.content) if image.media_type == "image/jpeg" else ""
    return {
        "sha256": image.sha256,
        "bytes": len(image.content),
        "media_type": image.media_type,
        "modality": image.modality,
        "encounter_id": image.encounter_id,
        "subject": subject,
    }
