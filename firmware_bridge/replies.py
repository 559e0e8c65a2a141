"""What the device answers to each command, as frozen values with their bytes beside them. Source: PROTOCOL.md 5."""

from dataclasses import astuple, dataclass
from struct import Struct
from typing import ClassVar, Self

from . import codes
from .codes import Opcode
from .errors import MessageError
from .fields import code_of, fields_of, flags_of


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloReply:
    """0 u8 version chosen, 1 u8 reset cause, 2 u16 boot id, 4 u32 uptime in ms."""

    _layout: ClassVar[Struct] = Struct("<BBHI")
    version: int
    reset_cause: codes.ResetCause
    boot_id: int
    uptime_ms: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a code is wrong."""
        version, cause, boot_id, uptime_ms = fields_of(cls._layout, payload)
        cause_flags = flags_of(codes.ResetCause, cause)
        return cls(version=version, reset_cause=cause_flags, boot_id=boot_id, uptime_ms=uptime_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply:
    """0 u32 uptime ms, 4 u8 mode, 5 u8 level, 6 u16 remaining ms, 8 u8 inputs, 9 u8 off reason, 10 u8 faults, 11 -."""

    _layout: ClassVar[Struct] = Struct("<IBBHBBBx")
    uptime_ms: int
    mode: codes.IlluminationMode
    level_percent: int
    remaining_ms: int
    inputs: codes.Inputs
    off_reason: codes.OffReason
    faults: codes.Faults

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a code is wrong."""
        uptime_ms, mode, level, remaining_ms, inputs, reason, faults = fields_of(cls._layout, payload)
        return cls(
            uptime_ms=uptime_ms,
            mode=code_of(codes.IlluminationMode, mode),
            level_percent=level,
            remaining_ms=remaining_ms,
            inputs=flags_of(codes.Inputs, inputs),
            off_reason=code_of(codes.OffReason, reason),
            faults=flags_of(codes.Faults, faults),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IlluminationReply:
    """0 u8 mode, 1 u8 level in effect in %, 2 u16 remaining ms; the light is in effect when this is sent."""

    _layout: ClassVar[Struct] = Struct("<BBH")
    mode: codes.IlluminationMode
    level_percent: int
    remaining_ms: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a code is wrong."""
        mode, level, remaining_ms = fields_of(cls._layout, payload)
        return cls(mode=code_of(codes.IlluminationMode, mode), level_percent=level, remaining_ms=remaining_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureReply:
    """0 i16 temperature of the LED board in 0.01 C, 7FFF = no sensor."""

    _layout: ClassVar[Struct] = Struct("<h")
    centidegrees_c: int

    @property
    def degrees_c(self) -> float | None:
        """The temperature in C; None without a sensor."""
        return None if self.centidegrees_c == codes.TEMPERATURE_ABSENT else self.centidegrees_c / 100

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length is wrong."""
        return cls(centidegrees_c=fields_of(cls._layout, payload)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryReply:
    """0 u16 millivolts, 2 u8 charge in %, 255 = unknown, 3 u8 state."""

    _layout: ClassVar[Struct] = Struct("<HBB")
    millivolts: int
    charge_percent: int
    state: codes.BatteryState

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a value is wrong."""
        millivolts, charge, state = fields_of(cls._layout, payload)
        if charge > 100 and charge != codes.CHARGE_UNKNOWN:
            raise MessageError(f"A charge of {charge} % does not exist.")
        return cls(millivolts=millivolts, charge_percent=charge, state=code_of(codes.BatteryState, state))


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareReply:
    """0 u8 board, 1-3 u8 version, 4 u8 oldest protocol, 5 u8 newest, 6 u16 capabilities, 8 u32 unit number."""

    _layout: ClassVar[Struct] = Struct("<BBBBBBHI")
    board: codes.Board
    major: int
    minor: int
    patch: int
    oldest_protocol: int
    newest_protocol: int
    capabilities: codes.Capabilities
    unit_number: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or a code is wrong."""
        board, major, minor, patch, oldest, newest, capabilities, unit = fields_of(cls._layout, payload)
        return cls(
            board=code_of(codes.Board, board),
            major=major,
            minor=minor,
            patch=patch,
            oldest_protocol=oldest,
            newest_protocol=newest,
            capabilities=flags_of(codes.Capabilities, capabilities),
            unit_number=unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountersReply:
    """Seven u16, saturating: packets, corrupt, oversized, duplicates, stale, events dropped, NAKs."""

    _layout: ClassVar[Struct] = Struct("<7H")
    packets: int
    corrupt: int
    oversized: int
    duplicates: int
    stale: int
    events_dropped: int
    naks: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length is wrong."""
        names = ("packets", "corrupt", "oversized", "duplicates", "stale", "events_dropped", "naks")
        return cls(**dict(zip(names, fields_of(cls._layout, payload), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReply:
    """0 u16 how long the device waits for its boot loader to be used, in ms."""

    _layout: ClassVar[Struct] = Struct("<H")
    window_ms: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length is wrong."""
        return cls(window_ms=fields_of(cls._layout, payload)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A NAK: 0 u8 reason, 1 u8 detail."""

    _layout: ClassVar[Struct] = Struct("<BB")
    reason: codes.NakReason
    detail: int

    def pack(self) -> bytes:
        """Return the payload."""
        return self._layout.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read the payload; MessageError if its length or reason is wrong."""
        reason, detail = fields_of(cls._layout, payload)
        return cls(reason=code_of(codes.NakReason, reason), detail=detail)


Reply = (
    HelloReply
    | StatusReply
    | IlluminationReply
    | TemperatureReply
    | BatteryReply
    | FirmwareReply
    | CountersReply
    | UpdateReply
)

_REPLIES: dict[int, type[Reply]] = {
    Opcode.HELLO: HelloReply,
    Opcode.HEARTBEAT: StatusReply,
    Opcode.ILLUMINATION: IlluminationReply,
    Opcode.TEMPERATURE: TemperatureReply,
    Opcode.BATTERY: BatteryReply,
    Opcode.FIRMWARE: FirmwareReply,
    Opcode.COUNTERS: CountersReply,
    Opcode.UPDATE: UpdateReply,
}


def unpack_reply(opcode: int, payload: bytes) -> Reply:
    """Read the payload of an ACK.

    Raises:
        MessageError: The opcode has no reply, or the payload is not one.
    """
    if opcode not in _REPLIES:
        raise MessageError(f"Opcode {opcode} has no reply.")
    return _REPLIES[opcode].unpack(payload)
