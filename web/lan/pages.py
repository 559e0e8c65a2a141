"""The pages of the network: how the box is, signing in with the PIN, and the day's visits to read."""

from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, Response, g, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import MissingError, RecordsError
from appliance.records.store import RecordStore
from appliance.service.clinic import Clinic
from appliance.service.lan_sessions import LanSessions
from appliance.service.station import Station
from appliance.service.visit_reading import VisitReading
from web.kiosk.app import status_of
from web.kiosk.guard import allow
from web.lan.access import SESSION_COOKIE, SIGN_IN, drop_cookie, set_cookie


def create_pages(station: Station, clinic: Clinic | None, sessions: LanSessions | None) -> Blueprint:
    """Make the blueprint; without records there is only the first page."""
    pages = Blueprint("lan", __name__)
    readings: dict[RecordStore, VisitReading] = {}

    def reading() -> VisitReading:
        if clinic is None or clinic.store is None:
            raise MissingError("The records of this box are not open. Look at the box itself.")
        return readings.setdefault(clinic.store, VisitReading(clinic.store))

    @pages.get("/")
    @allow("nobody-signed-in")
    def home() -> str | WerkzeugResponse:
        if g.device is None:
            return render_template("lan/stranger.html", state=station.state())
        if g.user is None:
            return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        if clinic is None or clinic.store is None or not clinic.store.is_unlocked:
            return render_template(
                "lan/sentence.html",
                title="The records are locked",
                sentence="Have the clinic's phrase typed on the box; then they can be read here.",
            )
        return render_template("lan/day.html", day=reading().day(), user=g.user)

    if clinic is not None and sessions is not None:
        _add_people(pages, sessions)
        _add_visits(pages, reading)
    return pages


def _add_people(pages: Blueprint, sessions: LanSessions) -> None:
    @pages.get(SIGN_IN)
    @allow("paired")
    def sign_in() -> str:
        return render_template("lan/sign_in.html", people=sessions.people(), device=g.device, chosen="", sentence="")

    @pages.post(SIGN_IN)
    @allow("paired")
    def signed_in() -> WerkzeugResponse | tuple[str, int]:
        chosen = request.form.get("user_id", "")
        try:
            secret = sessions.sign_in(g.device, chosen, request.form.get("pin", ""))
        except RecordsError as error:
            page = render_template(
                "lan/sign_in.html", people=sessions.people(), device=g.device, chosen=chosen, sentence=str(error)
            )
            return page, status_of(error)
        response = redirect("/", HTTPStatus.SEE_OTHER)
        set_cookie(response, SESSION_COOKIE, secret)
        return response

    @pages.post("/sign-out")
    @allow("paired")
    def sign_out() -> WerkzeugResponse:
        sessions.sign_out(g.device)
        response = redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        drop_cookie(response, SESSION_COOKIE)
        return response


def _add_visits(pages: Blueprint, reading: Callable[[], VisitReading]) -> None:
    @pages.get("/visits/<encounter_id>")
    @allow("read")
    def visit(encounter_id: str) -> str:
        read = reading().visit(encounter_id, g.user, g.device.device_id)
        return render_template("lan/visit.html", visit=read, user=g.user)

    @pages.get("/visits/<encounter_id>/photos/<capture_id>")
    @allow("read")
    def photo(encounter_id: str, capture_id: str) -> Response:
        content, media_type = reading().photo(encounter_id, capture_id, g.user, g.device.device_id)
        return Response(content, mimetype=media_type)
