"""The day's routine: the date, the change of shift, locking everything, and new secrets."""

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import LockedError
from appliance.records.shifts import present_shift
from appliance.records.store import RecordStore
from appliance.records.words import new_phrase
from appliance.service.clinic import Clinic
from appliance.service.errors import NotFoundError
from appliance.service.new_secrets import NewSecrets
from appliance.service.printing import Printing
from appliance.service.unlocking import Unlocking
from web.kiosk.access import SIGN_IN, require_fresh_pin
from web.kiosk.guard import allow
from web.kiosk.requests import decoded
from web.kiosk.sheets import pdf_answer, print_sheets


class _PhraseRequest(msgspec.Struct, forbid_unknown_fields=True):
    phrase: str


class _NewPhraseRequest(msgspec.Struct, forbid_unknown_fields=True):
    phrase: str
    new_phrase: str


def create_day(clinic: Clinic, unlocking: Unlocking, printing: Printing) -> Blueprint:
    """Build the routes of the routine."""
    day = Blueprint("day", __name__)
    _add_evening_routes(day, clinic, unlocking)
    _add_date_routes(day, clinic)
    _add_shift_routes(day, clinic)
    made = NewSecrets(clinic)
    _add_secret_routes(day, clinic, unlocking, made)
    _add_sheet_routes(day, clinic, made, printing)
    return day


def _store(clinic: Clinic) -> RecordStore:
    if clinic.store is None:
        raise LockedError("There are no records on this box yet.")
    return clinic.store


def _add_evening_routes(day: Blueprint, clinic: Clinic, unlocking: Unlocking) -> None:
    @day.post("/lock-everything")
    @allow("signed-in")
    def lock_everything() -> WerkzeugResponse:
        unlocking.lock_everything()
        return redirect(SIGN_IN, 303)

    @day.get("/more")
    @allow("at-the-screen")
    def more() -> str:
        store = clinic.store
        return render_template("kiosk/more.html", is_unlocked=store is not None and store.is_unlocked)


def _add_date_routes(day: Blueprint, clinic: Clinic) -> None:
    @day.get("/date")
    @allow("signed-in")
    def date() -> str:
        moment = _store(clinic).now()
        return render_template("kiosk/date.html", now=moment.at.astimezone(), is_confirmed=moment.is_confirmed)

    @day.post("/date")
    @allow("signed-in")
    def confirm_date() -> WerkzeugResponse:
        _store(clinic).confirm_date(clinic.require_user().user_id)
        return redirect("/", 303)


def _add_shift_routes(day: Blueprint, clinic: Clinic) -> None:
    @day.get("/shift")
    @allow("read")
    def shift() -> str:
        store, people = _store(clinic), clinic.people
        with store.saver.lock:
            found = present_shift(store.saver.connection)
        if found is None or people is None:
            raise NotFoundError("Nobody has signed in yet.")
        names = {
            mark.user_id: people.user(mark.user_id).name for mark in (found.began, found.before) if mark is not None
        }
        return render_template("kiosk/shift.html", shift=found, names=names)


def _add_secret_routes(day: Blueprint, clinic: Clinic, unlocking: Unlocking, made: NewSecrets) -> None:
    """A new phrase, and new sheets for a lost one: for the lead, with the phrase or a sheet, and a fresh PIN."""

    @day.get("/secrets")
    @allow("people")
    def secrets() -> str:
        return render_template("kiosk/secrets.html")

    @day.get("/secrets/phrase")
    @allow("people")
    def phrase() -> str:
        return render_template("kiosk/new_phrase.html", words=made.offer_phrase(new_phrase()).split("-"))

    @day.post("/api/secrets/phrase")
    @allow("people")
    def change_phrase() -> Response:
        require_fresh_pin(clinic)
        asked = decoded(_NewPhraseRequest)
        unlocking.change_phrase(asked.phrase, made.typed_back(asked.new_phrase))
        return jsonify(go="/secrets")

    @day.post("/api/secrets/sheets")
    @allow("people")
    def new_sheets() -> Response:
        require_fresh_pin(clinic)
        made.keep_sheets(unlocking.new_sheets(decoded(_PhraseRequest).phrase))
        return jsonify(go="/secrets/sheets")


def _add_sheet_routes(day: Blueprint, clinic: Clinic, made: NewSecrets, printing: Printing) -> None:
    def words_now() -> list[list[str]]:
        found = made.sheets()
        if not found:
            raise NotFoundError("The words of the sheets are kept nowhere; make new sheets.")
        return [words.split("-") for words in found]

    @day.get("/secrets/sheets")
    @allow("people")
    def sheets() -> str | WerkzeugResponse:
        found = made.sheets()
        if not found:
            return redirect("/secrets", 303)
        return render_template("kiosk/new_sheets.html", sheets=[words.split("-") for words in found])

    @day.get("/secrets/sheets.pdf")
    @allow("people")
    def sheets_pdf() -> Response:
        return pdf_answer(words_now(), clinic.name, clinic.clock.now_at())

    @day.post("/api/secrets/sheets/print")
    @allow("people")
    def print_now() -> Response:
        return print_sheets(printing, words_now(), clinic.name, clinic.clock.now_at())

    @day.post("/secrets/sheets/done")
    @allow("people")
    def sheets_done() -> WerkzeugResponse:
        made.forget()
        return redirect("/more", 303)
