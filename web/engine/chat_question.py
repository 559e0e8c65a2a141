"""From a chat request to what the model is asked: messages with their photos, and options within the limits."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from appliance.errors import BundleError, DermstationError
from appliance.medgemma.generation import GenerationOptions, ImagePart, Message, TextPart
from web.engine.api_errors import ApiError, api_error_from, bad_request
from web.engine.chat_request import ChatMessage, ChatRequest, ImageContent, JsonObjectFormat, JsonSchemaFormat
from web.engine.limits import EngineLimits
from web.engine.model_host import Model
from web.engine.pictures import picture_from_data_uri
from web.engine.schema_check import checked_schema


def messages_from_request(request: ChatRequest, limits: EngineLimits) -> list[Message]:
    """Return the conversation, its photos decoded once to see that they are sound.

    Raises:
        ApiError: Too many messages, photos or characters.
        ImageError: A photo is refused.
    """
    if len(request.messages) > limits.max_messages:
        raise bad_request(f"At most {limits.max_messages} messages are read.", param="messages")
    contents = [message.content for message in request.messages]
    images = sum(
        isinstance(part, ImageContent) for content in contents if isinstance(content, list) for part in content
    )
    if images > limits.max_images:
        raise bad_request(f"The request has {images} images; at most {limits.max_images} are read.", param="messages")
    if sum(map(_text_length, contents)) > limits.max_text_characters:
        raise bad_request(f"At most {limits.max_text_characters} characters of text are read.", param="messages")
    return [_message(message) for message in request.messages]


def _text_length(content: str | list[Any]) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(part.text) for part in content if not isinstance(part, ImageContent))


def _message(message: ChatMessage) -> Message:
    content = message.content
    if isinstance(content, str):
        parts: tuple[TextPart | ImagePart, ...] = (TextPart(text=content),)
    elif message.role != "user" and any(isinstance(part, ImageContent) for part in content):
        raise bad_request("Only a user's message may have an image.", param="messages")
    else:
        parts = tuple(
            ImagePart(content=picture_from_data_uri(part.image_url.url))
            if isinstance(part, ImageContent)
            else TextPart(text=part.text)
            for part in content
        )
    return Message(role="system" if message.role == "developer" else message.role, parts=parts)


def prompt_tokens_of(model: Model, messages: list[Message]) -> int:
    """Count the prompt's tokens and see that an answer has room.

    Raises:
        ApiError: The prompt is too long or refused, or has an image that this model does not take.
    """
    try:
        prompt_tokens = model.check_prompt(messages)
    except BundleError as error:
        raise bad_request(str(error), param="messages") from error
    except DermstationError as error:
        raise api_error_from(error) from error
    if prompt_tokens >= model.context_length:
        raise bad_request(
            f"The prompt has {prompt_tokens} tokens and leaves no room in a context of {model.context_length}.",
            code="context_length_exceeded",
            param="messages",
        )
    return prompt_tokens


def options_from_request(request: ChatRequest, limits: EngineLimits, room_tokens: int) -> GenerationOptions:
    """Return the options, cut to what is allowed.

    Args:
        request: What was asked.
        limits: What is allowed.
        room_tokens: Tokens that the context has left for the answer.

    Raises:
        ApiError: The JSON schema is refused.
    """
    defaults = GenerationOptions()
    wanted_tokens = request.max_completion_tokens or request.max_tokens or defaults.max_tokens
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return GenerationOptions(
        max_tokens=min(wanted_tokens, room_tokens),
        temperature=request.temperature or 0.0,
        top_k=request.top_k,
        top_p=request.top_p or defaults.top_p,
        # OpenAI's seeds may be negative, ours may not.
        seed=None if request.seed is None else request.seed % 2**63,
        stop=tuple(stop),
        json_schema=_schema(request, limits),
        ban_thought=None if request.thought is None else not request.thought,
        deadline_s=min(request.deadline_s or limits.deadline_s, limits.deadline_s),
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def _schema(request: ChatRequest, limits: EngineLimits) -> Mapping[str, Any] | None:
    match request.response_format:
        case JsonObjectFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=asked):
            return checked_schema(bytes(asked.schema), limits)
        case _:
            return None


def check_model_name(request: ChatRequest, names: set[str]) -> None:
    """See that the client means the model that answers.

    Raises:
        ApiError: It asks for another one.
    """
    if request.model not in names:
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            f"There is no model {request.model[:100]!r} here; ask for one of {sorted(names)}.",
            code="model_not_found",
            param="model",
        )
