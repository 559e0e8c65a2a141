"""The JSON of a chat request, read strictly: what we cannot do is refused by name, what changes nothing is ignored.

It knows nothing of the model; `chat_question` turns this into messages and options.
Source: OpenAI API reference, "Create chat completion"; `top_k`, `thought` and `deadline_s` are our extensions.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from web.engine.api_errors import ApiError, bad_request

Probability = Annotated[float, Meta(gt=0, le=1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]


class TextContent(msgspec.Struct, tag_field="type", tag="text"):
    """A content part with text."""

    text: str


class ImageUrl(msgspec.Struct):
    """Where a picture is; we take it from the request itself and fetch nothing."""

    url: str


class ImageContent(msgspec.Struct, tag_field="type", tag="image_url"):
    """A content part with a picture."""

    image_url: ImageUrl


class ChatMessage(msgspec.Struct):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextContent | ImageContent], Meta(min_length=1, max_length=1024)]


class StreamOptions(msgspec.Struct):
    """What a stream says beside the answer."""

    include_usage: bool | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(msgspec.Struct):
    """A JSON schema with its name."""

    name: str
    schema: msgspec.Raw = msgspec.Raw(b"{}")


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    """One JSON value of a schema; always enforced, whether `strict` or not."""

    json_schema: JsonSchema


class ChatRequest(msgspec.Struct):
    """The body of `POST /v1/chat/completions`; absent and null are the same."""

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Greedy when absent, not 1 as at OpenAI: all published evaluations of MedGemma are greedy."""
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    seed: Seed | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    thought: bool | None = None
    """Whether the model may think first; absent: unless it writes JSON."""
    deadline_s: Annotated[float, Meta(gt=0)] | None = None

    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    logit_bias: Any = None
    prediction: Any = None
    web_search_options: Any = None


_HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "logit_bias": ({},),
    "prediction": (),
    "web_search_options": (),
}
"""Fields that we do not support, with the values beside null that ask for nothing."""

_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")


def chat_request_from_json(body: bytes) -> ChatRequest:
    """Read the body of a chat request.

    Raises:
        ApiError: It is not JSON or nested too deeply; a field is missing, of a wrong type, out of range or unsupported.
    """
    try:
        request = msgspec.json.decode(body, type=ChatRequest)
    except msgspec.ValidationError as error:
        raise _validation_error(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not JSON: {error}.", code="invalid_json") from error
    except RecursionError as error:
        raise bad_request("The body's JSON is nested too deeply.", code="invalid_json") from error
    for name, harmless in _HARMLESS.items():
        value = getattr(request, name)
        if value is not None and value not in harmless:
            raise bad_request(f"{name} is not supported by this engine.", code="unsupported_parameter", param=name)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true.", param="top_logprobs")
    return request


def _validation_error(error: msgspec.ValidationError) -> ApiError:
    message = str(error)
    place = _PLACE.search(message)
    param = place[1] or None if place else None
    reason = _PLACE.sub("", message)
    return bad_request(f"{param or 'The body'} is refused: {reason}.", param=param)
