"""The lead's screens for people: who may sign in, with which role, and a new PIN for whom it is needed."""

from typing import Final

import msgspec
from flask import Blueprint, Response, jsonify, render_template

from appliance.records.errors import LockedError
from appliance.records.people import People
from appliance.records.users import Role
from appliance.service.clinic import Clinic
from web.kiosk.access import lead_now
from web.kiosk.door import tiles
from web.kiosk.door_words import ROLE_WORDS
from web.kiosk.guard import allow
from web.kiosk.requests import decoded

ROLE_HINTS: Final[dict[Role, str]] = {
    "nurse": "takes photos, reads records, makes backups",
    "lead": "also exports, erases, adds people and devices",
    "clinician": "reads what was referred, over the clinic's network",
    "technician": "looks after the box; reads no record",
}


class _AddRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    role: Role
    pin: str


class _RoleRequest(msgspec.Struct, forbid_unknown_fields=True):
    role: Role


class _PinRequest(msgspec.Struct, forbid_unknown_fields=True):
    pin: str


def create_people(clinic: Clinic) -> Blueprint:
    """Build the routes of the users."""
    blueprint = Blueprint("people", __name__)
    _add_pages(blueprint, clinic)
    _add_acts(blueprint, clinic)
    return blueprint


def _add_pages(blueprint: Blueprint, clinic: Clinic) -> None:
    @blueprint.get("/people")
    @allow("people")
    def everybody() -> str:
        return render_template("kiosk/people.html", tiles=tiles(clinic))

    @blueprint.get("/people/new")
    @allow("people")
    def new() -> str:
        return render_template("kiosk/person_new.html", roles=ROLE_WORDS, hints=ROLE_HINTS)

    @blueprint.get("/people/<user_id>")
    @allow("people")
    def person(user_id: str) -> str:
        people = _people(clinic)
        return render_template(
            "kiosk/person.html",
            person=people.user(user_id),
            wait_s=people.wait_s(user_id),
            is_only_lead=[user.user_id for user in people.users() if user.role == "lead"] == [user_id],
            roles=ROLE_WORDS,
            hints=ROLE_HINTS,
        )


def _add_acts(blueprint: Blueprint, clinic: Clinic) -> None:
    """Each asks for the lead's PIN, typed just now: a screen left open must give nobody away."""

    @blueprint.post("/api/people")
    @allow("people")
    def add() -> Response:
        lead, asked = lead_now(clinic), decoded(_AddRequest)
        _people(clinic).add(asked.name, asked.role, asked.pin, lead)
        return jsonify(go="/people")

    @blueprint.post("/api/people/<user_id>/role")
    @allow("people")
    def change_role(user_id: str) -> Response:
        lead, asked = lead_now(clinic), decoded(_RoleRequest)
        _people(clinic).change_role(user_id, asked.role, lead)
        return _done(clinic, user_id)

    @blueprint.post("/api/people/<user_id>/pin")
    @allow("people")
    def reset_pin(user_id: str) -> Response:
        lead, asked = lead_now(clinic), decoded(_PinRequest)
        _people(clinic).reset_pin(user_id, asked.pin, lead)
        return jsonify(go="/people")

    @blueprint.post("/api/people/<user_id>/remove")
    @allow("people")
    def remove(user_id: str) -> Response:
        lead = lead_now(clinic)
        _people(clinic).remove(user_id, lead)
        return _done(clinic, user_id)


def _people(clinic: Clinic) -> People:
    if clinic.people is None:
        raise LockedError("There are no users on this box yet.")
    return clinic.people


def _done(clinic: Clinic, user_id: str) -> Response:
    """Go back to the list, or out, where somebody has changed their own rights."""
    user = clinic.user
    if user is not None and user.user_id == user_id:
        clinic.sign_out()
        return jsonify(go="/sign-in")
    return jsonify(go="/people")
