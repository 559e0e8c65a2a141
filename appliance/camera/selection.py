"""Several cameras behind one: the one that is on the screen gives the frames, the others stay ready.

Nothing is kept unseen: what is photographed is always what the screen shows.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, Literal, Protocol, Self

from appliance.camera.protocol import Camera
from appliance.errors import CameraError
from appliance.types import Frame

CameraRole = Literal["overview", "dermatoscope"]
ROLE_NAMES: Final[Mapping[CameraRole, str]] = {"overview": "camera", "dermatoscope": "dermatoscope"}
"""What sentences call them."""


class OwnedCamera(Camera, Protocol):
    """A camera with a lifetime of its own, whose picture can be held still."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *exc: object) -> None:
        """Stop."""

    def hold_series(self, *, is_held: bool) -> None:
        """Hold exposure, focus and white balance, or let them go."""


class CameraSet:
    """Cameras by role, from `__enter__` to `close`; a `Camera` itself. The first role is on the screen at the start.

    Frames of different cameras never have the same sequence: the cameras are made with common `numbers`.

    Args:
        makers: At least one. Each makes a camera that is not started yet; it is given what the camera calls with the
            moment of a press of the button on its body.
        held: Roles whose picture is held still during a series.
        has_clip_on_lens: Whether the first camera may also have a dermatoscope's lens on, which it cannot tell.
    """

    def __init__(
        self,
        makers: Mapping[CameraRole, Callable[[Callable[[float], None]], OwnedCamera]],
        held: frozenset[CameraRole] = frozenset(),
        *,
        has_clip_on_lens: bool = False,
    ) -> None:
        if not makers:
            raise ValueError("a set of cameras holds at least one")
        self.on_press: Callable[[CameraRole, float], None] = lambda _role, _pressed_s: None
        """Called on a camera's thread, must return at once; set it before `__enter__`."""
        self._cameras = {role: make(partial(self._pressed, role)) for role, make in makers.items()}
        self._held = held
        self.has_clip_on_lens = has_clip_on_lens
        self._selected: CameraRole = next(iter(self._cameras))
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start every camera."""
        for camera in self._cameras.values():
            self._stack.enter_context(camera)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self.close()

    @property
    def roles(self) -> tuple[CameraRole, ...]:
        """The roles that the settings name, plugged in or not."""
        return tuple(self._cameras)

    @property
    def selected(self) -> CameraRole:
        """Whose picture is on the screen."""
        return self._selected

    def select(self, role: CameraRole) -> bool:
        """Put a camera on the screen; False if it was there already.

        Raises:
            KeyError: There is none of that role.
        """
        with self._lock:
            if role not in self._cameras:
                raise KeyError(role)
            was, self._selected = self._selected, role
            return was != role

    def is_working(self, role: CameraRole) -> bool:
        """Tell whether a camera is there; it may not have sent a frame yet."""
        try:
            self._cameras[role].frame(-1, 0.0)
        except CameraError:
            return False
        return True

    def hold_series(self, *, is_held: bool) -> None:
        """Hold the pictures of a series alike, or let the cameras adjust themselves again."""
        for role in self._held:
            if role in self._cameras:
                self._cameras[role].hold_series(is_held=is_held)

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame of the camera on the screen, as `Camera.frame` says, also if that changes meanwhile."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            role = self._selected
            frame = self._cameras[role].frame(after, max(0.0, deadline_s - time.monotonic()))
            if role == self._selected:
                return frame

    def close(self) -> None:
        """Stop every camera."""
        self._stack.close()

    def _pressed(self, role: CameraRole, pressed_s: float) -> None:
        self.on_press(role, pressed_s)
