"""What each command does to the simulated device. Source: PROTOCOL.md 5."""

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct

from . import codes
from .codes import Kind, NakReason, OffReason, Opcode
from .messages import BeginUpdate, Hello
from .packet import Packet
from .replies import (
    BatteryReply,
    CountersReply,
    FirmwareReply,
    HelloReply,
    IlluminationReply,
    Refusal,
    StatusReply,
    TemperatureReply,
    UpdateReply,
)
from .simulated_events import SimulatedEvents
from .simulated_light import BATTERY_LOW_MV, SimulatedLight

UPDATE_WINDOW_MS = 10_000
BATTERY_FULL_MV = 4150
COUNTERS = ("packets", "corrupt", "oversized", "duplicates", "stale", "events_dropped", "naks")
_COUNTER_MAX = 0xFFFF
_ORDER = Struct("<BBH")
_PAYLOAD_BYTES: dict[int, int] = {Opcode.HELLO: 2, Opcode.ILLUMINATION: 4, Opcode.UPDATE: 4}


@dataclass(slots=True, kw_only=True)
class SimulatedInputs:
    """What pins and sensors say; change it at will."""

    buttons: codes.Inputs = field(default_factory=lambda: codes.Inputs(0))
    are_dead: bool = False
    temperature_centidegrees_c: int = 2500
    battery_mv: int = 3900
    charger: codes.BatteryState = codes.BatteryState.DISCHARGING


@dataclass(slots=True, kw_only=True)
class DeviceState:
    """Everything that a command can read or change; times are ms since boot."""

    boot_id: int = 1
    reset_cause: codes.ResetCause = codes.ResetCause.POWER_ON
    inputs: SimulatedInputs = field(default_factory=SimulatedInputs)
    light: SimulatedLight = field(default_factory=SimulatedLight)
    events: SimulatedEvents = field(default_factory=SimulatedEvents)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    now_ms: int = 0
    session: int = 0
    previous_session: int = 0
    host_heard_ms: int = 0
    updating_since_ms: int | None = None

    def count(self, counter: str) -> None:
        """Add one to a counter, which stays at 65535."""
        self.counts[counter] = min(self.counts[counter] + 1, _COUNTER_MAX)


class _RefusedError(Exception):
    def __init__(self, reason: NakReason, detail: int = 0) -> None:
        super().__init__(reason, detail)
        self.refusal = Refusal(reason=reason, detail=detail)


def answer_to(command: Packet, kind: Kind, payload: bytes) -> Packet:
    """Return an answer with the command's opcode, session and sequence."""
    return Packet(kind=kind, opcode=command.opcode, session=command.session, sequence=command.sequence, payload=payload)


def execute(state: DeviceState, command: Packet) -> Packet:
    """Carry out a command whose session and sequence are in order; return the ACK, or the NAK that says why not."""
    try:
        return answer_to(command, Kind.ACK, _carry_out(state, command))
    except _RefusedError as error:
        return answer_to(command, Kind.NAK, error.refusal.pack())


def _carry_out(state: DeviceState, command: Packet) -> bytes:
    if command.opcode not in _ACTIONS:
        raise _RefusedError(NakReason.OPCODE, command.opcode)
    if len(command.payload) != _PAYLOAD_BYTES.get(command.opcode, 0):
        raise _RefusedError(NakReason.LENGTH, len(command.payload))
    return _ACTIONS[command.opcode](state, command)


def _hello(state: DeviceState, command: Packet) -> bytes:
    hello = Hello.unpack(command.payload)
    if not hello.oldest <= codes.PROTOCOL_VERSION <= hello.newest:
        raise _RefusedError(NakReason.VERSION, codes.PROTOCOL_VERSION)
    if command.session != state.session:
        state.previous_session, state.session = state.session, command.session
    state.events.clear()
    state.updating_since_ms = None
    state.host_heard_ms = state.now_ms
    state.light.turn_off(OffReason.NEW_SESSION)
    return HelloReply(
        version=codes.PROTOCOL_VERSION,
        reset_cause=state.reset_cause,
        boot_id=state.boot_id,
        uptime_ms=state.now_ms,
    ).pack()


