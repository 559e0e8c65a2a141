"""A first look at a JSON schema from outside, so that a hopeless or exploding one is refused before it waits.

It does not compile it for the vocabulary; the model does, and may still refuse.
"""

from typing import Any

import msgspec

from web.engine.api_errors import bad_request
from web.engine.limits import EngineLimits
from web.engine.panics import LibraryPanicError, panics_as_errors

_PARAM = "response_format.json_schema.schema"


def checked_schema(encoded: bytes, limits: EngineLimits) -> dict[str, Any]:
    """Read a JSON schema.

    Raises:
        ApiError: It is not an object, too long, nested too deeply, or uses what cannot be enforced.
    """
    if len(encoded) > limits.max_schema_bytes:
        raise bad_request(
            f"The schema has {len(encoded)} bytes; at most {limits.max_schema_bytes} are read.", param=_PARAM
        )
    try:
        schema = msgspec.json.decode(encoded, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_request("The schema is not a JSON object, or nested too deeply.", param=_PARAM) from error
    if not _is_shallow(schema, limits.max_schema_depth):
        raise bad_request(f"The schema is nested more than {limits.max_schema_depth} deep.", param=_PARAM)
    _check_grammar(encoded)
    return schema


def _is_shallow(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    children = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(child, depth - 1) for child in children)


def _check_grammar(encoded: bytes) -> None:
    import llguidance

    try:
        with panics_as_errors():
            grammar = llguidance.LLMatcher.grammar_from_json_schema(encoded.decode())
            reason = llguidance.LLMatcher.validate_grammar(grammar)
    except (ValueError, TypeError, LibraryPanicError) as error:
        reason = str(error)
    if reason:
        first_line = str(reason).strip().partition("\n")[0].rstrip(".")[:200]
        raise bad_request(f"The schema cannot be enforced: {first_line}.", code="invalid_schema", param=_PARAM)
