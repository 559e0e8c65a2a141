"""The cameras as the screen uses them: whose picture is on it, and which one a shot needs. One camera or several."""

from collections.abc import Callable
from typing import Final

from appliance.camera.protocol import Camera
from appliance.camera.selection import ROLE_NAMES, CameraRole, CameraSet
from appliance.errors import CameraError
from appliance.service.errors import NotFoundError
from appliance.types import Modality

ROLE_OF: Final[dict[Modality, CameraRole]] = {"XC": "overview", "DMS": "dermatoscope"}
_CHECK_S: Final = 0.05
_STILL_S: Final = 2.0
"""A camera whose newest frame is older has frozen."""
MODALITY_OF: Final[dict[CameraRole, Modality]] = {role: modality for modality, role in ROLE_OF.items()}


class ScreenCameras:
    """What is chosen among the cameras of a station."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._set = camera if isinstance(camera, CameraSet) else None

    @property
    def roles(self) -> tuple[CameraRole, ...]:
        """The cameras that may be put on the screen; none when there is nothing to choose."""
        return self._set.roles if self._set is not None else ()

    @property
    def selected(self) -> CameraRole:
        """Whose picture is on the screen."""
        return self._set.selected if self._set is not None else "overview"

    @property
    def has_dermatoscope(self) -> bool:
        """Whether dermoscopic images can be taken; a camera without a role may have any lens on."""
        return self._set is None or self._set.has_clip_on_lens or "dermatoscope" in self._set.roles

    @property
    def is_lens_changed_by_hand(self) -> bool:
        """Whether a dermoscopic photo comes from the same real camera as the others, with another lens on."""
        return self._set is not None and self.has_dermatoscope and "dermatoscope" not in self._set.roles

    def modality_of(self, shot: Modality) -> Modality | None:
        """Return what a shot's photo is where its camera cannot know; None where the camera's own word counts.

        Args:
            shot: Modality of the shot that the nurse was asked for.
        """
        return shot if self.has_dermatoscope and "dermatoscope" not in self.roles else None

    def select(self, role: CameraRole) -> None:
        """Put another camera's picture on the screen.

        Raises:
            NotFoundError: This box has none of that role.
        """
        if self._set is None or role not in self._set.roles:
            raise NotFoundError("This box has no such camera.")
        self._set.select(role)

    def select_for(self, modality: Modality) -> None:
        """Put the camera of a shot on the screen, if there is one and it works: a dead one must not hide another."""
        role = ROLE_OF[modality]
        if self._set is None or role not in self._set.roles or not self._set.is_working(role):
            return
        self._set.select(role)

    def hold_series(self, *, is_held: bool) -> None:
        """Hold the pictures of a series alike, or let the cameras adjust themselves again."""
        if self._set is not None:
            self._set.hold_series(is_held=is_held)

    def state(self, now_s: Callable[[], float]) -> dict[str, str]:
        """Return what every screen shows of the camera on it: `state` and `words`.

        Args:
            now_s: The station's monotonic time.
        """
        try:
            frame = self._camera.frame(-1, _CHECK_S)
        except CameraError as error:
            return {"state": "off", "words": str(error)}
        if frame is None or now_s() - frame.captured_s > _STILL_S:
            return {"state": "off", "words": "Camera shows no new picture"}
        return {"state": "ready", "words": f"{ROLE_NAMES[self.selected].capitalize()} ready"}
