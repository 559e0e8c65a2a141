"""The lead's screens for what opens the records besides the phrase and the sheets: key fobs, and the box PIN."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, jsonify, render_template

from appliance.service.box_pin import BoxPin
from appliance.service.clinic import Clinic
from appliance.service.errors import NotFoundError
from appliance.service.key_fobs import KeyFobs
from web.kiosk.access import lead_now
from web.kiosk.dates import day_words
from web.kiosk.guard import allow
from web.kiosk.requests import decoded
from web.kiosk.unlock import WaysIn

if TYPE_CHECKING:
    from appliance.records.held_slots import HeldSlot

FOBS = "/secrets/fobs"
PIN = "/secrets/pin"


@dataclass(frozen=True, slots=True, kw_only=True)
class FobTile:
    """One key fob in the list."""

    fob_id: str
    name: str
    made: str


class _FobRequest(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    name: str
    phrase: str


class _PinRequest(msgspec.Struct, forbid_unknown_fields=True):
    pin: str
    phrase: str


def create_keys(clinic: Clinic, ways: WaysIn) -> Blueprint:
    """Build the routes."""
    keys = Blueprint("keys", __name__)
    _add_fob_pages(keys, ways.fobs)
    _add_fob_acts(keys, clinic, ways.fobs)
    _add_pin_routes(keys, clinic, ways.pin)
    return keys


def _add_fob_pages(keys: Blueprint, fobs: KeyFobs) -> None:
    @keys.get(FOBS)
    @allow("people")
    def listed() -> str:
        return render_template("kiosk/keys/fobs.html", tiles=[_tile(held) for held in fobs.listed()])

    @keys.get(f"{FOBS}/new")
    @allow("people")
    def new() -> str:
        return render_template("kiosk/keys/new_fob.html", view=_sticks_view(fobs))

    @keys.get("/api/secrets/fobs/sticks")
    @allow("people")
    def sticks() -> Response:
        return jsonify(_sticks_view(fobs))

    @keys.get(f"{FOBS}/<fob_id>")
    @allow("people")
    def one(fob_id: str) -> str:
        tile = next((_tile(held) for held in fobs.listed() if held.slot.slot_id == fob_id), None)
        if tile is None:
            raise NotFoundError("This key fob is not on the list any more.")
        return render_template("kiosk/keys/fob.html", tile=tile)


def _add_fob_acts(keys: Blueprint, clinic: Clinic, fobs: KeyFobs) -> None:
    @keys.post("/api/secrets/fobs")
    @allow("people")
    def make() -> Response:
        lead_now(clinic)
        asked = decoded(_FobRequest)
        fobs.make(asked.phrase, asked.path, asked.name)
        return jsonify(go=FOBS)

    @keys.post("/api/secrets/fobs/<fob_id>/revoke")
    @allow("people")
    def revoke(fob_id: str) -> Response:
        lead_now(clinic)
        fobs.revoke(fob_id)
        return jsonify(go=FOBS)


def _add_pin_routes(keys: Blueprint, clinic: Clinic, box_pin: BoxPin) -> None:
    @keys.get(PIN)
    @allow("people")
    def pin() -> str:
        held = box_pin.slot()
        return render_template(
            "kiosk/keys/pin.html", made=_tile(held).made if held is not None else None, chip_trouble=box_pin.trouble()
        )

    @keys.post("/api/secrets/pin")
    @allow("people")
    def turn_on() -> Response:
        lead_now(clinic)
        asked = decoded(_PinRequest)
        box_pin.turn_on(asked.phrase, asked.pin)
        return jsonify(go=PIN)

    @keys.post("/api/secrets/pin/off")
    @allow("people")
    def turn_off() -> Response:
        lead_now(clinic)
        box_pin.turn_off()
        return jsonify(go=PIN)


def _tile(held: "HeldSlot") -> FobTile:
    made = day_words(datetime.fromisoformat(held.made_at), is_confirmed=held.is_date_confirmed)
    return FobTile(fob_id=held.slot.slot_id, name=held.name, made=made)


def _sticks_view(fobs: KeyFobs) -> dict[str, Any]:
    return {
        "sticks": [
            {
                "path": str(stick.path),
                "label": stick.label,
                "words": "can become a key fob" if stick.is_writable else "takes no writes",
                "is_writable": stick.is_writable,
            }
            for stick in fobs.sticks()
        ]
    }
