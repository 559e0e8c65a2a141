"""The dermatoscope as the appliance uses it: typed commands, a snapshot, events; it may be absent at any time.

No call waits longer than two seconds, none that finds the device absent waits at all, and starting never fails.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Condition
from types import TracebackType
from typing import Self, TypeVar

from .codes import IlluminationMode, Opcode
from .errors import MessageError, OutcomeUnknownError
from .messages import BeginUpdate, Command, Illuminate, Query
from .outcomes import Happened
from .port import Port
from .pump import LinkPump, Snapshot
from .replies import (
    BatteryReply,
    CountersReply,
    FirmwareReply,
    IlluminationReply,
    Reply,
    StatusReply,
    TemperatureReply,
    UpdateReply,
)

CALL_TIMEOUT_S = 2.0
EVENT_FRESH_S = 0.5
"""Rule 1 of the appliance: nothing is photographed for a press older than this."""
EVENTS_MAX = 32

_R = TypeVar("_R", bound=Reply)


class Dermatoscope:
    """The device behind whatever `open_port` opens (`port.opener`, `simulator.SimulatedPort`), from enter to exit.

    Commands raise `DeviceAbsentError` at once without a device, `CommandRefusedError` when it refuses, and
    `OutcomeUnknownError` when it did not answer.
    """

    def __init__(self, open_port: Callable[[], Port], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: deque[Happened] = deque(maxlen=EVENTS_MAX)
        self._arrival = Condition()
        self._pump = LinkPump(open_port, self._take_event, clock=clock)

    def __enter__(self) -> Self:
        self._pump.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pump.__exit__(kind, error, traceback)

    @property
    def snapshot(self) -> Snapshot:
        """What is known now, without waiting."""
        return self._pump.snapshot

    def illuminate(self, mode: IlluminationMode, level_percent: int, time_limit_ms: int) -> IlluminationReply:
        """Turn a ring on, level 1 to 100 %, for at most 1 to 10,000 ms; the device may cap the level and says so.

        The light is on when this returns. To keep it on, order again before the limit is over.
        """
        command = Illuminate(mode=mode, level_percent=level_percent, time_limit_ms=time_limit_ms)
        return self._call(command, IlluminationReply)

    def turn_off(self) -> IlluminationReply:
        """Turn the light off, before all commands that wait; when this returns the device has confirmed it."""
        return self._call(Illuminate(mode=IlluminationMode.OFF), IlluminationReply)

    def status(self) -> StatusReply:
        """Ask for light, inputs and faults."""
        return self._call(Query(opcode=Opcode.HEARTBEAT), StatusReply)

    def temperature(self) -> TemperatureReply:
        """Ask for the LED board's temperature."""
        return self._call(Query(opcode=Opcode.TEMPERATURE), TemperatureReply)

    def battery(self) -> BatteryReply:
        """Ask for the battery."""
        return self._call(Query(opcode=Opcode.BATTERY), BatteryReply)

    def firmware(self) -> FirmwareReply:
        """Ask what runs on the device, and on what."""
        return self._call(Query(opcode=Opcode.FIRMWARE), FirmwareReply)

    def counters(self) -> CountersReply:
        """Ask what the device's end of the line has seen."""
        return self._call(Query(opcode=Opcode.COUNTERS), CountersReply)

    def begin_update(self) -> UpdateReply:
        """Lock the light out and have the device wait for its boot loader to be used."""
        return self._call(BeginUpdate(), UpdateReply)

    def next_event(self, timeout_s: float) -> Happened | None:
        """Return the oldest event younger than 0.5 s, waiting at most `timeout_s`; None if there is none."""
        deadline_s = self._clock() + timeout_s
        with self._arrival:
            while True:
                while self._events:
                    event = self._events.popleft()
                    if self._clock() - event.occurred_s <= EVENT_FRESH_S:
                        return event
                left_s = deadline_s - self._clock()
                if left_s <= 0:
                    return None
                self._arrival.wait(left_s)

    def _take_event(self, event: Happened) -> None:
        with self._arrival:
            self._events.append(event)
            self._arrival.notify()

    def _call(self, command: Command, expected: type[_R]) -> _R:
        try:
            reply = self._pump.submit(command).result(timeout=CALL_TIMEOUT_S)
        except FutureTimeoutError as error:
            raise OutcomeUnknownError(
                "The dermatoscope did not answer in time; whether it obeyed is not known."
            ) from error
        if not isinstance(reply, expected):
            raise MessageError(f"A {expected.__name__} was expected.")
        return reply
