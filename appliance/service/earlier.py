"""Photos of earlier visits: what lies half-transparent over the live picture, and what a new photo is compared with.

The protocol is what the screens ask; `visits` answers it from the records, and without records there is nobody to ask.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from appliance.errors import DermstationError
from appliance.types import CapturedImage, MediaType, ShotKind

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPhoto:
    """One photo to compare with; its bytes are the camera's."""

    capture_id: str
    content: bytes = field(repr=False)
    media_type: MediaType
    captured_at: datetime
    """UTC."""
    is_date_confirmed: bool = True
    """Whether the box's date could be believed then."""
    shot: ShotKind
    is_same_visit: bool = False
    """Whether it is only the photo that is being taken again."""


class EarlierPhotos(Protocol):
    """The photos of the lesion on the screen that were taken in visits before this one."""

    def newest(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
        """Return the newest earlier photo of the lesion and the view; any thread.

        Args:
            encounter_id: The visit on the screen; the lesion is the one chosen in it.
            shot: The view.

        Returns:
            The photo; None when there is none, no lesion was chosen, or the records cannot be read now.
        """


class NoEarlierPhotos:
    """What a station without records knows of earlier visits."""

    def newest(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
        """Return None."""
        del encounter_id, shot
        return None


def newest_or_none(earlier: EarlierPhotos, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
    """Return `EarlierPhotos.newest`, or None when the records cannot say: a photo is kept all the same."""
    try:
        return earlier.newest(encounter_id, shot)
    except DermstationError as error:
        logger.warning("earlier photo not looked up: %s", error)
        return None


def photo_before(
    earlier: EarlierPhotos, image: CapturedImage | None, encounter_id: str, shot: ShotKind
) -> EarlierPhoto | None:
    """Return the photo that the next one of a shot is held against.

    Args:
        earlier: Asked first.
        image: What this visit's list has of the shot: where there is no other, the one that is taken again will do.
        encounter_id: The visit on the screen.
        shot: The view.
    """
    found = newest_or_none(earlier, encounter_id, shot)
    if found is not None or image is None:
        return found
    return EarlierPhoto(
        capture_id=image.capture_id,
        content=image.content,
        media_type=image.media_type,
        captured_at=image.captured_at,
        shot=shot,
        is_same_visit=True,
    )
