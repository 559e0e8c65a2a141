"""What the host says and what the device answers, as frozen values with their bytes beside them.

No packet, sequence or time here. Every number is checked against PROTOCOL.md 5 on the way in, so what leaves this
module is an enumeration or a bounded integer, never text.
"""

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from . import codes
from .codes import Opcode
from .errors import MessageError
from .fields import code_of, fields_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Open a session: 0 u8 oldest version spoken, 1 u8 newest."""

    _layout: ClassVar[Struct] = Struct("<BB")
    opcode: ClassVar[Opcode] = Opcode.HELLO
    oldest: int = codes.PROTOCOL_VERSION
    newest: int = codes.PROTOCOL_VERSION

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(self.oldest, self.newest)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length is wrong."""
        oldest, newest = fields_of(cls._layout, payload)
        return cls(oldest=oldest, newest=newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Ask for something without a payload: HEARTBEAT, TEMPERATURE, BATTERY, FIRMWARE or COUNTERS."""

    opcode: Opcode

    def pack(self) -> bytes:
        """Return the empty payload."""
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Illuminate:
    """Order light: 0 u8 mode, 1 u8 level in %, 2 u16 time limit in ms, enforced by the device.

    Raises:
        MessageError: Level outside 1 to 100, limit outside 1 to 10,000 ms, or either not 0 with mode OFF.
    """

    _layout: ClassVar[Struct] = Struct("<BBH")
    opcode: ClassVar[Opcode] = Opcode.ILLUMINATION
    mode: codes.IlluminationMode
    level_percent: int = 0
    time_limit_ms: int = 0

    def __post_init__(self) -> None:
        is_off = self.mode is codes.IlluminationMode.OFF
        lowest, level, limit = (0, 0, 0) if is_off else (1, codes.LEVEL_MAX_PERCENT, codes.TIME_LIMIT_MAX_MS)
        if not lowest <= self.level_percent <= level:
            raise MessageError(f"A level of {lowest} to {level} % was expected, not {self.level_percent}.")
        if not lowest <= self.time_limit_ms <= limit:
            raise MessageError(f"A time limit of {lowest} to {limit} ms was expected, not {self.time_limit_ms}.")

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(self.mode, self.level_percent, self.time_limit_ms)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a value is wrong."""
        mode, level, limit = fields_of(cls._layout, payload)
        return cls(mode=code_of(codes.IlluminationMode, mode), level_percent=level, time_limit_ms=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginUpdate:
    """Lock the light out and wait for the boot loader: 0 u32 key."""

    _layout: ClassVar[Struct] = Struct("<I")
    opcode: ClassVar[Opcode] = Opcode.UPDATE
    key: int = codes.UPDATE_KEY

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(self.key)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length is wrong."""
        return cls(key=fields_of(cls._layout, payload)[0])


Command = Hello | Query | Illuminate | BeginUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEvent:
    """A switch changed, or the light went off by itself: 0 u8 value, 1 u8 0, 2 u16 age in ms when sent.

    `value` is 1 pressed / made, 0 released / broken; for LIGHT_OFF a `codes.OffReason`.
    """

    _layout: ClassVar[Struct] = Struct("<BBH")
    opcode: Opcode
    value: int
    age_ms: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(self.value, 0, self.age_ms)

    @classmethod
    def unpack(cls, opcode: int, payload: bytes) -> Self:
        """Read the payload of an EVENT; MessageError if length, opcode or value is unknown."""
        known = code_of(Opcode, opcode)
        if known not in codes.EVENTS:
            raise MessageError(f"Opcode {opcode} is no event.")
        value, reserved, age_ms = fields_of(cls._layout, payload)
        highest = max(codes.OffReason) if known is Opcode.LIGHT_OFF else 1
        if value > highest or reserved:
            raise MessageError(f"An event of opcode {opcode} has no value {value}.")
        return cls(opcode=known, value=value, age_ms=age_ms)
