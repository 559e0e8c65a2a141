"""The visit on the screen, over everything that follows it: camera, shot list, light, questions, and the records.

It comes when it is opened or gone on with, and goes when it is closed or somebody else takes the screen.
"""

import logging
from typing import TYPE_CHECKING

from appliance.records.errors import RecordsError
from appliance.service.captures import Captures
from appliance.service.questions import Questions
from appliance.service.screen_cameras import ScreenCameras
from appliance.service.shooting import Shooting
from appliance.types import Encounter

if TYPE_CHECKING:  # a station without the extra `records` has screens too
    from appliance.service.visits import Visits

logger = logging.getLogger(__name__)


class VisitScreen:
    """Opens, closes and brings back; any thread.

    Args:
        captures: The encounter on the screen.
        shooting: Its shot list and light.
        cameras: Whose picture is on the screen.
        questions: What the model is asked about it.
        visits: The records of visits; None keeps nothing.
    """

    def __init__(
        self,
        captures: Captures,
        shooting: Shooting,
        cameras: ScreenCameras,
        questions: Questions,
        visits: "Visits | None",
    ) -> None:
        self._captures = captures
        self._shooting = shooting
        self._cameras = cameras
        self._questions = questions
        self._visits = visits

    def open(self) -> Encounter:
        """Put a new visit on the screen; the one before it is closed.

        Raises:
            NotSavedError: It could not be noted that the one before is closed; it stays.
        """
        if (previous := self._captures.current) is not None:
            self.close(previous.encounter_id)
        encounter = self._captures.open_encounter()
        self._shooting.begin(encounter.encounter_id)
        return encounter

    def close(self, encounter_id: str) -> None:
        """End a visit: without records its photos and answers are let go.

        Raises:
            NotSavedError: It could not be noted; it stays.
        """
        current = self._captures.current
        visits = self._kept
        if visits is not None and current is not None and current.encounter_id == encounter_id:
            visits.close(encounter_id)
        self._take_off(encounter_id)

    def leave(self) -> None:
        """Take the visit off the screen without ending it: somebody else is there now."""
        if (current := self._captures.current) is not None:
            self._take_off(current.encounter_id)

    def resume(self, encounter_id: str) -> None:
        """Put an open visit of the records on the screen; the one before it stays open and leaves.

        Raises:
            NotFoundError: It is not open, or another nurse's.
            NotSavedError: It could not be taken over.
        """
        if (visits := self._kept) is not None:
            self._put(visits.resume(encounter_id))

    def come_back(self) -> None:
        """Put the newest open visit of whoever signed in on the screen, unless there is one."""
        if (visits := self._kept) is None or self._captures.current is not None:
            return
        try:
            encounter = visits.resume_own()
        except RecordsError:
            # Nobody is kept out because a visit cannot be found: the start page says what the records are like.
            logger.exception("open visit not found")
            return
        if encounter is not None:
            self._put(encounter)

    def _put(self, encounter: Encounter) -> None:
        current = self._captures.current
        if current is not None and current.encounter_id != encounter.encounter_id:
            self.leave()
        self._captures.put_on_screen(encounter)
        self.begin_shots()

    def begin_shots(self) -> None:
        """Start the shot list of the lesion that was chosen, with the photos that it has."""
        if (current := self._captures.current) is None:
            return
        if (visits := self._kept) is None:
            self._shooting.begin(current.encounter_id)
            return
        site = visits.lesions.site_key(current.encounter_id)
        self._shooting.begin(current.encounter_id, site, visits.photos.of_lesion(current.encounter_id))

    @property
    def _kept(self) -> "Visits | None":
        """The records of visits, where there are any now."""
        return self._visits if self._visits is not None and self._visits.has_records() else None

    def _take_off(self, encounter_id: str) -> None:
        self._captures.close_encounter(encounter_id)
        self._shooting.end()
        self._cameras.hold_series(is_held=False)
        self._questions.forget_encounter(encounter_id)
        self._questions.forget_photos()
