"""A dermatoscope in memory: bytes, inputs and milliseconds come in, bytes and light go out. No port, thread or clock.

Answers as the reference firmware does; written from PROTOCOL.md, and compared with `firmware/` byte by byte.
"""

from collections.abc import Callable

from .codes import TEMPERATURE_ABSENT, BatteryState, Inputs, Kind, NakReason, OffReason, Opcode, ResetCause
from .errors import OversizedError, PacketError
from .packet import Packet, PacketDecoder, encode_packet
from .replies import Refusal
from .simulated_commands import UPDATE_WINDOW_MS, DeviceState, SimulatedInputs, answer_to, execute

CORRUPT_NAK_INTERVAL_MS = 50


def _ignore_light(now_ms: int, mode: int, level_percent: int) -> None:
    """Nobody watches."""
    del now_ms, mode, level_percent


def _unread() -> SimulatedInputs:
    """Return what a device knows before it first looks."""
    return SimulatedInputs(temperature_centidegrees_c=TEMPERATURE_ABSENT, battery_mv=0, charger=BatteryState.ABSENT)


class SimulatedDevice:
    """One device through all its boots; change `inputs` at will, read `state` freely.

    `watch_light` is called with (ms since boot, mode, level in %) at boot and whenever the light changes.
    """

    def __init__(self, *, watch_light: Callable[[int, int, int], None] = _ignore_light) -> None:
        self.inputs = SimulatedInputs()
        self._watch_light = watch_light
        self._boot(boot_id=1, cause=ResetCause.POWER_ON)

    def reset(self, cause: ResetCause = ResetCause.EXTERNAL) -> None:
        """Boot again: light off, session forgotten, bytes not yet taken lost."""
        self._boot(boot_id=(self.state.boot_id + 1) % 0x10000, cause=cause)

    def receive(self, data: bytes) -> None:
        """Take bytes from the host at the present millisecond."""
        for item in self._decoder.feed(data):
            if isinstance(item, PacketError):
                self.state.count("oversized" if isinstance(item, OversizedError) else "corrupt")
                self._answer_damage()
                continue
            self.state.count("packets")
            if item.kind is Kind.COMMAND:
                self._answer_command(item)
            elif item.kind is Kind.EVENT_ACK and item.session == self.state.session != 0:
                self.state.host_heard_ms = self.state.now_ms
                self.state.events.acknowledge(item)
            self._show_light()

    def advance(self, milliseconds: int) -> None:
        """Let time pass, one tick a millisecond."""
        for _ in range(milliseconds):
            self.state.now_ms += 1
            self._tick()

    def take_outgoing(self) -> bytes:
        """Return what the device has sent since the last call."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def _boot(self, *, boot_id: int, cause: ResetCause) -> None:
        self.state = DeviceState(boot_id=boot_id, reset_cause=cause, inputs=_unread())
        self._decoder = PacketDecoder()
        self._outgoing = bytearray()
        self._answer: Packet | None = None
        self._corrupt_nak_ms: int | None = None
        self._shown = (0, 0)
        self._watch_light(0, 0, 0)

    def _tick(self) -> None:
        state = self.state
        # Another object may have been assigned to `inputs` since.
        inputs = state.inputs = self.inputs
        buttons = Inputs(0) if inputs.are_dead else inputs.buttons
        for opcode, value, since_ms in state.events.changes(buttons, state.now_ms):
            self._queue_event(opcode, value, since_ms)
        state.light.sense(inputs.temperature_centidegrees_c, inputs.battery_mv)
        self._show_light()
        reason = state.light.tick(state.host_heard_ms, state.now_ms)
        self._show_light()
        if reason is not None:
            self._queue_event(Opcode.LIGHT_OFF, reason, state.now_ms)
        if state.updating_since_ms is not None and state.now_ms - state.updating_since_ms >= UPDATE_WINDOW_MS:
            state.updating_since_ms = None
        for _ in range(state.events.drop_aged(state.now_ms)):
            state.count("events_dropped")
        due = state.events.due(state.session, state.now_ms)
        if due is not None:
            self._send(due)

    def _queue_event(self, opcode: Opcode, value: int | OffReason, since_ms: int) -> None:
        if self.state.session and not self.state.events.put(opcode, value, since_ms):
            self.state.count("events_dropped")

    def _answer_command(self, command: Packet) -> None:
        state = self.state
        if command.session == 0 or command.session != state.session:
            self._answer_foreign(command)
            return
        state.host_heard_ms = state.now_ms
        ahead = (command.sequence - self._last_sequence()) % 0x10000
        if ahead >= 0x8000:
            state.count("stale")
            return
        if ahead == 0:
            state.count("duplicates")
        else:
            self._answer = execute(state, command)
        if self._answer is not None:
            self._send(self._answer)

    def _answer_foreign(self, command: Packet) -> None:
        if command.opcode != Opcode.HELLO or command.session == 0:
            self._send(answer_to(command, Kind.NAK, Refusal(reason=NakReason.SESSION, detail=0).pack()))
        elif command.session == self.state.previous_session:
            self.state.count("stale")
        else:
            answer = execute(self.state, command)
            if answer.kind is Kind.ACK:
                self._answer = answer
            self._send(answer)

    def _answer_damage(self) -> None:
        state = self.state
        is_recent = self._corrupt_nak_ms is not None and state.now_ms - self._corrupt_nak_ms < CORRUPT_NAK_INTERVAL_MS
        if not state.session or is_recent:
            return
        self._corrupt_nak_ms = state.now_ms
        refusal = Refusal(reason=NakReason.CORRUPT, detail=0)
        self._send(
            Packet(
                kind=Kind.NAK,
                opcode=0,
                session=state.session,
                sequence=self._last_sequence(),
                payload=refusal.pack(),
            )
        )

    def _last_sequence(self) -> int:
        return self._answer.sequence if self._answer else 0

    def _send(self, packet: Packet) -> None:
        if packet.kind is Kind.NAK:
            self.state.count("naks")
        # The firmware drives the light before it answers.
        self._show_light()
        self._outgoing += encode_packet(packet)

    def _show_light(self) -> None:
        shown = (int(self.state.light.mode), self.state.light.level_percent)
        if shown != self._shown:
            self._shown = shown
            self._watch_light(self.state.now_ms, *shown)
