"""Checked numbers out of payloads: what does not fit PROTOCOL.md 5 becomes a MessageError."""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TypeVar

from .errors import MessageError

_Code = TypeVar("_Code", bound=IntEnum)
_Flags = TypeVar("_Flags", bound=IntFlag)


def code_of(kind: type[_Code], value: int) -> _Code:
    """Return the member of `kind` that has `value`; MessageError if there is none."""
    try:
        return kind(value)
    except ValueError as error:
        raise MessageError(f"{kind.__name__} has no code {value}.") from error


def flags_of(kind: type[_Flags], value: int) -> _Flags:
    """Return `value` as flags; MessageError if it sets a bit that has no name."""
    if value & ~sum(flag.value for flag in kind):
        raise MessageError(f"{kind.__name__} has no name for a bit of {value}.")
    return kind(value)


def fields_of(layout: Struct, payload: bytes) -> tuple[int, ...]:
    """Return the fields of `payload`; MessageError if its length differs from the layout's."""
    if len(payload) != layout.size:
        raise MessageError(f"A payload of {layout.size} bytes was expected, {len(payload)} came.")
    return layout.unpack(payload)
