"""The lead's screens for phones: which are paired, letting one in by a code on the screen, and shutting one out."""

from dataclasses import dataclass
from typing import Final

import segno
from flask import Blueprint, Response, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records import devices
from appliance.records.devices import Device
from appliance.records.errors import LockedError
from appliance.records.store import RecordStore
from appliance.service.clinic import Clinic
from appliance.service.errors import NotFoundError
from appliance.service.pairing import Pairing
from web.kiosk.access import lead_now
from web.kiosk.door_words import date_words
from web.kiosk.guard import allow
from web.lan.face import LanFace
from web.lan.pairing_pages import PAIR

DEVICES: Final = "/devices"
PAIRING: Final = "/devices/pairing"
_PAIRS_A_LINE: Final = 8
_QUIET_MODULES: Final = 3
"""Light border, in modules; the page around it is light too. Source: ISO/IEC 18004, 6.3.8, asks for four in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTile:
    """One phone on the screen."""

    device_id: str
    name: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QrCode:
    """A code to draw: `path` covers the dark modules of a square of `modules` units."""

    modules: int
    path: str


def create_devices(clinic: Clinic, lan: LanFace | None) -> Blueprint:
    """Build the routes; without the network there is only the page that says how to let phones in."""
    blueprint = Blueprint("devices", __name__)

    @blueprint.get(DEVICES)
    @allow("people")
    def everybody() -> str:
        state = lan.state() if lan is not None else None
        return render_template("kiosk/devices.html", tiles=_tiles(clinic, lan), lan=state)

    if lan is not None and lan.pairing is not None:
        _add_acts(blueprint, clinic, lan)
        _add_pairing(blueprint, clinic, lan, lan.pairing)
    return blueprint


def _add_acts(blueprint: Blueprint, clinic: Clinic, lan: LanFace) -> None:
    @blueprint.get("/devices/<device_id>")
    @allow("people")
    def device(device_id: str) -> str:
        tile = next((tile for tile in _tiles(clinic, lan) if tile.device_id == device_id), None)
        if tile is None:
            raise NotFoundError("This phone is not paired any more.")
        return render_template("kiosk/device.html", tile=tile)

    @blueprint.post("/api/devices/<device_id>/revoke")
    @allow("people")
    def revoke(device_id: str) -> Response:
        lan.revoke(device_id, lead_now(clinic))
        return jsonify(go=DEVICES)


def _add_pairing(blueprint: Blueprint, clinic: Clinic, lan: LanFace, pairing: Pairing) -> None:
    @blueprint.post("/api/devices/offer")
    @allow("people")
    def offer() -> Response:
        pairing.make_offer(lead_now(clinic))
        return jsonify(go=PAIRING)

    @blueprint.get(PAIRING)
    @allow("people")
    def pair() -> str | WerkzeugResponse:
        asking, offered, state = pairing.asking, pairing.offer, lan.state()
        if asking is not None:
            return render_template("kiosk/device_asks.html", asking=asking)
        if offered is None or state.problem:
            return redirect(DEVICES, 303)
        is_by_address = bool(state.by_address) and request.args.get("by") == "address"
        place = state.by_address if is_by_address else state.by_name
        pairs = state.fingerprint.split(":")
        return render_template(
            "kiosk/device_pair.html",
            lan=state,
            place=place,
            is_by_address=is_by_address,
            guide_code=_code(f"http://{place}/"),
            pair_code=_code(f"https://{place}{PAIR}#{offered.token}"),
            lines=[pairs[at : at + _PAIRS_A_LINE] for at in range(0, len(pairs), _PAIRS_A_LINE)],
        )

    @blueprint.get("/api/devices/pairing")
    @allow("people")
    def pairing_state() -> Response:
        asking = pairing.asking
        if asking is not None:
            return jsonify(state="asking", asking_id=asking.asking_id)
        return jsonify(state="offered" if pairing.offer is not None else "over")

    @blueprint.post("/api/devices/asking/<asking_id>/approve")
    @allow("people")
    def approve(asking_id: str) -> Response:
        pairing.approve(asking_id, _store(clinic), lead_now(clinic))
        return jsonify(go=DEVICES)

    @blueprint.post("/api/devices/asking/<asking_id>/refuse")
    @allow("people")
    def refuse(asking_id: str) -> Response:
        pairing.refuse(asking_id)
        return jsonify(go=DEVICES)

    @blueprint.post("/api/devices/withdraw")
    @allow("people")
    def withdraw() -> Response:
        pairing.withdraw()
        return jsonify(go=DEVICES)


def _tiles(clinic: Clinic, lan: LanFace | None) -> list[DeviceTile]:
    seen = lan.sessions.last_seen() if lan is not None and lan.sessions is not None else {}

    def hint(device: Device) -> str:
        at = seen.get(device.device_id)
        return f"last here {date_words(at.astimezone())}" if at is not None else "never here yet"

    return [
        DeviceTile(device_id=device.device_id, name=device.name, hint=hint(device))
        for device in reversed(devices.devices(_store(clinic)))
        if not device.is_revoked
    ]


def _code(text: str) -> QrCode:
    """Draw a QR code with its quiet zone, one module a unit."""
    rows = [bytes(row) for row in segno.make(text, error="m", micro=False).matrix_iter(border=_QUIET_MODULES)]
    dark = (f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark)
    return QrCode(modules=len(rows), path="".join(dark))


def _store(clinic: Clinic) -> RecordStore:
    if clinic.store is None:
        raise LockedError("There are no records on this box yet.")
    return clinic.store
