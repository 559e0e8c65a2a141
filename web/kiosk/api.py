"""What the kiosk's pages call: state, preview, shutter, questions, and the event stream of an answer."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Blueprint, Response, jsonify, request

from appliance.service.clinic import Clinic
from appliance.service.errors import PoorQualityError
from appliance.service.jobs import Job
from appliance.service.station import Station
from appliance.types import KeepReason
from web.kiosk.access import still_theirs
from web.kiosk.door import session_state
from web.kiosk.guard import allow
from web.kiosk.pages import capture_links
from web.kiosk.requests import decoded

PREVIEW_WAIT_S: Final = 2.0
HEARTBEAT_S: Final = 10.0
"""How often a silent event stream says that it lives; also how soon a reader that left is noticed."""


class _AssessmentRequest(msgspec.Struct, forbid_unknown_fields=True):
    again: bool = False


class _KeepRequest(msgspec.Struct, forbid_unknown_fields=True):
    reason: KeepReason


class _QuestionRequest(msgspec.Struct, forbid_unknown_fields=True):
    question: str


def create_api(station: Station, clinic: Clinic | None = None) -> Blueprint:
    """Build the routes that the pages' scripts call."""
    api = Blueprint("api", __name__)
    _add_state_route(api, station, clinic)
    _add_camera_routes(api, station)
    _add_shutter_routes(api, station)
    _add_question_routes(api, station, clinic)
    return api


def _add_state_route(api: Blueprint, station: Station, clinic: Clinic | None) -> None:
    @api.get("/api/state")
    @allow("nobody-signed-in")
    def state() -> Response:
        found = station.state()
        return jsonify(found if clinic is None else {**found, "session": session_state(clinic)})


def _add_camera_routes(api: Blueprint, station: Station) -> None:
    @api.get("/preview")
    @allow("capture")
    def preview() -> Response:
        frame = station.frame(request.args.get("after", -1, type=int), PREVIEW_WAIT_S)
        if frame is None:
            return Response(status=HTTPStatus.NO_CONTENT)
        response = Response(frame.content, mimetype=frame.media_type)
        if station.quality is not None and (advice := station.quality.advice) is not None:
            response.headers["X-Quality"] = advice
        if station.quality is not None:
            meters = station.quality.meters
            response.headers["X-Meters"] = ";".join(f"{meter}={int(is_good)}" for meter, is_good in meters.items())
        if station.shots is not None:
            response.headers["X-Shots"] = str(station.shots.version)
        if station.lamp is not None:
            response.headers["X-Light"] = str(station.lamp.version)
        response.headers["X-Presses"] = str(station.shutter.outcome.number)
        response.headers["X-Frame-Sequence"] = str(frame.sequence)
        response.headers["X-Captured-Age-Ms"] = str(station.age_ms(frame))
        return response

    @api.post("/api/camera/next")
    @allow("capture")
    def next_picture() -> Response:
        station.next_picture()
        return Response(status=HTTPStatus.NO_CONTENT)

    @api.post("/api/camera/other")
    @allow("capture")
    def other_camera() -> Response:
        station.show_next_camera()
        return Response(status=HTTPStatus.NO_CONTENT)


def _add_shutter_routes(api: Blueprint, station: Station) -> None:
    @api.get("/api/press")
    @allow("capture")
    def press() -> Response:
        """What became of the last press of a button that is no touch."""
        outcome = station.shutter.outcome
        links = capture_links(outcome.image) if outcome.image is not None else {}
        return jsonify(number=outcome.number, sentence=outcome.sentence, **links, **_held(station))

    @api.post("/api/encounters/<encounter_id>/captures")
    @allow("capture")
    def capture(encounter_id: str) -> tuple[Response, int]:
        try:
            taken = station.press(encounter_id)
            links = capture_links(taken.images[-1])
            return jsonify(**links, kept=len(taken.images), sentence=taken.sentence), HTTPStatus.CREATED
        except PoorQualityError as error:
            return jsonify(error=str(error), **_held(station)), HTTPStatus.CONFLICT

    @api.post("/api/encounters/<encounter_id>/held/<capture_id>")
    @allow("capture")
    def keep_held(encounter_id: str, capture_id: str) -> tuple[Response, int]:
        reason = decoded(_KeepRequest).reason
        return jsonify(capture_links(station.keep_held(encounter_id, capture_id, reason))), HTTPStatus.CREATED


def _held(station: Station) -> dict[str, str]:
    """Name the photo that waits for a reason to be kept, and what is wrong with it."""
    held = station.captures.held
    if held is None or held.quality is None:
        return {}
    return {"held": held.capture_id, "quality": held.quality}


def _add_question_routes(api: Blueprint, station: Station, clinic: Clinic | None) -> None:
    @api.post("/api/captures/<capture_id>/assessment")
    @allow("assess")
    def assess(capture_id: str) -> tuple[Response, int]:
        again = decoded(_AssessmentRequest).again if request.get_data() else False
        return _accepted(station.assess(capture_id, again=again))

    @api.post("/api/captures/<capture_id>/questions")
    @allow("assess")
    def ask(capture_id: str) -> tuple[Response, int]:
        question = decoded(_QuestionRequest).question
        return _accepted(station.ask(capture_id, question))

    @api.post("/api/jobs/<job_id>/cancel")
    @allow("assess")
    def cancel(job_id: str) -> Response:
        station.questions.job(job_id).cancel()
        return Response(status=HTTPStatus.NO_CONTENT)

    @api.get("/api/jobs/<job_id>/events")
    @allow("assess")
    def events(job_id: str) -> Response:
        job = station.questions.job(job_id)
        last = request.headers.get("Last-Event-ID", "0")
        events = _stream(job, int(last) if last.isdecimal() else 0, still_theirs(clinic))
        return Response(events, mimetype="text/event-stream")


def _accepted(job: Job) -> tuple[Response, int]:
    return jsonify(job_id=job.job_id), HTTPStatus.ACCEPTED


def _stream(job: Job, after: int, is_theirs: Callable[[], bool]) -> Iterator[bytes]:
    """Write a job's events as they come, from the one after `after`; ends with the job, and with the session."""
    while is_theirs():
        events = tuple(job.events(after, HEARTBEAT_S))
        if not events:
            if job.is_over:
                return
            yield b": still here\n\n"
        for event in events:
            if not is_theirs():
                return
            after = event.event_id
            value = msgspec.json.encode(event.value).decode()
            yield f"id: {event.event_id}\nevent: {event.name}\ndata: {value}\n\n".encode()
            if event.name == "end":
                return
