"""What the screens say about the records, the disk and the date: a sentence each, and where to go."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.service.clinic import Clinic

ROLE_WORDS: Final = {"nurse": "Nurse", "lead": "Lead", "clinician": "Clinician", "technician": "Technician"}
LOCKED: Final = "Photos can be taken and are kept. Earlier records cannot be read until the clinic's phrase is typed."
EMERGENCY: Final = (
    "Nobody is signed in: photos can be taken, nothing else. They are kept without a name and marked for the lead."
)
UNKEPT: Final = "Photos can be taken and looked at, but they are not kept: closing the visit lets them go."


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to know, and what can be done about it here."""

    sentence: str
    url: str = ""
    label: str = ""
    is_alarm: bool = False


def notices(clinic: Clinic) -> list[Notice]:
    """Return what home must say, the most important first."""
    opening, store = clinic.opening, clinic.store
    found: list[Notice] = []
    if store is None:
        found.append(Notice(sentence=f"{opening.found} {opening.action}", is_alarm=True))
        if clinic.is_emergency:
            found.append(Notice(sentence=UNKEPT, is_alarm=True))
        return found
    if opening.state == "read-only" or opening.photos_missing:
        found.append(Notice(sentence=f"{opening.found} {opening.action}", is_alarm=True))
    if store.is_read_only:
        found.append(Notice(sentence=UNKEPT, is_alarm=True))
    if store.damaged_subjects:
        count = len(store.damaged_subjects)
        found.append(
            Notice(sentence=f"{count} records of patients do not open. Restore the newest backup.", is_alarm=True)
        )
    if action := store.space().action:
        found.append(Notice(sentence=action, is_alarm=store.space().level == "full"))
    if clinic.is_emergency:
        if not store.is_read_only:
            found.append(Notice(sentence=EMERGENCY))
        return found
    if not store.is_unlocked:
        found.append(Notice(sentence=LOCKED, url="/unlock", label="Type the phrase"))
    if not store.is_read_only and not store.now().is_confirmed:
        found.append(Notice(sentence="The date of this box is not confirmed.", url="/date", label="Look at the date"))
    return found


def date_words(at: datetime) -> str:
    """Say a moment as people do: Sunday 22 November 2026, 10:20."""
    return f"{at:%A} {at.day} {at:%B %Y, %H:%M}"


def moment_words(text: str) -> str:
    """Say a recorded moment, ISO 8601, in the box's own time: 22 November, 10:20."""
    at = datetime.fromisoformat(text).astimezone()
    return f"{at.day} {at:%B, %H:%M}"
