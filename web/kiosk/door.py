"""The door: who is at the screen. Tiles and PIN, the lock, photos without a PIN, and the box that cannot open."""

from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, jsonify, redirect, render_template, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import WrongSecretError
from appliance.records.shifts import is_shift_new
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from appliance.service.unlocking import Unlocking
from web.kiosk.access import SIGN_IN, is_this_browser, with_cookie
from web.kiosk.door_words import ROLE_WORDS, date_words, moment_words, notices
from web.kiosk.guard import allow
from web.kiosk.requests import decoded


class _SignInRequest(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str
    pin: str


class _PhraseRequest(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str
    phrase: str
    pin: str = ""


class _PinRequest(msgspec.Struct, forbid_unknown_fields=True):
    pin: str


def create_door(clinic: Clinic, station: Station, unlocking: Unlocking) -> Blueprint:
    """Build the routes of signing in and locking."""
    door = Blueprint("door", __name__)
    _add_sign_in_routes(door, clinic, station)
    _add_session_routes(door, clinic)
    _add_emergency_routes(door, clinic, station)
    _add_phrase_routes(door, clinic, unlocking)
    return door


def tell_templates(app: Flask, clinic: Clinic | None) -> None:
    """Let every template say who is signed in and what to know: `door`, None where nothing is stored."""

    def door() -> dict[str, Any]:
        if clinic is None:
            return {"door": None}
        is_theirs = is_this_browser(clinic) and clinic.session.state == "active"
        user = clinic.user if is_theirs else None
        view = {
            "clinic_name": clinic.name,
            "user": user,
            "role": ROLE_WORDS[user.role] if user else "",
            "is_at_screen": is_theirs,
            "is_emergency": is_theirs and clinic.is_emergency,
            "may": clinic.may if is_theirs else lambda _: False,
            "idle_s": clinic.session.idle_s,
            "run": clinic.run,
            "notices": notices(clinic),
            "fob": clinic.words_of_fob(),
            "demonstration": clinic.demonstration,
        }
        return {"door": view}

    app.context_processor(door)
    app.add_template_filter(date_words)
    app.add_template_filter(moment_words)


def _add_sign_in_routes(door: Blueprint, clinic: Clinic, station: Station) -> None:
    @door.get(SIGN_IN)
    @allow("nobody-signed-in")
    def sign_in() -> str | WerkzeugResponse:
        if clinic.state == "first-run":
            return redirect("/first-run", HTTPStatus.SEE_OTHER)
        if is_this_browser(clinic) and clinic.session.state == "active":
            return redirect(url_for("pages.home"), HTTPStatus.SEE_OTHER)
        if clinic.people is None:
            return render_template("kiosk/broken.html", opening=clinic.opening)
        session, visit = clinic.session, station.captures.current
        return render_template(
            "kiosk/sign_in.html",
            tiles=tiles(clinic),
            locked_id=session.user_id if session.state == "locked" else None,
            owner=clinic.owner_of_visit if visit is not None else None,
            is_read_only=clinic.opening.state == "read-only",
        )

    @door.post("/api/sign-in")
    @allow("nobody-signed-in")
    def sign_in_now() -> tuple[Response, int] | WerkzeugResponse:
        asked = decoded(_SignInRequest)
        try:
            token = clinic.sign_in(asked.user_id, asked.pin)
        except WrongSecretError as error:
            wait_s = clinic.people.wait_s(asked.user_id) if clinic.people is not None else 0.0
            return jsonify(error=str(error), wait_s=wait_s), HTTPStatus.FORBIDDEN
        return with_cookie(jsonify(go=_after_sign_in(clinic)), token)


def _after_sign_in(clinic: Clinic) -> str:
    """Return where to go: back to where it was, to the change of shift, or home."""
    if clinic.page != "/":
        return clinic.page
    store = clinic.store
    if store is None or not clinic.may("read"):
        return "/"
    with store.saver.lock:
        return "/shift" if is_shift_new(store.saver.connection) else "/"


def tiles(clinic: Clinic) -> list[dict[str, Any]]:
    """Return the people who may sign in: id, name, role in words, and how long their PIN must wait."""
    if clinic.people is None:
        return []
    return [
        {"user_id": user.user_id, "name": user.name, "role": ROLE_WORDS[user.role], "is_lead": user.role == "lead",
         "wait_s": clinic.people.wait_s(user.user_id)}
        for user in clinic.people.users()
    ]  # fmt: skip


def _add_session_routes(door: Blueprint, clinic: Clinic) -> None:
    @door.post("/lock")
    @allow("at-the-screen")
    def lock() -> WerkzeugResponse:
        if clinic.is_emergency:
            clinic.sign_out()
        clinic.lock()
        return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)

    @door.post("/sign-out")
    @allow("at-the-screen")
    def sign_out() -> WerkzeugResponse:
        clinic.sign_out()
        return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)

    @door.post("/api/touch")
    @allow("at-the-screen")
    def touch() -> Response:
        return jsonify(session_state(clinic))

    @door.post("/api/pin")
    @allow("signed-in")
    def confirm_pin() -> tuple[Response, int] | Response:
        try:
            clinic.confirm_pin(decoded(_PinRequest).pin)
        except WrongSecretError as error:
            people, user = clinic.people, clinic.user
            wait_s = people.wait_s(user.user_id) if people is not None and user is not None else 0.0
            return jsonify(error=str(error), wait_s=wait_s), HTTPStatus.FORBIDDEN
        return Response(status=HTTPStatus.NO_CONTENT)


def session_state(clinic: Clinic) -> dict[str, Any]:
    """Return what a page must know of the session: `state`, `idle_left_s`, and `run`, another one after each start."""
    session = clinic.session
    state = session.state if is_this_browser(clinic) else "signed-out"
    return {"state": state, "idle_left_s": session.idle_left_s(clinic.clock.monotonic_s()), "run": clinic.run}


def _add_emergency_routes(door: Blueprint, clinic: Clinic, station: Station) -> None:
    @door.post("/emergency")
    @allow("nobody-signed-in")
    def emergency() -> WerkzeugResponse:
        is_unkept = clinic.store is not None and clinic.store.is_read_only
        if is_unkept or clinic.state == "first-run" or (is_this_browser(clinic) and clinic.session.state == "active"):
            return redirect(url_for("pages.home"), HTTPStatus.SEE_OTHER)
        token = clinic.begin_emergency()
        encounter = station.open_encounter()
        way = redirect(url_for("pages.capture", encounter_id=encounter.encounter_id), HTTPStatus.SEE_OTHER)
        return with_cookie(way, token)


def _add_phrase_routes(door: Blueprint, clinic: Clinic, unlocking: Unlocking) -> None:
    """Where no PIN helps: a lead who was closed out, and a disk on which no guess can be counted."""

    @door.get("/lead-pin/<user_id>")
    @allow("nobody-signed-in")
    def lead_pin(user_id: str) -> str | WerkzeugResponse:
        if clinic.people is None:
            return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        return render_template("kiosk/lead_pin.html", lead=clinic.people.user(user_id))

    @door.post("/api/lead-pin")
    @allow("nobody-signed-in")
    def set_lead_pin() -> Response:
        asked = decoded(_PhraseRequest)
        unlocking.reset_lead_pin(asked.user_id, asked.phrase, asked.pin)
        return jsonify(go=SIGN_IN)

    @door.post("/api/sign-in/phrase")
    @allow("nobody-signed-in")
    def sign_in_by_phrase() -> WerkzeugResponse:
        asked = decoded(_PhraseRequest)
        return with_cookie(jsonify(go="/"), unlocking.sign_in(asked.user_id, asked.phrase))
