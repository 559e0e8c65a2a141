"""The station: one camera, one engine, the encounter on the screen and the questions about its photos.

It is what every face talks to, and knows none of them.
"""

import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.camera.selection import ROLE_NAMES, CameraRole, CameraSet
from appliance.clock import Clock, SystemClock
from appliance.config import ShotsConfig
from appliance.service.attempt import Engine
from appliance.service.capture_store import CaptureStore, MemoryCaptureStore
from appliance.service.captures import Captures
from appliance.service.earlier import EarlierPhoto, EarlierPhotos, NoEarlierPhotos, newest_or_none, photo_before
from appliance.service.engine_watch import EngineWatch, HealthSource
from appliance.service.errors import NotFoundError, NotShownError
from appliance.service.jobs import Job
from appliance.service.lamp import Lamp
from appliance.service.live_quality import LiveQuality
from appliance.service.measuring import Measuring
from appliance.service.questions import Questions
from appliance.service.screen_cameras import ScreenCameras
from appliance.service.shooting import SETTLE_S, Shooting, Taken
from appliance.service.shot_list import MODEL_SHOT
from appliance.service.shots import Shots
from appliance.service.shutter import ButtonListener, Press, Shutter
from appliance.service.visit_screen import VisitScreen
from appliance.types import CapturedImage, Encounter, Frame, KeepReason, ShotKind
from firmware_bridge.client import Dermatoscope

if TYPE_CHECKING:  # a station without the extra `records` has screens too
    from appliance.service.visits import Visits

_SHOWN_S: Final = 1.0
"""A screen that shows the live picture asks for the next frame sooner, however slow it is."""
_SAME_PRESS_S: Final = 0.7


class EngineClientLike(Engine, HealthSource, Protocol):
    """Both parts of the engine's client that a station needs."""


