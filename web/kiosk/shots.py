"""The shot list, the light and the earlier photo as the capture screen's script asks for them."""

from typing import Any, Literal

import msgspec
from flask import Blueprint, Response, jsonify, render_template, url_for

from appliance.service.errors import NotFoundError
from appliance.service.lamp import Lamp
from appliance.service.measuring_words import short_size
from appliance.service.shot_list import SHOTS, Shot, ShotList
from appliance.service.station import Station
from appliance.types import CapturedImage, Light, RetakeReason, shot_kind_of
from web.kiosk.guard import allow
from web.kiosk.requests import decoded


class _ChooseRequest(msgspec.Struct, forbid_unknown_fields=True):
    reason: RetakeReason | None = None


class _LightRequest(msgspec.Struct, forbid_unknown_fields=True):
    light: Light | None


class _LevelRequest(msgspec.Struct, forbid_unknown_fields=True):
    steps: Literal[-1, 1]


def create_shots(station: Station) -> Blueprint:
    """Build the routes; a station without a list or a lamp answers that there is none."""
    shots = Blueprint("shots", __name__)
    _add_list_routes(shots, station)
    _add_light_routes(shots, station)
    return shots


def _add_list_routes(shots: Blueprint, station: Station) -> None:
    @shots.get("/api/encounters/<encounter_id>/shots")
    @allow("capture")
    def panel(encounter_id: str) -> Response:
        return jsonify(_drawn(station, encounter_id))

    @shots.get("/api/encounters/<encounter_id>/shots.html")
    @allow("capture")
    def rows(encounter_id: str) -> str:
        """Draw the list as a document: the browser parses it as any page, and the script makes no markup from text."""
        return render_template("kiosk/shots_drawn.html", view=_view(station, encounter_id))

    @shots.post("/api/encounters/<encounter_id>/shots/<kind>")
    @allow("capture")
    def choose(encounter_id: str, kind: str) -> Response:
        known = shot_kind_of(kind)
        if known is None:
            raise NotFoundError("There is no such shot.")
        station.shooting.choose(encounter_id, known, decoded(_ChooseRequest).reason)
        return jsonify(_drawn(station, encounter_id))

    @shots.post("/api/encounters/<encounter_id>/skip")
    @allow("capture")
    def skip(encounter_id: str) -> Response:
        station.shooting.skip(encounter_id)
        return jsonify(_drawn(station, encounter_id))

    @shots.get("/encounters/<encounter_id>/earlier/<kind>")
    @allow("read")
    def earlier(encounter_id: str, kind: str) -> Response:
        known = shot_kind_of(kind)
        photo = station.earlier_photo(encounter_id, known) if known is not None else None
        if photo is None:
            raise NotFoundError("There is no earlier photo of this view.")
        return Response(photo.content, mimetype=photo.media_type)


def _add_light_routes(shots: Blueprint, station: Station) -> None:
    @shots.get("/api/light")
    @allow("capture")
    def light() -> Response:
        return jsonify(_light(_lamp(station)))

    @shots.post("/api/light")
    @allow("capture")
    def choose_light() -> Response:
        lamp = _lamp(station)
        lamp.choose(decoded(_LightRequest).light)
        return jsonify(_light(lamp))

    @shots.post("/api/light/level")
    @allow("capture")
    def change_level() -> Response:
        lamp = _lamp(station)
        lamp.change_level(decoded(_LevelRequest).steps)
        return jsonify(_light(lamp))


def panel_view(station: Station, encounter_id: str) -> dict[str, Any] | None:
    """Return what the list's template draws; None for a station without a list.

    Raises:
        EncounterClosedError: The visit is not the one on the screen.
    """
    if station.shots is None:
        return None
    listed = station.shots.of(encounter_id)
    images = {image.capture_id: image for image in station.captures.images(encounter_id)}
    for image in images.values():
        # Those of before a restart were measured by nobody yet.
        station.measure(image)
    now = listed.now
    return {
        "shots": [_row(station, listed, SHOTS[kind], images) for kind in listed.kinds],
        "photos": [_photo(station, image) for image in images.values()],
        "now": now.kind if now is not None else None,
        "is_retake": listed.again is not None and listed.photo_of(listed.again) is not None,
    }


def shots_view(station: Station, encounter_id: str) -> dict[str, Any]:
    """Return what the capture page's template needs of the list and the light."""
    view = panel_view(station, encounter_id)
    found: dict[str, Any] = {"shots": view, "light": lamp_view(station)}
    if view is not None and station.shots is not None:
        listed = station.shots.of(encounter_id)
        found |= {
            "now": now_view(station, listed, encounter_id),
            "assess_url": assess_url(listed, encounter_id, view),
            "shots_version": station.shots.version,
        }
    return found


def lamp_view(station: Station) -> dict[str, Any] | None:
    """Return what the light's template draws; None for a station without a microcontroller."""
    return _light(station.lamp) if station.lamp is not None else None


