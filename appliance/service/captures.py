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
from dataclasses import replace
from typing import Final, Protocol

from appliance.camera.protocol import Camera
from appliance.clock import Clock
from appliance.imaging.advice import SENTENCES, SPOILING, Advice
from appliance.service.errors import EncounterClosedError, LimitError, NotFoundError, PoorQualityError, StaleFrameError
from appliance.types import CapturedImage, Encounter, Frame, KeepReason

FRAME_MAX_AGE_S: Final = 0.5
_WAIT_FOR_FRAME_S: Final = 0.5
"""A camera at 2 frames/s may still be between two of them."""
_FRAMES_TRIED: Final = 3
"""The newest frame, the one that was being exposed when the visit was opened, and the one after."""


class CaptureStore(Protocol):
    """Where kept photos lie; the encrypted store of the records will stand here."""

    def keep(self, image: CapturedImage) -> None:
        """Keep one photo; once this returns, it is kept.

        Raises:
            LimitError: There is no room.
        """

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo.

        Raises:
            NotFoundError: There is none of that id.
        """

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return an encounter's photos in the order they were taken."""

    def forget_encounter(self, encounter_id: str) -> None:
        """Let go of an encounter's photos."""


class MemoryCaptureStore:
    """Keeps photos in memory until their encounter is closed; nothing touches a disk."""

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._max_bytes = max_bytes
        self._images: dict[str, CapturedImage] = {}
        self._lock = threading.Lock()

    def keep(self, image: CapturedImage) -> None:
        """Keep one photo in memory."""
        with self._lock:
            used = sum(len(kept.content) for kept in self._images.values())
            if used + len(image.content) > self._max_bytes:
                raise LimitError("There is no room for another photo in this visit; close it and open a new one.")
            self._images[image.capture_id] = image

    def get(self, capture_id: str) -> CapturedImage:
        """Return a photo."""
        with self._lock:
            image = self._images.get(capture_id)
        if image is None:
            raise NotFoundError("This photo is not kept any more: its visit is closed.")
        return image

    def of_encounter(self, encounter_id: str) -> tuple[CapturedImage, ...]:
        """Return an encounter's photos in the order they were taken."""
        with self._lock:
            return tuple(image for image in self._images.values() if image.encounter_id == encounter_id)

    def forget_encounter(self, encounter_id: str) -> None:
        """Let go of an encounter's photos."""
        with self._lock:
            self._images = {key: image for key, image in self._images.items() if image.encounter_id != encounter_id}


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

    def capture(self, encounter_id: str, judge: Callable[[bytes], Advice | None] | None = None) -> CapturedImage:
        """Keep the camera's newest frame for an encounter.

        Args:
            encounter_id: The encounter on the screen.
            judge: Tells what is wrong with a frame; None for nothing to say.

        Raises:
            PoorQualityError: The frame is too poor to be judged; it is held, see `held` and `keep_held`.
            EncounterClosedError: The encounter was not on the screen when the shutter fired, left it meanwhile, or the
                screen is locked.
            StaleFrameError: The newest frame is older than 500 ms or than the encounter, or was kept before.
            CameraError: The camera is gone.
            LimitError: There is no room.
        """
        self._require_shutter(encounter_id)
        self._held = None
        frame = self._fresh_frame()
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
            modality=frame.modality,
            captured_at=self._clock.now_at(),
            quality=advice,
        )
        with self._lock:
            # The visit may have been closed while the camera was asked: then the photo belongs to nobody.
            self._require_shutter(encounter_id)
            self._check_fresh(frame, judged_s)
            if advice in SPOILING:
                self._held = image
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

    def _fresh_frame(self) -> Frame:
        after = self._last_kept_sequence
        for _ in range(_FRAMES_TRIED):
            frame = self._camera.frame(after, _WAIT_FOR_FRAME_S)
            if frame is None:
                break
            if frame.captured_s > self._on_screen_since_s:
                self._check_fresh(frame)
                return frame
            after = frame.sequence
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
