"""The link's state machine: sessions, one command in flight, retransmission, heartbeat, events.

Bytes and the time come in, bytes and outcomes go out; there is no port, clock or thread here. Source: PROTOCOL.md 3.
"""

from collections import deque
from dataclasses import dataclass

from .codes import EVENT_MAX_AGE_MS, EVENTS, IlluminationMode, Kind, NakReason, OffReason, Opcode
from .errors import MessageError, PacketError
from .messages import Command, Hello, Illuminate, InputEvent, Query
from .outcomes import (
    Answered,
    Failed,
    Failure,
    Happened,
    Light,
    LinkCounters,
    LinkState,
    Outcome,
    Refused,
    StateChanged,
    StatusReported,
)
from .packet import Packet, PacketDecoder, encode_packet
from .replies import HelloReply, IlluminationReply, Refusal, Reply, StatusReply, unpack_reply

ANSWER_TIMEOUT_S = 0.1
ATTEMPTS = 4
HEARTBEAT_S = 0.25
QUEUE_MAX = 8
EVENTS_PER_SECOND_MAX = 20
INCOMPATIBLE_RETRY_S = 5.0
_SEQUENCE_MAX = 0xFFFF
_SESSION_MAX = 0xFFFF


@dataclass(slots=True, kw_only=True)
class _Flight:
    """The command that waits for its answer; `ticket` is None for the link's own."""

    ticket: int | None
    command: Command
    sequence: int
    wire: bytes
    sent_s: float
    attempts: int = 1