def _view(station: Station, encounter_id: str) -> dict[str, Any]:
    view = panel_view(station, encounter_id)
    if view is None:
        raise NotFoundError("This box has no list of photos.")
    return view


def _drawn(station: Station, encounter_id: str) -> dict[str, Any]:
    view = _view(station, encounter_id)
    if station.shots is None:
        raise NotFoundError("This box has no list of photos.")
    version, listed = station.shots.version, station.shots.of(encounter_id)
    return {
        "version": version,
        "count": len(view["photos"]),
        "now": now_view(station, listed, encounter_id),
        "assess_url": assess_url(listed, encounter_id, view),
    }


def now_view(station: Station, listed: ShotList, encounter_id: str) -> dict[str, Any] | None:
    """Return what the live picture says of the shot that comes now; None when the list is done."""
    shot = listed.now
    if shot is None:
        return None
    earlier = station.earlier_photo(encounter_id, shot.kind)
    earlier_url = url_for("shots.earlier", encounter_id=encounter_id, kind=shot.kind) if earlier is not None else None
    place = f"{listed.kinds.index(shot.kind) + 1} of {len(listed.kinds)}"
    return {
        "kind": shot.kind,
        "words": shot.words,
        "hint": _hint(station, listed, shot),
        "place": place,
        "earlier_url": f"{earlier_url}?of={earlier.capture_id}" if earlier is not None else None,
        "wants_card": shot.kind == "close_up",
        "wants_contact": shot.modality == "DMS",
    }


def _hint(station: Station, listed: ShotList, shot: Shot) -> str:
    """Say how a shot is taken, and which lens belongs on the camera where it is changed by hand."""
    kinds = {SHOTS[kind].modality for kind in listed.kinds}
    if not station.cameras.is_lens_changed_by_hand or "DMS" not in kinds:
        return shot.hint
    return f"{'clip the lens on' if shot.modality == 'DMS' else 'without the lens'}, {shot.hint}"


def assess_url(listed: ShotList, encounter_id: str, view: dict[str, Any]) -> str | None:
    """Return the assessment's page of the photo that stands for the lesion, or of the newest; None without a photo."""
    photos = view["photos"]
    capture_id = listed.main_photo or (photos[-1]["links"]["capture"] if photos else None)
    if capture_id is None:
        return None
    return url_for("pages.assessment", encounter_id=encounter_id, capture_id=capture_id)


def _row(station: Station, listed: ShotList, shot: Shot, images: dict[str, CapturedImage]) -> dict[str, Any]:
    image = images.get(listed.photo_of(shot.kind) or "")
    is_now = listed.now is not None and listed.now.kind == shot.kind
    if image is not None:
        note = "taking it again" if is_now else _note(station, image)
    else:
        note = "left out" if shot.kind in listed.skipped and not is_now else shot.hint
    links = _links(station, image) if image is not None else {}
    return {"kind": shot.kind, "words": shot.words, "note": note, "is_now": is_now, "links": links}


def _photo(station: Station, image: CapturedImage) -> dict[str, Any]:
    words = SHOTS[image.shot].words if image.shot is not None else "Beside the list"
    return {"words": words, "note": _note(station, image), "links": _links(station, image)}


def _links(station: Station, image: CapturedImage) -> dict[str, str]:
    """Return a photo's id and where its bytes and its ways on are; what is not there is left out."""
    place = {"encounter_id": image.encounter_id, "capture_id": image.capture_id}
    links = {
        "capture": image.capture_id,
        "image": url_for("pages.image", capture_id=image.capture_id),
        "page": _url("pages.assessment", place),
        "kind": image.shot or "",
        "words": SHOTS[image.shot].words if image.shot is not None else "Photo",
        "note": _note(station, image),
    }
    if station.measuring.card(image.capture_id) is not None:
        links["card"] = _url("measures.card", place)
    if station.measuring.comparison(image.capture_id) is not None:
        links["change"] = _url("measures.change", place)
    return links


def _url(endpoint: str, place: dict[str, str]) -> str:
    return url_for(endpoint, encounter_id=place["encounter_id"], capture_id=place["capture_id"])


def _note(station: Station, image: CapturedImage) -> str:
    size = short_size(station.measuring.card(image.capture_id))
    is_saved = station.visits is not None and station.visits.has_records()
    return " · ".join(filter(None, ("saved" if is_saved else "kept", size)))


def _lamp(station: Station) -> Lamp:
    if station.lamp is None:
        raise NotFoundError("This box has no light to switch.")
    return station.lamp


def _light(lamp: Lamp) -> dict[str, Any]:
    state = lamp.state
    return {
        "version": lamp.version,
        "state": state.state,
        "words": state.words,
        "shines": state.light is not None,
        "chosen": state.chosen,
        "level_percent": state.level_percent,
        "is_touching": state.is_touching,
        "notice": state.notice,
    }
