"""One press of the shutter: the shot of the list that comes now, with its camera and its light; two of them in a pair.

It holds nobody up for the light: what does not answer costs a few hundred milliseconds and a sentence.
Source: `web/DESIGN.md`, "Two photos in one press".
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from appliance.camera.selection import CameraRole
from appliance.clock import Clock
from appliance.errors import DermstationError
from appliance.imaging.advice import Advice
from appliance.service.captures import Captures, Wanted
from appliance.service.errors import EncounterClosedError, LampError, PoorQualityError
from appliance.service.lamp import Lamp
from appliance.service.screen_cameras import MODALITY_OF, ScreenCameras
from appliance.service.shot_list import Shot, ShotList
from appliance.service.shots import Shots
from appliance.types import CapturedImage, KeepReason, Light, RetakeReason, ShotKind

Judge = Callable[[bytes], Advice | None]
SETTLE_S: Final = 0.3
_SEEN_S: Final = 1.5
"""The page shows the kept photo for less than a second before the live picture goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one press kept, at least one photo."""

    images: tuple[CapturedImage, ...]
    sentence: str | None = None
    """What of it did not succeed."""


class Shooting:
    """The shutter's work; any thread, one press at a time.

    Args:
        captures: The encounter on the screen.
        cameras: Whose picture is on the screen.
        clock: The station's.
        shots: The list; None for a station without one, whose photos are beside any list.
        lamp: The dermatoscope's light; None for a station without a microcontroller.
        judge: Tells what is wrong with a frame.
        on_kept: Told of each photo that was kept.
        on_end: Told that the visit has left the screen.
        settle_s: From a change of the light to the first frame that counts.
    """

    def __init__(
        self,
        captures: Captures,
        cameras: ScreenCameras,
        clock: Clock,
        *,
        shots: Shots | None,
        lamp: Lamp | None,
        judge: Judge | None,
        on_kept: Callable[[CapturedImage], None],
        on_end: Callable[[], None] = lambda: None,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._captures = captures
        self._cameras = cameras
        self._clock = clock
        self._shots = shots
        self._lamp = lamp
        self._judge = judge
        self._on_kept = on_kept
        self._on_end = on_end
        self._settle_s = settle_s
        self._turn = threading.RLock()
        self._is_pressing = False
        self._pressed_s = -_SEEN_S

    def is_at_work(self, now_s: float) -> bool:
        """Tell whether a press is being dealt with, or its photo still stands on the screen in place of a live one."""
        return self._is_pressing or now_s - self._pressed_s <= _SEEN_S

    def begin(self, encounter_id: str, body_site: str | None = None, images: tuple[CapturedImage, ...] = ()) -> None:
        """Start the list of a visit or of another lesion in it, as `Shots.begin` says."""
        if self._shots is not None:
            self._shots.begin(encounter_id, body_site, images)
            self._prepare(encounter_id)

    def end(self) -> None:
        """Forget the list and want no light: no visit is on the screen."""
        if self._shots is not None:
            self._shots.end()
        if self._lamp is not None:
            self._lamp.follow(None)
        self._on_end()

    def press(self, encounter_id: str) -> Taken:
        """Take the shot that comes now, or the pair.

        Raises:
            DermstationError: Nothing was kept; the sentence says why. A `PoorQualityError` may come after the first of
                a pair was kept: then the second one is held, and the sentence says so.
        """
        with self._turn, self._pressing():
            series = self._series(encounter_id)
            if not series:
                return Taken(images=(self._keep(encounter_id, Wanted()),))
            try:
                taken = self._take_all(encounter_id, series)
            except LampError as error:
                raise LampError(f"{error} Nothing was kept. Press again.") from error
            self._prepare(encounter_id)
            return taken

    def keep_held(self, encounter_id: str, capture_id: str, reason: KeepReason) -> CapturedImage:
        """Keep the photo that waits for a reason, and go on to the next shot; as `Captures.keep_held`."""
        with self._turn:
            image = self._captures.keep_held(encounter_id, capture_id, reason)
            self._note(image)
            self._prepare(encounter_id)
            return image

    def choose(self, encounter_id: str, kind: ShotKind, reason: RetakeReason | None = None) -> None:
        """Have the next press take a shot, with its camera and its light; as `Shots.choose`."""
        if self._shots is not None:
            self._shots.choose(encounter_id, kind, reason)
            self._prepare(encounter_id)

    def skip(self, encounter_id: str) -> None:
        """Leave out the shot that comes now, or call a retake off; as `Shots.skip`."""
        if self._shots is not None:
            self._shots.skip(encounter_id)
            self._prepare(encounter_id)

    def select(self, role: CameraRole) -> None:
        """Put a camera on the screen because the nurse wants it; the list goes to its first open shot.

        Raises:
            NotFoundError: This box has none of that role.
        """
        self._cameras.select(role)
        current = self._captures.current
        if self._shots is not None and current is not None:
            self._shots.follow(current.encounter_id, MODALITY_OF[role])
            self._light_for(self._shots.of(current.encounter_id))

    @contextmanager
    def _pressing(self) -> Iterator[None]:
        self._is_pressing = True
        try:
            yield
        finally:
            self._is_pressing, self._pressed_s = False, self._clock.monotonic_s()

    def _series(self, encounter_id: str) -> tuple[Shot, ...]:
        if self._shots is None:
            return ()
        return self._shots.of(encounter_id).series(has_light=self._may_light())

    def _take_all(self, encounter_id: str, series: tuple[Shot, ...]) -> Taken:
        first, sentence = self._take(encounter_id, series[0], is_light_needed=False)
        if len(series) == 1 or sentence is not None:
            # Without its light there is no pair: the other one comes as a shot of its own.
            return Taken(images=(first,), sentence=sentence)
        try:
            second, _ = self._take(encounter_id, series[1], is_light_needed=True)
        except PoorQualityError as error:
            raise PoorQualityError(f"{series[0].words} is kept. {series[1].words}: {error}") from error
        except DermstationError as error:
            words = f"{series[0].words} is kept. {series[1].words} was not taken: {error}"
            return Taken(images=(first,), sentence=words)
        return Taken(images=(first, second))

    def _take(self, encounter_id: str, shot: Shot, *, is_light_needed: bool) -> tuple[CapturedImage, str | None]:
        """Keep one shot; also returns what is to be said of its light, if that is not as it should be."""
        light, lit_s, sentence = None, 0.0, None
        if self._lamp is not None and shot.light is not None and self._may_light():
            try:
                lit_s = self._lamp.switch(shot.light) + self._settle_s
                light = shot.light
            except LampError as error:
                if is_light_needed:
                    raise
                sentence = f"{error} The photo was taken with the light there is."
        reason = self._shots.reason_of(shot.kind) if self._shots is not None else None
        wanted = Wanted(
            shot=shot.kind,
            retake_reason=reason,
            light=light,
            exposed_after_s=lit_s,
            confirm=lambda: self._require(light),
            modality=self._cameras.modality_of(shot.modality),
        )
        return self._keep(encounter_id, wanted), sentence

    def _require(self, light: Light | None) -> None:
        if light is not None and self._lamp is not None:
            self._lamp.require(light)

    def _keep(self, encounter_id: str, wanted: Wanted) -> CapturedImage:
        image = self._captures.capture(encounter_id, self._judge, wanted)
        self._note(image)
        return image

    def _note(self, image: CapturedImage) -> None:
        if self._shots is not None:
            self._shots.kept(image)
        self._on_kept(image)

    def _may_light(self) -> bool:
        return self._lamp is not None and self._lamp.is_ready and not self._lamp.is_off_by_hand

    def _prepare(self, encounter_id: str) -> None:
        """Put the camera of the shot that comes now on the screen, and want its light."""
        if self._shots is None:
            return
        try:
            listed = self._shots.of(encounter_id)
        except EncounterClosedError:
            return  # closed meanwhile: what was kept is kept
        if listed.now is not None:
            self._cameras.select_for(listed.now.modality)
        self._light_for(listed)

    def _light_for(self, listed: ShotList) -> None:
        if self._lamp is not None:
            self._lamp.follow(listed.now.light if listed.now is not None else None)
