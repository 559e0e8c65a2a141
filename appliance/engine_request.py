"""A question to the engine as an OpenAI chat request; pure, nothing is sent from here."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.engine_wire import MODEL_ALIAS
from appliance.errors import ImageError
from appliance.medgemma.generation import GenerationOptions, ImagePart, Message, TextPart
from appliance.types import media_type_of


def required_media_type(content: bytes) -> str:
    """Return the media type of a picture by its first bytes.

    Raises:
        ImageError: It is neither a JPEG nor a PNG file.
    """
    media_type = media_type_of(content)
    if media_type is None:
        raise ImageError("The image is neither a JPEG nor a PNG file.")
    return media_type


def chat_body(messages: Sequence[Message], options: GenerationOptions) -> bytes:
    """Return the JSON body of a streaming chat request.

    Raises:
        ImageError: A photo is neither a JPEG nor a PNG file.
    """
    fields: dict[str, Any] = {
        "model": MODEL_ALIAS,
        "messages": [_message(message) for message in messages],
        "stream": True,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "seed": options.seed,
        "stop": list(options.stop) or None,
        "deadline_s": options.deadline_s,
    }
    if options.json_schema is not None:
        fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": options.json_schema},
        }
    if options.ban_thought is not None:
        fields["thought"] = not options.ban_thought
    if options.top_logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": options.top_logprobs}
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [_part(part) for part in message.parts]}


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    data = base64.b64encode(part.content).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{required_media_type(part.content)};base64,{data}"}}
