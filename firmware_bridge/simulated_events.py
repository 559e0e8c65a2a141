"""Switches of the simulated device: debouncing, and the queue of events until the host has them.

Source: PROTOCOL.md 3, "Events", and 5.
"""

from collections import deque
from dataclasses import dataclass, field

from .codes import EVENT_MAX_AGE_MS, Inputs, Kind, Opcode
from .messages import InputEvent
from .packet import Packet

DEBOUNCE_MS = 20
REPEAT_MS = 100
QUEUE_MAX = 4
_SWITCHES = (
    (Inputs.SHUTTER, Opcode.SHUTTER),
    (Inputs.FOOT_SWITCH, Opcode.FOOT_SWITCH),
    (Inputs.LENS_CONTACT, Opcode.LENS_CONTACT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    opcode: Opcode
    value: int
    since_ms: int


@dataclass(slots=True, kw_only=True)
class SimulatedEvents:
    """Debounced switches and at most four waiting events; times are ms since boot."""

    pressed: Inputs = field(default_factory=lambda: Inputs(0))
    _edges_ms: dict[Inputs, int] = field(default_factory=dict)
    _waiting: deque[_Event] = field(default_factory=deque)
    _sequence: int = 1
    _head_sent_ms: int | None = None

    def changes(self, buttons: Inputs, now_ms: int) -> list[tuple[Opcode, int, int]]:
        """Look at the switches once a millisecond; return what settled as (opcode, value, ms of the first edge)."""
        settled = []
        for switch, opcode in _SWITCHES:
            if buttons & switch == self.pressed & switch:
                self._edges_ms.pop(switch, None)
            elif now_ms - self._edges_ms.setdefault(switch, now_ms) >= DEBOUNCE_MS:
                self.pressed ^= switch
                settled.append((opcode, int(bool(buttons & switch)), self._edges_ms.pop(switch)))
        return settled

    def put(self, opcode: Opcode, value: int, since_ms: int) -> bool:
        """Queue an event; False when four wait already and this one is lost."""
        if len(self._waiting) == QUEUE_MAX:
            return False
        self._waiting.append(_Event(opcode=opcode, value=value, since_ms=since_ms))
        return True

    def drop_aged(self, now_ms: int) -> int:
        """Drop events older than 500 ms from the head; return how many."""
        dropped = 0
        while self._waiting and now_ms - self._waiting[0].since_ms > EVENT_MAX_AGE_MS:
            self._drop_head()
            dropped += 1
        return dropped

    def due(self, session: int, now_ms: int) -> Packet | None:
        """Return the head as a packet when it is time to send it (again)."""
        if not self._waiting or (self._head_sent_ms is not None and now_ms - self._head_sent_ms < REPEAT_MS):
            return None
        self._head_sent_ms = now_ms
        head = self._waiting[0]
        event = InputEvent(opcode=head.opcode, value=head.value, age_ms=now_ms - head.since_ms)
        return Packet(
            kind=Kind.EVENT, opcode=head.opcode, session=session, sequence=self._sequence, payload=event.pack()
        )

    def acknowledge(self, packet: Packet) -> None:
        """Forget the head when `packet` acknowledges it."""
        is_head = self._waiting and packet.opcode == self._waiting[0].opcode and packet.sequence == self._sequence
        if is_head and self._head_sent_ms is not None:
            self._drop_head()

    def clear(self) -> None:
        """Forget all that wait."""
        self._waiting.clear()
        self._use_up_sequence()

    def _drop_head(self) -> None:
        self._waiting.popleft()
        self._use_up_sequence()

    def _use_up_sequence(self) -> None:
        if self._head_sent_ms is not None:
            self._sequence = (self._sequence + 1) % 0x10000
        self._head_sent_ms = None
