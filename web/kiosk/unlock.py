"""The morning unlock: by the phrase, a key fob, the box PIN or a recovery sheet, for whoever is signed in."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import WrongSecretError
from appliance.service.box_pin import BoxPin
from appliance.service.clinic import Clinic
from appliance.service.key_fobs import KeyFobs
from appliance.service.sheet_reader import SheetReader
from appliance.service.unlocking import Unlocking
from web.kiosk.access import require_fresh_pin
from web.kiosk.guard import allow
from web.kiosk.requests import decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysIn:
    """What opens the records."""

    unlocking: Unlocking
    fobs: KeyFobs
    pin: BoxPin
    sheets: SheetReader


class _PhraseRequest(msgspec.Struct, forbid_unknown_fields=True):
    phrase: str


class _PinRequest(msgspec.Struct, forbid_unknown_fields=True):
    pin: str


def create_unlock(clinic: Clinic, ways: WaysIn) -> Blueprint:
    """Build the routes."""
    unlock = Blueprint("unlock", __name__)
    _add_page(unlock, clinic, ways)
    _add_acts(unlock, clinic, ways)
    return unlock


def _add_page(unlock: Blueprint, clinic: Clinic, ways: WaysIn) -> None:
    @unlock.get("/unlock")
    @allow("signed-in")
    def page() -> str | WerkzeugResponse:
        if clinic.records().is_unlocked:
            return redirect("/", 303)
        return render_template(
            "kiosk/unlock.html",
            wait_s=ways.unlocking.wait_s,
            has_fobs=bool(ways.fobs.listed()),
            has_pin=ways.pin.slot() is not None,
            fob=_fob_view(ways.fobs),
        )

    @unlock.get("/unlock/sheet")
    @allow("signed-in")
    def sheet() -> str | WerkzeugResponse:
        if clinic.records().is_unlocked:
            return redirect("/", 303)
        return render_template("kiosk/unlock_sheet.html")

    @unlock.get("/api/fob")
    @allow("signed-in")
    def fob() -> Response:
        return jsonify(_fob_view(ways.fobs))


def _add_acts(unlock: Blueprint, clinic: Clinic, ways: WaysIn) -> None:
    def opened(act: Callable[[], None]) -> tuple[Response, int] | Response:
        """Open the records, or say how long the next guess has to wait."""
        try:
            act()
        except WrongSecretError as error:
            return jsonify(error=str(error), wait_s=ways.unlocking.wait_s), HTTPStatus.FORBIDDEN
        clinic.touch()
        return jsonify(go="/")

    @unlock.post("/api/unlock")
    @allow("signed-in")
    def by_phrase() -> tuple[Response, int] | Response:
        phrase = decoded(_PhraseRequest).phrase
        return opened(lambda: ways.unlocking.unlock(phrase))

    @unlock.post("/api/unlock/fob")
    @allow("signed-in")
    def by_fob() -> tuple[Response, int] | Response:
        # Fob and PIN: a fob that was found, at a screen that was left open, opens nothing.
        require_fresh_pin(clinic)
        return opened(ways.fobs.unlock)

    @unlock.post("/api/unlock/pin")
    @allow("signed-in")
    def by_pin() -> tuple[Response, int] | Response:
        pin = decoded(_PinRequest).pin
        return opened(lambda: ways.pin.unlock(pin))

    @unlock.post("/api/unlock/sheet")
    @allow("signed-in")
    def by_camera() -> tuple[Response, int] | Response:
        found: list[bool] = []
        answer = opened(lambda: found.append(ways.sheets.look()))
        return jsonify(go=None) if found == [False] else answer


def _fob_view(fobs: KeyFobs) -> dict[str, Any]:
    found = fobs.in_box()
    return {"state": found.state, "words": found.words, "say": fobs.words_of_box()}
