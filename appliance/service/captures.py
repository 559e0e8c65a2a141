"""Encounters and their photos: which visit is on the screen, and what may be kept for it.

The rule that matters most: a photo is kept only for the encounter that was on the screen when the shutter fired, from a
frame newer than 500 ms and than the encounter itself, that was not kept before. It waits for no model, no network and
no microcontroller.
Source: `web/DESIGN.md`, "A frame must be younger than the visit".
"""

import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from appliance.camera.protocol import Camera
from appliance.clock import Clock
from appliance.imaging.advice import SENTENCES, SPOILING, Advice
from appliance.service.capture_store import CaptureStore
from appliance.service.errors import EncounterClosedError, NotFoundError, PoorQualityError, StaleFrameError
from appliance.types import CapturedImage, Encounter, Frame, KeepReason, Light, Modality, RetakeReason, ShotKind

FRAME_MAX_AGE_S: Final = 0.5
_WAIT_FOR_FRAME_S: Final = 0.5
"""A camera at 2 frames/s may still be between two of them."""
_FRAMES_TRIED: Final = 3
"""The newest frame, the one that was being exposed when the visit was opened, and the one after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a photo is to be: the shot, and from when on a frame shows it."""

    shot: ShotKind | None = None
    retake_reason: RetakeReason | None = None
    light: Light | None = None
    exposed_after_s: float = 0.0
    """Frames that were taken before this moment of the monotonic clock show another light."""
    confirm: Callable[[], None] = lambda: None
    """Called once the frame is there and before it is kept; raises if the light has changed since."""
    modality: Modality | None = None
    """What it is, where the camera cannot know which lens it has on; None leaves it to the camera."""


ANY_PHOTO: Final = Wanted()


