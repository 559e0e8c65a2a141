"""The engine's routes: OpenAI's chat completions and models, our health, image encoding and cancel.

There are no sessions, cookies or passwords: who reaches the socket may ask. Browsers are kept out (see `guard`).
"""

import logging
import re
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from appliance.engine_wire import COMPLETION_ID_PREFIX, REQUEST_ID_PATTERN, EncodedImage
from appliance.errors import DermstationError
from web.engine import guard
from web.engine.api_errors import ApiError, api_error_from, bad_request
from web.engine.chat import Question, event_stream, failure_of, question_from_body, whole_answer
from web.engine.job_queue import DuplicateJobError, QueueFullError
from web.engine.jobs import EncodingJob, Failed, ForgetJob, Forgotten, Job
from web.engine.model_host import summary_of
from web.engine.panics import LibraryPanicError, panics_as_errors
from web.engine.pictures import MEDIA_TYPES, check_picture
from web.engine.service import EngineService

logger = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(REQUEST_ID_PATTERN)
_RETRY_AFTER_S: Final = 5
"""A guess at when a place in the queue is free: a short answer's time."""


def create_engine_app(service: EngineService, *, over_tcp: bool = True) -> Flask:
    """Build the WSGI application.

    Args:
        service: A started engine.
        over_tcp: Whether a browser on this machine could reach it; then Host and Origin are checked.
    """
    app = Flask("dermstation-engine", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = service.limits.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined] # flask's default provider has it
    if over_tcp:
        app.before_request(lambda: guard.check_origin(request.headers))
    app.after_request(_harden)
    _add_error_handlers(app)
    _add_state_routes(app, service)
    _add_work_routes(app, service)
    return app


def _add_state_routes(app: Flask, service: EngineService) -> None:
    @app.get("/health")
    def health() -> Response:
        state = service.health()
        status = HTTPStatus.OK if state.status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(state, status)

    @app.get("/v1/queue")
    def queue() -> Response:
        return _json(service.queue.state)

    @app.get("/v1/models")
    def models() -> Response:
        return _json({"object": "list", "data": [_model_object(service)]})

    @app.get("/v1/models/<path:name>")
    def model(name: str) -> Response:
        found = _model_object(service)
        if name != found["id"]:
            raise ApiError(HTTPStatus.NOT_FOUND, "There is no model of that name here.", code="model_not_found")
        return _json(found)


def _add_work_routes(app: Flask, service: EngineService) -> None:
    @app.post("/v1/chat/completions")
    def chat() -> Response:
        _check_media_type("application/json")
        question = _question(service, _completion_id())
        _submit(service, question.job)
        if not question.wants_stream:
            return _json(whole_answer(service, question, _disconnect_probe()))
        response = Response(event_stream(service, question, _disconnect_probe()), mimetype="text/event-stream")
        # The stream's own clean-up does not run when the client leaves before its first byte.
        response.call_on_close(lambda: service.queue.withdraw(question.job))
        response.headers["X-Request-Id"] = question.job.id.removeprefix(COMPLETION_ID_PREFIX)
        return response

    @app.delete("/v1/chat/completions/<completion_id>")
    def cancel(completion_id: str) -> Response:
        if not service.queue.cancel(completion_id):
            raise ApiError(HTTPStatus.NOT_FOUND, "No such completion waits or runs.", code="not_found")
        return _json({"id": completion_id, "object": "chat.completion.cancelled", "cancelled": True})

    @app.post("/v1/images")
    def images() -> Response:
        media_type = _check_media_type(*MEDIA_TYPES)
        model = service.host.require()
        if not summary_of(model).takes_images:
            raise bad_request("This model takes text only.", code="invalid_image")
        content = request.get_data(cache=False)
        check_picture(content, media_type)
        return _json(_result(service, EncodingJob(f"image-{uuid.uuid4().hex}", model, content)))

    @app.delete("/v1/images")
    def forget() -> Response:
        _result(service, ForgetJob(f"forget-{uuid.uuid4().hex}", service.host.require()))
        return _json({"object": "images.deleted", "deleted": True})


def _question(service: EngineService, completion_id: str) -> Question:
    try:
        with panics_as_errors():
            return question_from_body(service, request.get_data(cache=False), completion_id)
    except LibraryPanicError as error:
        logger.warning("request refused: a library panicked")
        raise bad_request(str(error)) from error


def _submit(service: EngineService, job: Job) -> None:
    try:
        service.queue.submit(job)
    except QueueFullError as error:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS, str(error), code="queue_full", retry_after_s=_RETRY_AFTER_S
        ) from error
    except DuplicateJobError as error:
        raise ApiError(HTTPStatus.CONFLICT, str(error), code="duplicate_id", param="X-Request-Id") from error


def _result(service: EngineService, job: Job) -> EncodedImage | Forgotten:
    _submit(service, job)
    for event in service.follow(job, _disconnect_probe()):
        if isinstance(event, Failed):
            raise failure_of(event.error)
        if isinstance(event, EncodedImage | Forgotten):
            return event
    raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "The client has left.", code="cancelled")


def _model_object(service: EngineService) -> dict[str, Any]:
    summary = summary_of(service.host.require())
    return {"id": summary.name, "object": "model", "created": 0, "owned_by": "dermstation", "dermstation": summary}


def _completion_id() -> str:
    chosen = request.headers.get("X-Request-Id")
    if chosen is None:
        return COMPLETION_ID_PREFIX + uuid.uuid4().hex
    if _REQUEST_ID.fullmatch(chosen) is None:
        raise bad_request("X-Request-Id takes 1 to 64 letters, digits, _ and -.", param="X-Request-Id")
    return COMPLETION_ID_PREFIX + chosen


def _check_media_type(*allowed: str) -> str:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Compressed bodies are not read.", code="unsupported_media_type"
        )
    if request.mimetype not in allowed:
        message = f"This address takes {' or '.join(allowed)}."
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, code="unsupported_media_type")
    return request.mimetype


def _disconnect_probe() -> Callable[[], bool]:
    """Return how to ask whether the client is still there; other servers than waitress cannot say."""
    probe = request.environ.get("waitress.client_disconnected", lambda: False)
    return cast("Callable[[], bool]", probe)


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_error_handlers(app: Flask) -> None:
    @app.errorhandler(ApiError)
    def refuse(error: ApiError) -> Response:
        response = _json(error.to_json(), error.status)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    @app.errorhandler(DermstationError)
    def refuse_known(error: DermstationError) -> Response:
        return refuse(api_error_from(error))

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        response = refuse(ApiError(status, f"{status.phrase}.", code=status.name.lower()))
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        # The edge of a request's thread: the client gets JSON whatever happens, the log gets the traceback.
        logger.error("request failed: path=%s", request.path, exc_info=error)
        return refuse(failure_of(error))
