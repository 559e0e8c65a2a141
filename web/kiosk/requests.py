"""What a page's script sends: JSON, read strictly."""

from typing import TypeVar

import msgspec
from flask import request

from appliance.errors import PromptError

T = TypeVar("T")


def decoded(kind: type[T]) -> T:
    """Read the body of the request.

    Raises:
        PromptError: It is not what this route takes.
    """
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PromptError(f"The request is not understood: {error}.") from error