class Captures:
    """The encounter on the screen and the shutter."""

    def __init__(self, camera: Camera, store: CaptureStore, clock: Clock) -> None:
        self._camera = camera
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._current: Encounter | None = None
        self._on_screen_since_s = 0.0
        self._is_locked = False
        self._last_kept_sequence = -1
        self._held: CapturedImage | None = None
        self._held_sequence = -1

    @property
    def is_locked(self) -> bool:
        """Whether the screen hides the encounter."""
        return self._is_locked

    @property
    def current(self) -> Encounter | None:
        """The encounter on the screen, if one is open."""
        return self._current

    def on_screen_at(self, moment_s: float) -> Encounter:
        """Return the encounter on the screen, if it was there at `moment_s` of the clock's monotonic time.

        Raises:
            EncounterClosedError: There is none, it came after that, or the screen is locked.
        """
        with self._lock:
            if self._current is None:
                raise EncounterClosedError("No visit is open, so no photo was kept.")
            self._require_shutter(self._current.encounter_id)
            if moment_s <= self._on_screen_since_s:
                raise EncounterClosedError("The button was pressed before this visit was opened; no photo was kept.")
            return self._current

    def open_encounter(self) -> Encounter:
        """Put a new encounter on the screen; the one before it is closed, its photos are let go."""
        with self._lock:
            if self._current is not None:
                self.close_encounter(self._current.encounter_id)
            self._current = Encounter(encounter_id=uuid.uuid4().hex, opened_at=self._clock.now_at())
            self._on_screen_since_s = self._clock.monotonic_s()
            return self._current

    def put_on_screen(self, encounter: Encounter) -> None:
        """Put an encounter of the records on the screen again; what the camera saw before that is not kept for it."""
        with self._lock:
            self._current = encounter
            self._held = None
            self._on_screen_since_s = self._clock.monotonic_s()

    def lock_screen(self) -> None:
        """Hide the encounter: until the screen is unlocked no shutter fires, and a photo on its way is discarded."""
        with self._lock:
            self._is_locked = True
            self._held = None

    def unlock_screen(self) -> None:
        """Show the encounter again; what the camera saw before that is not kept for it."""
        with self._lock:
            if self._is_locked:
                self._is_locked = False
                self._on_screen_since_s = self._clock.monotonic_s()

    def close_encounter(self, encounter_id: str) -> None:
        """Take an encounter off the screen, if it is there, and let go of its photos."""
        with self._lock:
            if self._current is not None and self._current.encounter_id == encounter_id:
                self._current = None
                self._held = None
            self._store.forget_encounter(encounter_id)

    def capture(
        self, encounter_id: str, judge: Callable[[bytes], Advice | None] | None = None, wanted: Wanted = ANY_PHOTO
    ) -> CapturedImage:
        """Keep the camera's newest frame for an encounter.

        Args:
            encounter_id: The encounter on the screen.
            judge: Tells what is wrong with a frame; None for nothing to say.
            wanted: What the photo is to be.

        Raises:
            PoorQualityError: The frame is too poor to be judged; it is held, see `held` and `keep_held`.
            EncounterClosedError: The encounter was not on the screen when the shutter fired, left it meanwhile, or the
                screen is locked.
            StaleFrameError: The newest frame is older than 500 ms or than the encounter, or was kept before.
            UnreadablePhotoError: No decoder reads the frame.
            LampError: The light went out meanwhile.
            CameraError: The camera is gone.
            LimitError: There is no room.
        """
        self._require_shutter(encounter_id)
        self._held = None
        frame = self._fresh_frame(wanted.exposed_after_s)
        judged_from_s = self._clock.monotonic_s()
        advice = judge(frame.content) if judge is not None else None
        # A busy box judges slowly, which makes no frame older than it was when the shutter fired.
        judged_s = self._clock.monotonic_s() - judged_from_s
        image = CapturedImage(
            capture_id=uuid.uuid4().hex,
            encounter_id=encounter_id,
            content=frame.content,
            media_type=frame.media_type,
            sha256=hashlib.sha256(frame.content).hexdigest(),
            modality=wanted.modality or frame.modality,
            captured_at=self._clock.now_at(),
            quality=advice,
            shot=wanted.shot,
            retake_reason=wanted.retake_reason,
            light=wanted.light,
        )
        asked_s = self._clock.monotonic_s()
        wanted.confirm()
        judged_s += self._clock.monotonic_s() - asked_s
        with self._lock:
            # The visit may have been closed while the camera was asked: then the photo belongs to nobody.
            self._require_shutter(encounter_id)
            self._check_fresh(frame, judged_s)
            if advice in SPOILING:
                self._held, self._held_sequence = image, frame.sequence
                raise PoorQualityError(f"{SENTENCES[advice]} Take it again, or say why to keep it.")
            self._store.keep(image)
            self._last_kept_sequence = frame.sequence
        return image

    @property
    def held(self) -> CapturedImage | None:
        """The photo that waits for a reason to be kept; the next shutter, a closed visit and a lock let it go."""
        return self._held

    def keep_held(self, encounter_id: str, capture_id: str, reason: KeepReason) -> CapturedImage:
        """Keep the held photo, with the reason.

        Raises:
            EncounterClosedError: Its encounter is not on the screen any more.
            NotFoundError: It is not held any more.
            LimitError: There is no room.
        """
        with self._lock:
            self._require_shutter(encounter_id)
            held = self._held
            if held is None or (held.encounter_id, held.capture_id) != (encounter_id, capture_id):
                raise NotFoundError("This photo is not there any more. Please take it again.")
            image = replace(held, keep_reason=reason)
            self._store.keep(image)
            self._held = None
            self._last_kept_sequence = max(self._last_kept_sequence, self._held_sequence)
        return image

    def image(self, capture_id: str) -> CapturedImage:
        """Return a photo of the encounter on the screen.

        Raises:
            NotFoundError: It belongs to no open encounter.
        """
        image = self._store.get(capture_id)
        if self._current is None or image.encounter_id != self._current.encounter_id:
            raise NotFoundError("This photo is not kept any more: its visit is closed.")
        return image

    def images(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return the photos of the encounter on the screen.

        Raises:
            EncounterClosedError: It is closed.
        """
        self._require(encounter_id)
        return self._store.of_encounter(encounter_id)

    def _require(self, encounter_id: str) -> None:
        if self._current is None or self._current.encounter_id != encounter_id:
            raise EncounterClosedError("This visit is closed, so no photo was kept.")

    def _require_shutter(self, encounter_id: str) -> None:
        self._require(encounter_id)
        if self._is_locked:
            raise EncounterClosedError("The screen is locked, so no photo was kept.")

    def _fresh_frame(self, exposed_after_s: float) -> Frame:
        after, tries = self._last_kept_sequence, _FRAMES_TRIED
        while tries > 0:
            frame = self._camera.frame(after, _WAIT_FOR_FRAME_S)
            if frame is None:
                break
            if frame.captured_s > max(self._on_screen_since_s, exposed_after_s):
                self._check_fresh(frame)
                return frame
            after = frame.sequence
            # While a new light settles, frames come that nobody wants; they are not tries.
            tries -= self._clock.monotonic_s() > exposed_after_s
        raise StaleFrameError("The camera shows no new picture, so nothing was kept. Check its cable.")

    def _check_fresh(self, frame: Frame, judged_s: float = 0.0) -> None:
        age_s = self._clock.monotonic_s() - frame.captured_s - judged_s
        if age_s > FRAME_MAX_AGE_S:
            raise StaleFrameError("The camera's picture has frozen, so nothing was kept. Check its cable.")
        if frame.captured_s <= self._on_screen_since_s:
            # Who is seen on it may be the one before.
            raise StaleFrameError("The camera's picture is from before this visit, so nothing was kept. Press again.")
        if frame.sequence <= self._last_kept_sequence:
            raise StaleFrameError("This picture is kept already. Take another one.")
