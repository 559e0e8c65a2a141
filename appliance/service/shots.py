"""The shot list of the visit on the screen: what comes next, what is taken again and why. No camera and no light.

It lives here and not in a page: a page that is loaded anew, a second press and a button on the grip all see the same.
"""

import threading

from appliance.config import ShotsConfig
from appliance.service.errors import EncounterClosedError, NotFoundError
from appliance.service.shot_list import SHOTS, Shot, ShotList
from appliance.types import CapturedImage, Modality, RetakeReason, ShotKind


class Shots:
    """One list, of the encounter on the screen; any thread.

    Args:
        config: Which shots are wanted.
        has_dermatoscope: Whether this box can take dermoscopic images; without, they are left out of the lists.
    """

    def __init__(self, config: ShotsConfig, *, has_dermatoscope: bool = True) -> None:
        self._config = config
        self._has_dermatoscope = has_dermatoscope
        self._lock = threading.RLock()
        self._encounter_id: str | None = None
        self._list: ShotList | None = None
        self._reasons: dict[ShotKind, RetakeReason] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Another number whenever a screen has to draw the list anew."""
        return self._version

    def begin(
        self, encounter_id: str, body_site: str | None = None, images: tuple[CapturedImage, ...] = ()
    ) -> ShotList:
        """Start the list of a visit or of another lesion in it.

        Args:
            encounter_id: The visit on the screen.
            body_site: Where the lesion lies, as `[shots.sites]` of the settings calls it; None for the usual list.
            images: Photos that this lesion has already, as after a restart, in the order they were taken.
        """
        with self._lock:
            listed = ShotList.for_site(self._config, body_site)
            if not self._has_dermatoscope:
                listed = ShotList(kinds=tuple(kind for kind in listed.kinds if SHOTS[kind].modality != "DMS"))
            self._encounter_id, self._list, self._reasons = encounter_id, listed, {}
            for image in images:
                self.kept(image)
            self._version += 1
            return self._list

    def end(self) -> None:
        """Forget the list: no visit is on the screen."""
        with self._lock:
            self._encounter_id, self._list, self._reasons = None, None, {}
            self._version += 1

    def of(self, encounter_id: str) -> ShotList:
        """Return the list of a visit.

        Raises:
            EncounterClosedError: It is not the one on the screen.
        """
        with self._lock:
            if self._list is None or self._encounter_id != encounter_id:
                raise EncounterClosedError("This visit is closed.")
            return self._list

    def reason_of(self, kind: ShotKind) -> RetakeReason | None:
        """Return why a shot is being taken again; None while it is not."""
        return self._reasons.get(kind)

    def choose(self, encounter_id: str, kind: ShotKind, reason: RetakeReason | None = None) -> Shot:
        """Have the next press take a shot, for the first time or again; what it has stays kept.

        Raises:
            NotFoundError: The list does not have it.
            EncounterClosedError: The visit is not the one on the screen.
        """
        with self._lock:
            listed = self.of(encounter_id)
            if kind not in listed.kinds:
                raise NotFoundError("This photo is not on the list of this visit.")
            if reason is not None and listed.photo_of(kind) is not None:
                self._reasons[kind] = reason
            self._put(listed.retaking(kind))
            return SHOTS[kind]

    def skip(self, encounter_id: str) -> None:
        """Leave out the shot that comes now, or call a retake off.

        Raises:
            EncounterClosedError: The visit is not the one on the screen.
        """
        with self._lock:
            listed = self.of(encounter_id)
            if listed.again is not None:
                self._reasons.pop(listed.again, None)
            self._put(listed.skipping())

    def follow(self, encounter_id: str, modality: Modality) -> None:
        """Go to the first open shot of the camera that the nurse put on the screen herself, if there is one."""
        with self._lock:
            listed = self.of(encounter_id)
            if listed.now is None or listed.now.modality == modality:
                return
            kinds = [
                kind for kind in listed.kinds if listed.photo_of(kind) is None and SHOTS[kind].modality == modality
            ]
            if kinds:
                self._put(listed.retaking(kinds[0]))

    def kept(self, image: CapturedImage) -> None:
        """Take note of a photo that was kept; one beside the list only makes the screens draw it."""
        with self._lock:
            if self._list is None or image.encounter_id != self._encounter_id:
                return
            if image.shot is not None and image.shot in self._list.kinds:
                self._reasons.pop(image.shot, None)
                self._list = self._list.with_photo(image.shot, image.capture_id)
            self._version += 1

    def has(self, image: CapturedImage) -> bool:
        """Tell whether a photo is its shot's on the list now: not one that was taken again, or another lesion's."""
        with self._lock:
            listed = self._list if image.encounter_id == self._encounter_id else None
            return listed is not None and image.shot is not None and listed.photo_of(image.shot) == image.capture_id

    def redraw(self) -> None:
        """Have the screens draw the list anew: something else that stands on it has changed."""
        with self._lock:
            self._version += 1

    def _put(self, listed: ShotList) -> None:
        self._list = listed
        self._version += 1