def _status(state: DeviceState, _: Packet) -> bytes:
    light = state.light
    present = (light.is_blind, light.is_hot, light.is_battery_low, state.inputs.are_dead, light.is_resting)
    faults = sum(1 << bit for bit, is_set in enumerate((*present, state.updating_since_ms is not None)) if is_set)
    return StatusReply(
        uptime_ms=state.now_ms,
        mode=light.mode,
        level_percent=light.level_percent,
        remaining_ms=light.remaining_ms(state.now_ms),
        inputs=state.events.pressed,
        off_reason=light.off_reason,
        faults=codes.Faults(faults),
    ).pack()


def _illuminate(state: DeviceState, command: Packet) -> bytes:
    mode, level, limit_ms = _ORDER.unpack(command.payload)
    is_on = mode != codes.IlluminationMode.OFF
    if mode > codes.IlluminationMode.POLARISED:
        raise _RefusedError(NakReason.VALUE, 0)
    if not (1 <= level <= codes.LEVEL_MAX_PERCENT if is_on else level == 0):
        raise _RefusedError(NakReason.VALUE, 1)
    if not (1 <= limit_ms <= codes.TIME_LIMIT_MAX_MS if is_on else limit_ms == 0):
        raise _RefusedError(NakReason.VALUE, 2)
    if is_on:
        refusal = NakReason.UPDATE if state.updating_since_ms is not None else state.light.refusal()
        if refusal is not None:
            raise _RefusedError(refusal)
        state.light.turn_on(codes.IlluminationMode(mode), level, limit_ms, state.now_ms)
    else:
        state.light.turn_off(OffReason.ORDERED)
    return IlluminationReply(
        mode=state.light.mode,
        level_percent=state.light.level_percent,
        remaining_ms=state.light.remaining_ms(state.now_ms),
    ).pack()


def _temperature(state: DeviceState, _: Packet) -> bytes:
    return TemperatureReply(centidegrees_c=state.inputs.temperature_centidegrees_c).pack()


def _battery(state: DeviceState, _: Packet) -> bytes:
    millivolts = state.inputs.battery_mv
    if millivolts == 0:
        charge, percent = codes.BatteryState.ABSENT, codes.CHARGE_UNKNOWN
    else:
        charge = state.inputs.charger
        percent = (millivolts - BATTERY_LOW_MV) * 100 // (BATTERY_FULL_MV - BATTERY_LOW_MV)
        percent = max(0, min(100, percent))
    return BatteryReply(millivolts=millivolts, charge_percent=percent, state=charge).pack()


def _firmware(_state: DeviceState, _: Packet) -> bytes:
    return FirmwareReply(
        board=codes.Board.SIMULATOR,
        major=1,
        minor=0,
        patch=0,
        oldest_protocol=codes.PROTOCOL_VERSION,
        newest_protocol=codes.PROTOCOL_VERSION,
        capabilities=codes.Capabilities(0xFF),
        unit_number=1,
    ).pack()


def _counters(state: DeviceState, _: Packet) -> bytes:
    return CountersReply(**state.counts).pack()


def _update(state: DeviceState, command: Packet) -> bytes:
    if BeginUpdate.unpack(command.payload).key != codes.UPDATE_KEY:
        raise _RefusedError(NakReason.VALUE, 0)
    state.light.turn_off(OffReason.UPDATE)
    state.updating_since_ms = state.now_ms
    return UpdateReply(window_ms=UPDATE_WINDOW_MS).pack()


_ACTIONS: dict[int, Callable[[DeviceState, Packet], bytes]] = {
    Opcode.HELLO: _hello,
    Opcode.HEARTBEAT: _status,
    Opcode.ILLUMINATION: _illuminate,
    Opcode.TEMPERATURE: _temperature,
    Opcode.BATTERY: _battery,
    Opcode.FIRMWARE: _firmware,
    Opcode.COUNTERS: _counters,
    Opcode.UPDATE: _update,
}
