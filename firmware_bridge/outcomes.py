"""What the link tells those who use it: states, answers, failures, events; numbers and enumerations only."""

from dataclasses import dataclass
from enum import Enum

from .codes import Opcode
from .replies import HelloReply, Refusal, Reply, StatusReply


class LinkState(Enum):
    """How far host and device have come."""

    ABSENT = "absent"
    """No port."""
    OPENING = "opening"
    """The port is open; the device has not answered HELLO."""
    READY = "ready"
    """A session is open and the device answers."""
    INCOMPATIBLE = "incompatible"
    """The device answers, but speaks no protocol version of ours."""


class Light(Enum):
    """What the host knows of the light now. UNCONFIRMED must be said on the screen."""

    OFF_CONFIRMED = "off"
    ON_CONFIRMED = "on"
    UNCONFIRMED = "unconfirmed"


class Failure(Enum):
    """Why a command has no answer."""

    ABSENT = "absent"
    """It was never sent."""
    UNKNOWN = "unknown"
    """It was sent, perhaps carried out; the answer did not come."""
    SUPERSEDED = "superseded"
    """It was never sent: an order to turn the light off came after it."""
    BUSY = "busy"
    """It was never sent: too many commands wait."""
    MALFORMED = "malformed"
    """The answer came, intact, and makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The device carried the command of this ticket out."""

    ticket: int
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The device did not carry it out."""

    ticket: int
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The command has no answer."""

    ticket: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event, once; `occurred_s` is when by the host's monotonic clock, from the age that the device measured."""

    opcode: Opcode
    value: int
    occurred_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The link's state is another now; `hello` is the device's answer when it became READY."""

    state: LinkState
    hello: HelloReply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReported:
    """A heartbeat was answered."""

    status: StatusReply


Outcome = Answered | Refused | Failed | Happened | StateChanged | StatusReported


@dataclass(slots=True, kw_only=True)
class LinkCounters:
    """What happened on the line since the start; for a technician, never for a decision."""

    damaged: int = 0
    """Pieces of input that were no packet."""
    stale: int = 0
    """Intact answers and events that belong to nothing in flight."""
    malformed: int = 0
    """Intact packets whose payload the protocol does not know."""
    retransmissions: int = 0
    sessions: int = 0
    events_dropped: int = 0
    """Events that came too late or too fast."""
