"""What the screens say about the records, the disk and the date: a sentence each, and where to go."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from appliance.service.clinic import Clinic

if TYPE_CHECKING:  # a station without the extra `records` has screens too
    from appliance.records.opening import Opening
    from appliance.records.store import RecordStore

ROLE_WORDS: Final = {"nurse": "Nurse", "lead": "Lead", "clinician": "Clinician", "technician": "Technician"}
LOCKED: Final = (
    "Photos can be taken and are kept. Earlier records cannot be read until they are opened, as each morning."
)
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
    store = clinic.store
    if store is None:
        found = [_alarm(f"{clinic.opening.found} {clinic.opening.action}")]
        return [*found, _alarm(UNKEPT)] if clinic.is_emergency else found
    found = _of_the_disk(clinic.opening, store)
    fob = clinic.words_of_fob()
    if fob and store.is_unlocked:
        # After what is worst of the disk, and among the two that are shown.
        found.insert(1, _alarm(fob))
    if clinic.is_emergency:
        return [*found, Notice(sentence=EMERGENCY)]
    if not store.is_unlocked:
        found.append(Notice(sentence=fob or LOCKED, url="/unlock", label="Open the records"))
    if not store.is_read_only and not store.now().is_confirmed:
        found.append(Notice(sentence="The date of this box is not confirmed.", url="/date", label="Look at the date"))
    return found


def _of_the_disk(opening: "Opening", store: "RecordStore") -> list[Notice]:
    found: list[Notice] = []
    if opening.state == "read-only" or opening.photos_missing:
        found.append(_alarm(f"{opening.found} {opening.action}"))
    if count := len(store.damaged_subjects):
        found.append(_alarm(f"{count} records of patients do not open. Restore the newest backup."))
    if action := store.space().action:
        found.append(Notice(sentence=action, is_alarm=store.space().level == "full"))
    return found


def _alarm(sentence: str) -> Notice:
    return Notice(sentence=sentence, is_alarm=True)


def date_words(at: datetime) -> str:
    """Say a moment as people do: Sunday 22 November 2026, 10:20."""
    return f"{at:%A} {at.day} {at:%B %Y, %H:%M}"


def moment_words(text: str) -> str:
    """Say a recorded moment, ISO 8601, in the box's own time: 22 November, 10:20."""
    at = datetime.fromisoformat(text).astimezone()
    return f"{at.day} {at:%B, %H:%M}"
