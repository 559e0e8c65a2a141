"""The kiosk's pages: home, capture and assessment."""

from http import HTTPStatus

from flask import Blueprint, Response, redirect, render_template, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.assessment import FOLLOW_UP_QUESTIONS
from appliance.imaging.advice import SENTENCES
from appliance.service.errors import NotFoundError
from appliance.service.station import Station
from appliance.types import CapturedImage
from web.kiosk.guard import allow
from web.kiosk.home import records_words, waiting_visits
from web.kiosk.shots import shots_view


def create_pages(station: Station) -> Blueprint:
    """Build the pages' routes."""
    pages = Blueprint("pages", __name__)
    pages.context_processor(lambda: {"state": station.state()})
    _add_visit_routes(pages, station)
    _add_photo_routes(pages, station)
    return pages


def _add_visit_routes(pages: Blueprint, station: Station) -> None:
    @pages.get("/")
    @allow("at-the-screen")
    def home() -> str:
        current = station.captures.current
        return render_template(
            "kiosk/home.html",
            encounter_id=current.encounter_id if current else None,
            waiting=waiting_visits(station),
            records=records_words(station),
        )

    @pages.post("/encounters")
    @allow("capture")
    def open_encounter() -> WerkzeugResponse:
        encounter = station.open_encounter()
        first = "visits.who" if station.visits is not None and station.visits.has_records() else "pages.capture"
        return redirect(url_for(first, encounter_id=encounter.encounter_id), HTTPStatus.SEE_OTHER)

    @pages.post("/encounters/<encounter_id>/close")
    @allow("capture")
    def close_encounter(encounter_id: str) -> WerkzeugResponse:
        station.close_encounter(encounter_id)
        return redirect(url_for("pages.home"), HTTPStatus.SEE_OTHER)

    @pages.get("/encounters/<encounter_id>")
    @allow("capture")
    def capture(encounter_id: str) -> str:
        _require_open(station, encounter_id)
        images = station.captures.images(encounter_id)
        captures = [{**capture_links(image), "label": f"Photo {n}"} for n, image in enumerate(images, 1)]
        return render_template(
            "kiosk/capture.html",
            encounter_id=encounter_id,
            captures=captures,
            is_replay=station.is_replay,
            has_other_camera=len(station.camera_roles) > 1,
            presses=station.shutter.outcome.number,
            sentences=SENTENCES,
            **shots_view(station, encounter_id),
        )


def _add_photo_routes(pages: Blueprint, station: Station) -> None:
    @pages.get("/encounters/<encounter_id>/captures/<capture_id>")
    @allow("assess")
    def assessment(encounter_id: str, capture_id: str) -> str:
        _require_open(station, encounter_id)
        image = station.captures.image(capture_id)
        number = station.captures.images(encounter_id).index(image) + 1
        return render_template(
            "kiosk/assessment.html",
            encounter_id=encounter_id,
            capture_id=capture_id,
            image_url=capture_links(image)["image_url"],
            questions=FOLLOW_UP_QUESTIONS,
            answers=[{"job_id": job.job_id, "question": job.question} for job in station.questions.follow_ups(image)],
            capture_label=f"Photo {number}",
        )

    @pages.get("/captures/<capture_id>/image")
    @allow("capture")
    def image(capture_id: str) -> Response:
        kept = station.captures.image(capture_id)
        return Response(kept.content, mimetype=kept.media_type)


def capture_links(image: CapturedImage) -> dict[str, str]:
    """Return a photo's id and where its bytes and its page are."""
    return {
        "capture_id": image.capture_id,
        "image_url": url_for("pages.image", capture_id=image.capture_id),
        "page_url": url_for("pages.assessment", encounter_id=image.encounter_id, capture_id=image.capture_id),
    }


def _require_open(station: Station, encounter_id: str) -> None:
    current = station.captures.current
    if current is None or current.encounter_id != encounter_id:
        raise NotFoundError("This visit is closed.")
