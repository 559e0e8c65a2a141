"""The form for a new person: each field checked and saved as a draft as it is typed, all of it optional.

It is bound to visit, subject and operator by `records.drafts`; a form that was begun before a power cut goes on.
"""

import re
from collections.abc import Callable
from typing import Final, get_args

from appliance.errors import PromptError
from appliance.records.content import Sex, SubjectContent
from appliance.records.dating import RELEASED_AT
from appliance.records.drafts import Drafts
from appliance.records.errors import LockedError
from appliance.records.search import Hit
from appliance.records.store import RecordStore
from appliance.service.record_captures import RecordCaptureStore

PERSON_FORM: Final = "person"
OLDEST_YEARS: Final = 130
_LINE_MAX: Final = 60
FITZPATRICK: Final = ("I", "II", "III", "IV", "V", "VI")
MONK: Final = tuple(str(number) for number in range(1, 11))
_YEAR: Final = re.compile(r"\d{4}")
FIELDS: Final = ("local_number", "name", "birth_year", "sex", "skin_tone_fitzpatrick", "skin_tone_monk")


class PersonForm:
    """The unfinished forms of the visits; every method may be called from any thread."""

    def __init__(
        self, records: Callable[[], RecordStore], operator: Callable[[], str | None], photos: RecordCaptureStore
    ) -> None:
        """Take the records.

        Args:
            records: Gives the records, locked or not, or raises the sentence why there are none.
            operator: Tells who is at the screen.
            photos: Saves the visit that the form belongs to.
        """
        self._records = records
        self._operator = operator
        self._photos = photos

    def fields(self, encounter_id: str) -> dict[str, str]:
        """Return what was typed so far.

        Raises:
            LockedError: It was typed before the box was started, and the phrase was not typed since.
        """
        draft = Drafts(self._records()).open(encounter_id, PERSON_FORM, self._operator())
        return {} if draft is None else dict(draft.content.fields)

    def type(self, encounter_id: str, field: str, value: str) -> str:
        """Check one field and save the form as far as it is; an empty value clears it.

        Returns:
            The value as it was taken.

        Raises:
            PromptError: The value does not fit the field; the sentence says why.
            NotSavedError: It was not saved.
        """
        taken = self._checked(field, " ".join(value.split()))
        self._photos.ensure_visit(encounter_id)
        fields = {**self.fields(encounter_id), field: taken}
        Drafts(self._records()).save(
            encounter_id, PERSON_FORM, {name: text for name, text in fields.items() if text}, self._operator()
        )
        return taken

    def content(self, encounter_id: str) -> SubjectContent:
        """Return the person as typed; the pseudonym is the records' business.

        Raises:
            PromptError: Nothing was typed, or the number is somebody's already.
        """
        fields = self.fields(encounter_id)
        if not fields:
            raise PromptError("Nothing was filled in yet. Fill in what you know, or go back and choose Not now.")
        if taken := self.has_number(fields.get("local_number", "")):
            who = taken[0].subject.name or taken[0].subject.pseudonym
            raise PromptError(f"This number is already {who}'s. Find that person, or correct the number.")
        year, fitzpatrick, monk = (
            fields.get(name) for name in ("birth_year", "skin_tone_fitzpatrick", "skin_tone_monk")
        )
        sex: Sex = next((one for one in get_args(Sex) if one == fields.get("sex")), "unknown")
        return SubjectContent(
            pseudonym="",
            local_number=fields.get("local_number"),
            name=fields.get("name"),
            birth_year=int(year) if year else None,
            sex=sex,
            skin_tone_fitzpatrick=FITZPATRICK.index(fitzpatrick) + 1 if fitzpatrick else None,
            skin_tone_monk=int(monk) if monk else None,
        )

    def has_number(self, local_number: str) -> tuple[Hit, ...]:
        """Return who has a number already; nobody can be told while locked."""
        try:
            return self._records().find_number(local_number) if local_number else ()
        except LockedError:
            return ()

    def _checked(self, field: str, value: str) -> str:
        if field not in FIELDS:
            raise PromptError("This form has no such field.")
        if not value:
            return ""
        match field:
            case "birth_year":
                return self._year_of(value)
            case "sex" if value not in get_args(Sex):
                raise PromptError("Choose one of the answers offered.")
            case "skin_tone_fitzpatrick" if value not in FITZPATRICK:
                raise PromptError("The Fitzpatrick scale goes from I to VI.")
            case "skin_tone_monk" if value not in MONK:
                raise PromptError("The Monk scale goes from 1 to 10.")
        if len(value) > _LINE_MAX:
            raise PromptError(f"That is too long; at most {_LINE_MAX} letters fit.")
        return value

    def _year_of(self, value: str) -> str:
        # A dead clock must not refuse anybody's year.
        newest = max(self._records().now().at.year, RELEASED_AT.year)
        if not _YEAR.fullmatch(value) or not newest - OLDEST_YEARS <= int(value) <= newest:
            raise PromptError(f"The year of birth has four digits, from {newest - OLDEST_YEARS} to {newest}.")
        return value