class Station:
    """Everything behind the screens; a context manager that owns the threads and the camera."""

    def __init__(
        self,
        camera: Camera,
        engine: EngineClientLike,
        *,
        store: CaptureStore | None = None,
        visits: "Visits | None" = None,
        clock: Clock | None = None,
        microcontroller: Dermatoscope | None = None,
        quality: LiveQuality | None = None,
        shots: ShotsConfig | None = None,
        earlier: EarlierPhotos | None = None,
        light_settle_s: float = SETTLE_S,
    ) -> None:
        self.camera = camera
        self.cameras = ScreenCameras(camera)
        self.visits = visits
        if visits is not None:
            store, earlier = visits.captures, visits.earlier
        self.earlier = earlier or NoEarlierPhotos()
        self.watch = EngineWatch(engine)
        self.captures = Captures(camera, store or MemoryCaptureStore(), clock or SystemClock())
        self.questions = Questions(engine, self.watch, visits.answers if visits is not None else None)
        self.microcontroller = microcontroller
        self.quality = quality
        self._clock = clock or SystemClock()
        self._shown_s = -_SHOWN_S
        self.lamp = Lamp(microcontroller, self._clock, self._is_shown) if microcontroller is not None else None
        has_dermatoscope = self.cameras.has_dermatoscope
        self.shots = Shots(shots, has_dermatoscope=has_dermatoscope) if shots is not None else None
        self.measuring = Measuring(self._measured, visits.derived if visits is not None else None)
        self.shooting = Shooting(
            self.captures,
            self.cameras,
            self._clock,
            shots=self.shots,
            lamp=self.lamp,
            judge=lambda content: self.quality.judge(content) if self.quality is not None else None,
            on_kept=self._kept,
            on_end=self.measuring.forget,
            settle_s=light_settle_s,
        )
        self.visit_screen = VisitScreen(self.captures, self.shooting, self.cameras, self.questions, visits)
        # With a list the screen stays, and the second press of a hand that twitched would be the next shot.
        self.shutter = Shutter(self._fire, self._clock, again_s=_SAME_PRESS_S if shots is not None else 0.0)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start."""
        self._stack.enter_context(self.watch)
        self._stack.enter_context(self.questions)
        self._stack.enter_context(self.shutter)
        self._stack.enter_context(self.measuring)
        if self.quality is not None:
            self._stack.enter_context(self.quality)
        if isinstance(self.camera, CameraSet):
            self.camera.on_press = self._camera_pressed
            self._stack.enter_context(self.camera)
        else:
            self._stack.callback(self.camera.close)
        if self.microcontroller is not None:
            self._stack.enter_context(self.microcontroller)
        if self.microcontroller is not None and self.lamp is not None:
            self._stack.enter_context(self.lamp)
            listener = ButtonListener(self.microcontroller, self.shutter.press, self._clock, time.monotonic)
            self._stack.enter_context(listener)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and let go of the camera."""
        self._stack.close()

    def open_encounter(self) -> Encounter:
        """Put a new encounter on the screen; the one before it is closed."""
        return self.visit_screen.open()

    def begin_shots(self, body_site: str | None = None, images: tuple[CapturedImage, ...] = ()) -> None:
        """Start the shot list of another lesion in the visit on the screen, as `Shots.begin` says."""
        if (current := self.captures.current) is not None:
            self.shooting.begin(current.encounter_id, body_site, images)

    def close_encounter(self, encounter_id: str) -> None:
        """End an encounter; without records its photos and answers are let go."""
        self.visit_screen.close(encounter_id)

    def lock_screen(self) -> None:
        """Hide the visit: no shutter fires, a photo on its way is discarded, and the light goes out."""
        self.captures.lock_screen()
        if self.lamp is not None:
            self.lamp.look()

    def unlock_screen(self) -> None:
        """Show the visit again, or the one that the records say is open."""
        self.visit_screen.come_back()
        self.captures.unlock_screen()

    def leave_screen(self) -> None:
        """Take the visit off the screen: somebody else is there now."""
        self.visit_screen.leave()

    def earlier_photo(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
        """Return the photo that the next one of a shot is held against, as `photo_before`."""
        capture_id = self.shots.of(encounter_id).photo_of(shot) if self.shots is not None else None
        image = self.captures.image(capture_id) if capture_id is not None else None
        return photo_before(self.earlier, image, encounter_id, shot)

    def press(self, encounter_id: str) -> Taken:
        """Fire the shutter for the shot that comes now, as `Shooting.press`; the photo's encoding starts at once."""
        return self.shooting.press(encounter_id)

    def capture(self, encounter_id: str) -> CapturedImage:
        """Do `press` and return the last photo that it kept."""
        return self.press(encounter_id).images[-1]

    def keep_held(self, encounter_id: str, capture_id: str, reason: KeepReason) -> CapturedImage:
        """Keep the photo that was held for its poor quality.

        Raises:
            DermstationError: Nothing was kept; the sentence says why.
        """
        return self.shooting.keep_held(encounter_id, capture_id, reason)

    def _kept(self, image: CapturedImage) -> None:
        self.cameras.hold_series(is_held=True)
        # Encoding takes a model that looks at the close-up as long as a question: not every view is worth it.
        if image.shot is None or image.shot == MODEL_SHOT:
            self.questions.encode(image)
        self.measure(image)

    def measure(self, image: CapturedImage) -> None:
        """Have a photo of the list on the screen measured in the background, unless it is; it is compared, too."""
        if self.shots is None or self.measuring.knows(image.capture_id):
            return
        earlier = None
        if image.shot is not None and self.shots.has(image):
            earlier = newest_or_none(self.earlier, image.encounter_id, image.shot)
        self.measuring.offer(image, earlier)

    def _measured(self) -> None:
        if self.shots is not None:
            self.shots.redraw()

    @property
    def camera_roles(self) -> tuple[CameraRole, ...]:
        """The cameras that may be put on the screen; none when there is nothing to choose."""
        return self.cameras.roles

    @property
    def selected_camera(self) -> CameraRole:
        """Whose picture is on the screen."""
        return self.cameras.selected

    def show_next_camera(self) -> None:
        """Put the next camera's picture on the screen, where there is more than one."""
        if roles := self.camera_roles:
            self.select_camera(roles[(roles.index(self.selected_camera) + 1) % len(roles)])

    def select_camera(self, role: CameraRole) -> None:
        """Put another camera's picture on the screen.

        Raises:
            NotFoundError: This box has none of that role.
        """
        self.shooting.select(role)

    def _is_shown(self) -> bool:
        """Whether somebody looks at the live picture of a visit now."""
        now_s = self._clock.monotonic_s()
        is_seen = now_s - self._shown_s <= _SHOWN_S or self.shooting.is_at_work(now_s)
        return is_seen and self.captures.current is not None and not self.captures.is_locked

    def _fire(self, press: Press) -> Taken:
        """Do for a press of a button what a touch does, for the visit that it was meant for."""
        encounter = self.captures.on_screen_at(press.pressed_s)
        if self._clock.monotonic_s() - self._shown_s > _SHOWN_S:
            raise NotShownError("The live picture is not on the screen, so no photo was kept.")
        if press.role is not None and press.role != self.selected_camera:
            # Nothing is kept unseen here either: the first press shows the picture, the next one keeps it.
            self.select_camera(press.role)
            raise NotShownError(f"The {ROLE_NAMES[press.role]} is shown now. Press again to take the photo.")
        return self.press(encounter.encounter_id)

    def _camera_pressed(self, role: CameraRole, pressed_s: float) -> None:
        self.shutter.press(Press(source="camera", pressed_s=pressed_s, role=role))

    def assess(self, capture_id: str, *, again: bool = False) -> Job:
        """Ask for a photo's assessment; `again` asks anew if it failed or was cancelled.

        Raises:
            DermstationError: The photo's visit is closed, or too much is asked at once.
        """
        image = self.captures.image(capture_id)
        return self._of_open_encounter(self.questions.assess(image, again=again, asked_by=self._asks()))

    def ask(self, capture_id: str, question: str) -> Job:
        """Ask a follow-up question about a photo.

        Raises:
            DermstationError: The photo's visit is closed, the question is empty or too long, or too much is asked.
        """
        return self._of_open_encounter(
            self.questions.ask(self.captures.image(capture_id), question, asked_by=self._asks())
        )

    def _asks(self) -> str | None:
        return self.visits.operator() if self.visits is not None else None

    def _of_open_encounter(self, job: Job) -> Job:
        """Drop a job whose encounter was closed while it was made: nobody would ever let go of its photo."""
        current = self.captures.current
        if current is None or current.encounter_id != job.encounter_id:
            self.questions.forget_encounter(job.encounter_id)
            raise NotFoundError("This photo is not kept any more: its visit is closed.")
        return job

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Return a frame newer than `after` to be shown, or None when there is none in time.

        Raises:
            CameraError: The camera is gone.
        """
        frame = self.camera.frame(after, timeout_s)
        if frame is not None:
            self._shown_s = self._clock.monotonic_s()
            if self.quality is not None:
                self.quality.offer(frame)
        return frame

    def age_ms(self, frame: Frame) -> int:
        """Return how long ago a frame was taken, in milliseconds."""
        return round((self._clock.monotonic_s() - frame.captured_s) * 1000)

    @property
    def is_replay(self) -> bool:
        """Whether the camera shows pictures of a folder instead of the patient."""
        return isinstance(self.camera, ReplayCamera)

    def next_picture(self) -> None:
        """Have a replay camera show its next picture; a real one has none."""
        if isinstance(self.camera, ReplayCamera):
            self.camera.next_picture()

    def state(self) -> dict[str, Any]:
        """Return what every screen shows of the box: `model` and `camera`, in words, and the `version`."""
        camera = self.cameras.state(self._clock.monotonic_s)
        return {"model": asdict(self.watch.status), "camera": camera, "version": version("dermstation")}
