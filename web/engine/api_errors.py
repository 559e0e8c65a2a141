"""What the engine answers when it cannot do what was asked, in the shape of OpenAI's errors.

Source: OpenAI API reference, "Error codes"; RFC 9110, section 15.
"""

from http import HTTPStatus
from typing import Any, Literal

from appliance.engine_wire import IMAGE_ERROR_CODE
from appliance.errors import BundleError, DermstationError, EngineUnavailableError, ImageError, PromptError

ErrorType = Literal["invalid_request_error", "rate_limit_error", "server_error"]


class ApiError(Exception):
    """A refusal with its HTTP status; `str(error)` is one sentence."""

    def __init__(
        self, status: HTTPStatus, message: str, *, code: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        """The request's field that is the cause, as a path from its top."""
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> ErrorType:
        """OpenAI's class of the error."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limit_error"
        return "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"

    def to_json(self) -> dict[str, Any]:
        """Return the response's body; `status` repeats the HTTP status for streams, which have sent theirs."""
        error = {"message": str(self), "type": self.type, "param": self.param, "code": self.code, "status": self.status}
        return {"error": error}


def bad_request(message: str, *, code: str = "invalid_value", param: str | None = None) -> ApiError:
    """Return a refusal of the request's content."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, code=code, param=param)


def api_error_from(error: DermstationError) -> ApiError:
    """Return the refusal that stands for one of the appliance's errors."""
    match error:
        case ImageError():
            return bad_request(str(error), code=IMAGE_ERROR_CODE, param="messages")
        case PromptError():
            return bad_request(str(error), code="invalid_prompt", param="messages")
        case EngineUnavailableError():
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code="engine_unavailable", retry_after_s=1)
        case BundleError():
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code="engine_failed")
        case _:
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), code="engine_error")