class Link:
    """The host's end. Call `receive` and `tick`, then send `take_outgoing()` and act on `take_outcomes()`.

    `first_session` is any number from 1 to 65535; one that differs from run to run keeps answers of an earlier run out.
    """

    def __init__(self, *, first_session: int) -> None:
        self.state = LinkState.ABSENT
        self.light = Light.UNCONFIRMED
        self.off_reason = OffReason.NEVER_ON
        self.counters = LinkCounters()
        self._session = (first_session - 1) % _SESSION_MAX
        self._sequence = 0
        self._decoder = PacketDecoder()
        self._flight: _Flight | None = None
        self._waiting: deque[tuple[int, Command]] = deque()
        self._tickets = 0
        self._outgoing = bytearray()
        self._outcomes: list[Outcome] = []
        self._last_event: int | None = None
        self._event_times: deque[float] = deque(maxlen=EVENTS_PER_SECOND_MAX)
        self._quiet_until_s = 0.0

    def connect(self, now_s: float) -> None:
        """Say that the port is open."""
        self._decoder = PacketDecoder()
        self._outgoing.clear()
        self._open_session(now_s)

    def disconnect(self) -> None:
        """Say that the port is gone; what was in flight fails."""
        self._fail_all()
        self._enter(LinkState.ABSENT)

    def submit(self, command: Command, now_s: float) -> int:
        """Take a command and return its ticket, which its outcome will carry.

        An order to turn the light off goes before all that wait, and orders for light that wait are dropped.
        """
        self._tickets += 1
        ticket = self._tickets
        if self.state is not LinkState.READY:
            self._outcomes.append(Failed(ticket=ticket, failure=Failure.ABSENT))
        elif isinstance(command, Illuminate) and command.mode is IlluminationMode.OFF:
            for dropped, other in self._waiting:
                if isinstance(other, Illuminate):
                    self._outcomes.append(Failed(ticket=dropped, failure=Failure.SUPERSEDED))
            kept = [item for item in self._waiting if not isinstance(item[1], Illuminate)]
            self._waiting = deque([(ticket, command), *kept])
        elif len(self._waiting) >= QUEUE_MAX:
            self._outcomes.append(Failed(ticket=ticket, failure=Failure.BUSY))
        else:
            self._waiting.append((ticket, command))
        self._send_next(now_s)
        return ticket

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the port, cut anywhere."""
        for item in self._decoder.feed(data):
            if isinstance(item, PacketError):
                self.counters.damaged += 1
            elif item.kind is Kind.EVENT:
                self._take_event(item, now_s)
            elif item.kind in (Kind.ACK, Kind.NAK):
                self._take_answer(item, now_s)
            else:
                self.counters.stale += 1
        self._send_next(now_s)

    def tick(self, now_s: float) -> None:
        """Let time pass: retransmit, give up, send a heartbeat. To be called at `next_wake_s` or earlier."""
        flight = self._flight
        if flight is not None and now_s - flight.sent_s >= ANSWER_TIMEOUT_S:
            if flight.attempts < ATTEMPTS:
                self._resend(flight, now_s)
            else:
                self._open_session(now_s)
        elif self.state is LinkState.INCOMPATIBLE and now_s >= self._quiet_until_s:
            self._open_session(now_s)
        self._send_next(now_s)

    def next_wake_s(self, now_s: float) -> float:
        """Return when `tick` has something to do, by the clock that `now_s` is of."""
        if self._flight is not None:
            return self._flight.sent_s + ANSWER_TIMEOUT_S
        return self._quiet_until_s if self.state is not LinkState.ABSENT else now_s + 1.0

    def take_outgoing(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        taken = bytes(self._outgoing)
        self._outgoing.clear()
        return taken

    def take_outcomes(self) -> list[Outcome]:
        """Return what happened since the last call, in order, and forget it."""
        taken, self._outcomes = self._outcomes, []
        return taken

    # Sending

    def _open_session(self, now_s: float) -> None:
        """Start over: nothing that was said before counts, and the device turns its light off."""
        self._fail_all()
        self._new_session(now_s)
        self._enter(LinkState.OPENING)

    def _new_session(self, now_s: float) -> None:
        self._session = self._session % _SESSION_MAX + 1
        self._sequence = 0
        self._last_event = None
        self.light = Light.UNCONFIRMED
        self.counters.sessions += 1
        self._launch(None, Hello(), now_s)

    def _launch(self, ticket: int | None, command: Command, now_s: float) -> None:
        packet = Packet(
            kind=Kind.COMMAND,
            opcode=command.opcode,
            session=self._session,
            sequence=self._sequence,
            payload=command.pack(),
        )
        wire = encode_packet(packet)
        self._flight = _Flight(ticket=ticket, command=command, sequence=self._sequence, wire=wire, sent_s=now_s)
        self._sequence += 1
        self._outgoing += wire
        if isinstance(command, Illuminate):
            self.light = Light.UNCONFIRMED

    def _resend(self, flight: _Flight, now_s: float) -> None:
        flight.attempts += 1
        flight.sent_s = now_s
        self.counters.retransmissions += 1
        self._outgoing += flight.wire

    def _send_next(self, now_s: float) -> None:
        if self._flight is not None or self.state is not LinkState.READY:
            return
        if self._sequence > _SEQUENCE_MAX:
            # Sequence numbers never wrap within a session, so that no answer can be taken for a later one.
            self._new_session(now_s)
        elif self._waiting:
            self._launch(*self._waiting.popleft(), now_s)
        elif now_s >= self._quiet_until_s:
            self._launch(None, Query(opcode=Opcode.HEARTBEAT), now_s)

    # Receiving

    def _take_answer(self, packet: Packet, now_s: float) -> None:
        flight = self._flight
        if flight is None or packet.session != self._session:
            self.counters.stale += 1
            return
        try:
            refusal = Refusal.unpack(packet.payload) if packet.kind is Kind.NAK else None
            if refusal is not None and refusal.reason is NakReason.CORRUPT:
                if flight.attempts < ATTEMPTS:
                    self._resend(flight, now_s)
                return
            if packet.sequence != flight.sequence or packet.opcode != flight.command.opcode:
                self.counters.stale += 1
                return
            reply = None if refusal is not None else unpack_reply(packet.opcode, packet.payload)
        except MessageError:
            self.counters.malformed += 1
            self._end_flight(now_s)
            if flight.ticket is not None:
                self._outcomes.append(Failed(ticket=flight.ticket, failure=Failure.MALFORMED))
            return
        if refusal is not None:
            self._take_refusal(flight, refusal, now_s)
        elif reply is not None:
            self._end_flight(now_s)
            self._take_reply(flight, reply)

    def _end_flight(self, now_s: float) -> None:
        self._flight = None
        self._quiet_until_s = now_s + HEARTBEAT_S

    def _take_refusal(self, flight: _Flight, refusal: Refusal, now_s: float) -> None:
        if refusal.reason is NakReason.SESSION:
            self._open_session(now_s)
            return
        self._end_flight(now_s)
        if isinstance(flight.command, Hello):
            self._quiet_until_s = now_s + INCOMPATIBLE_RETRY_S
            self._enter(LinkState.INCOMPATIBLE)
        elif flight.ticket is not None:
            self._outcomes.append(Refused(ticket=flight.ticket, refusal=refusal))

    def _take_reply(self, flight: _Flight, reply: Reply) -> None:
        if isinstance(reply, HelloReply):
            self.light = Light.OFF_CONFIRMED
            self._quiet_until_s = 0.0
            self._enter(LinkState.READY, reply)
        elif isinstance(reply, StatusReply | IlluminationReply):
            is_off = reply.mode is IlluminationMode.OFF
            self.light = Light.OFF_CONFIRMED if is_off else Light.ON_CONFIRMED
        if isinstance(reply, StatusReply):
            self.off_reason = reply.off_reason
            self._outcomes.append(StatusReported(status=reply))
        if flight.ticket is not None:
            self._outcomes.append(Answered(ticket=flight.ticket, reply=reply))

    def _take_event(self, packet: Packet, now_s: float) -> None:
        is_ours = packet.session == self._session and self.state is LinkState.READY
        if not is_ours or packet.opcode not in EVENTS:
            self.counters.stale += 1
            return
        self._outgoing += encode_packet(
            Packet(kind=Kind.EVENT_ACK, opcode=packet.opcode, session=packet.session, sequence=packet.sequence)
        )
        if self._last_event is not None and not 0 < (packet.sequence - self._last_event) % 0x10000 < 0x8000:
            self.counters.stale += 1
            return
        self._last_event = packet.sequence
        try:
            event = InputEvent.unpack(packet.opcode, packet.payload)
        except MessageError:
            self.counters.malformed += 1
            return
        if event.opcode is Opcode.LIGHT_OFF:
            self.off_reason = OffReason(event.value)
        self._deliver(event, now_s)

    def _deliver(self, event: InputEvent, now_s: float) -> None:
        is_flood = len(self._event_times) == EVENTS_PER_SECOND_MAX and now_s - self._event_times[0] < 1.0
        if is_flood or event.age_ms > EVENT_MAX_AGE_MS:
            self.counters.events_dropped += 1
            return
        self._event_times.append(now_s)
        self._outcomes.append(Happened(opcode=event.opcode, value=event.value, occurred_s=now_s - event.age_ms / 1000))

    # States

    def _enter(self, state: LinkState, hello: HelloReply | None = None) -> None:
        if state is not LinkState.READY:
            self.light = Light.UNCONFIRMED
        if state is not self.state or hello is not None:
            self.state = state
            self._outcomes.append(StateChanged(state=state, hello=hello))

    def _fail_all(self) -> None:
        if self._flight is not None and self._flight.ticket is not None:
            self._outcomes.append(Failed(ticket=self._flight.ticket, failure=Failure.UNKNOWN))
        self._flight = None
        for ticket, _ in self._waiting:
            self._outcomes.append(Failed(ticket=ticket, failure=Failure.ABSENT))
        self._waiting.clear()
