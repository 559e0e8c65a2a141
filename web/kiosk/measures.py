"""What was measured of a kept photo: the card's screen and the screen of the change since the visit before."""

from typing import Any

from flask import Blueprint, Response, jsonify, render_template, url_for

from appliance.imaging.findings import ChangeFinding
from appliance.service.earlier import EarlierPhoto
from appliance.service.errors import NotFoundError
from appliance.service.measuring import Comparison
from appliance.service.measuring_words import NO_DIAMETER, card_rows, change_rows, change_sentence
from appliance.service.shot_list import SHOTS
from appliance.service.station import Station
from appliance.types import CapturedImage
from web.kiosk.dates import day_words
from web.kiosk.guard import allow


def create_measures(station: Station) -> Blueprint:
    """Build the routes."""
    measures = Blueprint("measures", __name__)
    measures.context_processor(lambda: {"state": station.state()})
    _add_card_routes(measures, station)
    _add_change_routes(measures, station)
    return measures


def _add_card_routes(measures: Blueprint, station: Station) -> None:
    @measures.get("/encounters/<encounter_id>/captures/<capture_id>/card")
    @allow("capture")
    def card(encounter_id: str, capture_id: str) -> str:
        image = _image(station, encounter_id, capture_id)
        finding = station.measuring.card(capture_id)
        if finding is None:
            raise NotFoundError("The card was not seen on this photo.")
        return render_template(
            "kiosk/card.html",
            encounter_id=encounter_id,
            title=_title(image),
            image_url=url_for("pages.image", capture_id=capture_id),
            balanced_url=url_for("measures.balanced", encounter_id=encounter_id, capture_id=capture_id),
            has_balance=finding.gains is not None,
            rows=card_rows(finding),
            sentence=NO_DIAMETER if finding.long_diameter_mm is None else None,
        )

    @measures.get("/encounters/<encounter_id>/captures/<capture_id>/balanced")
    @allow("capture")
    def balanced(encounter_id: str, capture_id: str) -> Response:
        return Response(station.measuring.balanced(_image(station, encounter_id, capture_id)), mimetype="image/jpeg")


def _add_change_routes(measures: Blueprint, station: Station) -> None:
    @measures.get("/encounters/<encounter_id>/captures/<capture_id>/change")
    @allow("read")
    def change(encounter_id: str, capture_id: str) -> str:
        image = _image(station, encounter_id, capture_id)
        comparison = _comparison(station, capture_id)
        return render_template(
            "kiosk/change.html",
            encounter_id=encounter_id,
            title=_title(image),
            image_url=url_for("pages.image", capture_id=capture_id),
            earlier_url=url_for("measures.compared", encounter_id=encounter_id, capture_id=capture_id),
            earlier_on=_day(comparison.earlier),
            state_url=url_for("measures.change_state", encounter_id=encounter_id, capture_id=capture_id),
            told=_told(comparison),
        )

    @measures.get("/api/encounters/<encounter_id>/captures/<capture_id>/change")
    @allow("read")
    def change_state(encounter_id: str, capture_id: str) -> Response:
        _image(station, encounter_id, capture_id)
        return jsonify(_told(_comparison(station, capture_id)))

    @measures.get("/encounters/<encounter_id>/captures/<capture_id>/compared")
    @allow("read")
    def compared(encounter_id: str, capture_id: str) -> Response:
        _image(station, encounter_id, capture_id)
        earlier = _comparison(station, capture_id).earlier
        return Response(earlier.content, mimetype=earlier.media_type)


def _image(station: Station, encounter_id: str, capture_id: str) -> CapturedImage:
    image = station.captures.image(capture_id)
    if image.encounter_id != encounter_id:
        raise NotFoundError("This photo belongs to another visit.")
    return image


def _comparison(station: Station, capture_id: str) -> Comparison:
    comparison = station.measuring.comparison(capture_id)
    if comparison is None:
        raise NotFoundError("There is no earlier photo of this view to compare with.")
    return comparison


def _day(earlier: EarlierPhoto) -> str:
    return day_words(earlier.captured_at, is_confirmed=earlier.is_date_confirmed)


def _title(image: CapturedImage) -> str:
    return SHOTS[image.shot].words if image.shot is not None else "Photo"


def _told(comparison: Comparison) -> dict[str, Any]:
    """Return what the screen shows of a comparison: rows of name and words, a sentence, and how to lay one over."""
    return {
        "is_working": comparison.state == "working",
        "rows": change_rows(comparison),
        "sentence": change_sentence(comparison),
        "to_later": _matrix(comparison.change),
    }


def _matrix(change: ChangeFinding | None) -> list[float] | None:
    return list(change.to_later) if change is not None else None
