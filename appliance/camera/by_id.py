"""Which cameras are plugged in, by the names that udev gives them for good, and the button on the body of each.

Never by number: `/dev/video0` is another camera after the next start. It opens nothing.
Source: systemd's 60-persistent-v4l.rules (/dev/v4l/by-id); Linux sysfs, /sys/class/video4linux.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import CameraError

BY_ID: Final = Path("/dev/v4l/by-id")
BY_ROLE: Final = Path("/dev/dermstation")
"""Names that our own rules give (systemd/udev)."""
_SYS: Final = Path("/sys")
_INPUT: Final = Path("/dev/input")
_PICTURE_NODE: Final = re.compile(r"-video-index0$")
"""The others carry a camera's metadata."""
_TEXT_MAX: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedCamera:
    """One camera as the kernel shows it."""

    path: Path
    """Its lasting name."""
    node: Path
    """What that leads to at the moment."""
    name: str
    """The product's name, as it says itself; stripped to printable characters."""


def plugged_cameras(by_id: Path = BY_ID, sys: Path = _SYS) -> list[PluggedCamera]:
    """Return the cameras that give pictures, by name."""
    paths = sorted(by_id.iterdir()) if by_id.is_dir() else []
    return [
        PluggedCamera(path=path, node=path.resolve(), name=_name(path.resolve(), sys))
        for path in paths
        if _PICTURE_NODE.search(path.name) and path.exists()
    ]


def button_of(node: Path, sys: Path = _SYS, inputs: Path = _INPUT) -> Path | None:
    """Return the input device of the button on a camera's body, if it has one: both hang on one USB interface."""
    interface = sys / "class/video4linux" / node.name / "device"
    events = sorted(interface.glob("input/input*/event*"))
    return inputs / events[0].name if events else None


def finder(path: Path | None, by_role: Path, taken: frozenset[Path] = frozenset()) -> Callable[[], Path | None]:
    """Return a function that says where a camera is now.

    Args:
        path: The name from the settings; None to take the one of our udev rules, else the only camera that there is.
        by_role: The name that our udev rules give.
        taken: Names that belong to other roles.

    Returns:
        A function without arguments that returns the path, or None when the camera is not plugged in.

    Raises:
        CameraError: (the function) There are several cameras and nothing says which.
    """

    def find() -> Path | None:
        if path is not None:
            return path if path.exists() else None
        if by_role.exists():
            return by_role
        nodes = {other.resolve() for other in taken if other.exists()}
        free = [camera for camera in plugged_cameras() if camera.node not in nodes]
        if len(free) > 1:
            raise CameraError(
                "Several cameras are connected; name one in the settings, as 'dermstation camera list' does."
            )
        return free[0].path if free else None

    return find


def _name(node: Path, sys: Path) -> str:
    try:
        text = (sys / "class/video4linux" / node.name / "name").read_text(errors="replace")
    except OSError:
        return "unknown"
    # It comes from the device: nothing in it may steer a terminal or a page.
    return "".join(character for character in text if character.isprintable())[:_TEXT_MAX]
