"""A box that sets itself up to be looked at: random secrets, two people, and nothing that outlives its folder.

The only place where secrets are shown on a screen; a clinic's box is set up by `first_run`.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from appliance.clock import Clock
from appliance.records.errors import WrongSecretError
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.pins import PIN_DIGITS, check_pin
from appliance.records.setup import SetUpAnswers, complete, prepare
from appliance.service.clinic import Clinic

_LEAD = "Demonstration lead"
_NURSE = "Demonstration nurse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What a demonstration shows on its screens."""

    pins: dict[str, str]
    """By user_id."""
    phrase: str


def demonstration_clinic(folder: Path, *, clock: Clock, idle_s: float) -> Clinic:
    """Set up an empty folder and return its clinic, unlocked.

    Raises:
        ForbiddenError: The folder holds records already.
        CannotOpenError, NotSavedError, OSError: The folder or the disk does not take it.
    """
    made, lead_pin, nurse_pin = prepare(), random_pin(), random_pin()
    answers = SetUpAnswers(
        clinic_name="Demonstration clinic",
        phrase=made.phrase,
        typed_sheets=made.sheets,
        lead_name=_LEAD,
        lead_pin=lead_pin,
    )
    store = complete(folder, made, answers, clock=clock)
    people = People(store, clock=clock)
    lead = people.users()[0]
    nurse = people.add(_NURSE, "nurse", nurse_pin, lead)
    opening = Opening(state="ready", found="The records are open.", store=store)
    clinic = Clinic(opening, clock=clock, folder=folder, idle_s=idle_s)
    clinic.demonstration = Demonstration(pins={lead.user_id: lead_pin, nurse.user_id: nurse_pin}, phrase=made.phrase)
    return clinic


def random_pin() -> str:
    """Draw a PIN that is not too easy."""
    while True:
        pin = "".join(secrets.choice("0123456789") for _ in range(PIN_DIGITS))
        try:
            check_pin(pin)
        except WrongSecretError:
            continue
        return pin
