"""One chat request from its bytes to its answer, whole or streamed.

Everything that can be refused is refused before the request takes a place in the queue, so that a stream's status is
never a promise too much.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from appliance.engine_wire import MODEL_ALIAS
from appliance.errors import DermstationError
from appliance.medgemma.generation import Generation, Piece
from web.engine.api_errors import ApiError, api_error_from
from web.engine.chat_answer import AnswerFormat
from web.engine.chat_question import check_model_name, messages_from_request, options_from_request, prompt_tokens_of
from web.engine.chat_request import chat_request_from_json
from web.engine.jobs import AnswerJob, CancelledError, Failed, Started
from web.engine.model_host import summary_of
from web.engine.service import EngineService, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A chat request that is ready for the queue."""

    job: AnswerJob
    format: AnswerFormat
    wants_stream: bool


def question_from_body(service: EngineService, body: bytes, completion_id: str) -> Question:
    """Read and check a chat request against the model.

    Raises:
        ApiError: Something in it is refused.
        DermstationError: There is no model now, or a photo is refused.
    """
    model = service.host.require()
    request = chat_request_from_json(body)
    summary = summary_of(model)
    check_model_name(request, {summary.name, MODEL_ALIAS})
    messages = messages_from_request(request, service.limits)
    prompt_tokens = prompt_tokens_of(model, messages)
    options = options_from_request(request, service.limits, model.context_length - prompt_tokens)
    return Question(
        job=AnswerJob(completion_id, model, messages, options, prompt_tokens),
        format=AnswerFormat.of(request, completion_id, summary),
        wants_stream=bool(request.stream),
    )


def whole_answer(service: EngineService, question: Question, is_disconnected: Callable[[], bool]) -> dict[str, Any]:
    """Wait for the whole answer.

    Raises:
        ApiError: The run has failed, or the client has left.
    """
    pieces = []
    for event in service.follow(question.job, is_disconnected):
        match event:
            case Piece():
                pieces.append(event)
            case Generation():
                return question.format.completion(pieces, event)
            case Failed(error=error):
                raise failure_of(error)
    raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "The client has left.", code="cancelled")


def event_stream(service: EngineService, question: Question, is_disconnected: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the answer as server-sent events; comment lines say that the engine lives while nothing comes."""
    for event in service.follow(question.job, is_disconnected):
        match event:
            case Started():
                yield _event(question.format.first_chunk())
            case Piece():
                yield _event(question.format.piece_chunk(event))
            case Generation():
                for chunk in question.format.last_chunks(event):
                    yield _event(chunk)
            case Failed(error=error):
                yield _event(failure_of(error).to_json())
            case Waiting(before=None):
                yield b": working\n\n"
            case Waiting(before=before):
                yield f": waiting, {before} before you\n\n".encode()
    yield b"data: [DONE]\n\n"


def failure_of(error: Exception) -> ApiError:
    """Return what a client is told about a job that failed."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DermstationError):
        return api_error_from(error)
    if isinstance(error, CancelledError):
        return ApiError(HTTPStatus.CONFLICT, str(error), code="cancelled")
    message = "The model failed on this request; the engine's log says why."
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, code="engine_error")


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
