"""Holds a camera's exposure, focus and white balance still for a series of pictures, and lets them go again.

To hold, the value that the automatic has reached is read, the automatic is turned off, and that value is set: many
cameras fall back to a value of their own otherwise. A camera without one of the controls is held by the others.
Source: V4L2 API, "Camera Control Reference", "User Controls".
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from appliance.camera.video_device import load_linuxpy

_EXPOSURE_MANUAL: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Automatic:
    """One thing that a camera adjusts by itself, by the names of V4L2's control ids."""

    automatic: str
    value: str
    held: int
    """What turns the automatic off."""


_AUTOMATICS: Final = (
    _Automatic(automatic="EXPOSURE_AUTO", value="EXPOSURE_ABSOLUTE", held=_EXPOSURE_MANUAL),
    _Automatic(automatic="FOCUS_AUTO", value="FOCUS_ABSOLUTE", held=0),
    _Automatic(automatic="AUTO_WHITE_BALANCE", value="WHITE_BALANCE_TEMPERATURE", held=0),
)


class HeldSeries:
    """What was changed on one opened device; `release` gives it back to the automatics."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: dict[str, int] = {}
        self.is_held = False

    def hold(self) -> None:
        """Hold what the camera lets us hold; OSError when it is gone is left to the reader of its frames."""
        self.is_held = True
        for part in _AUTOMATICS:
            with contextlib.suppress(OSError):
                before, value = _get(self._fd, part.automatic), _get(self._fd, part.value)
                if before == part.held:
                    continue
                _set(self._fd, part.automatic, part.held)
                self._before[part.automatic] = before
                _set(self._fd, part.value, value)

    def release(self) -> None:
        """Turn the automatics on again that were on before."""
        self.is_held = False
        for name, before in self._before.items():
            with contextlib.suppress(OSError):
                _set(self._fd, name, before)
        self._before.clear()


def settings_of(fd: int) -> Iterator[tuple[str, int]]:
    """Return the controls above that a camera has, and their values now."""
    for part in _AUTOMATICS:
        for name in (part.automatic, part.value):
            with contextlib.suppress(OSError):
                yield name.lower(), _get(fd, name)


def _get(fd: int, name: str) -> int:
    api = load_linuxpy()
    value: int = api.get_control(fd, api.ControlID[name])
    return value


def _set(fd: int, name: str, value: int) -> None:
    api = load_linuxpy()
    api.set_control(fd, api.ControlID[name], value)
