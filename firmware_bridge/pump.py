"""The thread that moves bytes between a port and the link, opens the port again when it is gone, and keeps time.

It decides nothing about light or photos. Commands come in from any thread and their futures are fulfilled here.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from .codes import OffReason
from .errors import (
    CommandRefusedError,
    DeviceAbsentError,
    FirmwareError,
    MessageError,
    OutcomeUnknownError,
    PortError,
)
from .link import Link
from .messages import Command
from .outcomes import (
    Answered,
    Failed,
    Failure,
    Happened,
    Light,
    LinkState,
    Outcome,
    Refused,
    StateChanged,
    StatusReported,
)
from .port import Port
from .replies import HelloReply, Reply, StatusReply

logger = logging.getLogger(__name__)

POLL_S = 0.02
REOPEN_FIRST_S = 0.25
REOPEN_MAX_S = 2.0
SILENT_REOPEN_S = 5.0
"""A device that says nothing for so long gets its port opened anew: that frees a wedged USB adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of the dermatoscope at one moment."""

    state: LinkState = LinkState.ABSENT
    light: Light = Light.UNCONFIRMED
    off_reason: OffReason = OffReason.NEVER_ON
    status: StatusReply | None = None
    """The last heartbeat's answer in this session; None before it."""
    hello: HelloReply | None = None


def _error_of(failure: Failure) -> FirmwareError:
    if failure is Failure.UNKNOWN:
        return OutcomeUnknownError("The dermatoscope did not answer; whether it obeyed is not known.")
    if failure is Failure.MALFORMED:
        return MessageError("The dermatoscope's answer makes no sense.")
    return DeviceAbsentError(f"The command was not sent ({failure.value}).")


class LinkPump:
    """Runs a `Link` over whatever `open_port` opens, from `__enter__` to `__exit__`; the port may come and go.

    `take_event` is called from the pump's thread and must return at once.
    """

    def __init__(
        self,
        open_port: Callable[[], Port],
        take_event: Callable[[Happened], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_port = open_port
        self._take_event = take_event
        self._clock = clock
        self._link = Link(first_session=secrets.randbelow(0xFFFF) + 1)
        self._inbox: SimpleQueue[tuple[Command, Future[Reply]]] = SimpleQueue()
        self._futures: dict[int, Future[Reply]] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._port: Port | None = None
        self._thread = threading.Thread(target=self._run, name="dermatoscope", daemon=True)
        self.snapshot = Snapshot()
        """Replaced whole by the pump; read it from any thread."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._wake()
        self._thread.join(timeout=5.0)

    def submit(self, command: Command) -> "Future[Reply]":
        """Hand a command in and return the future of its reply; it fails at once when no port is open."""
        future: Future[Reply] = Future()
        with self._lock:
            if self._port is None:
                future.set_exception(_error_of(Failure.ABSENT))
                return future
            self._inbox.put((command, future))
        self._wake()
        return future

    def _wake(self) -> None:
        port = self._port
        if port is not None:
            port.wake()

    def _run(self) -> None:
        pause_s = REOPEN_FIRST_S
        while not self._stop.is_set():
            try:
                port = self._open_port()
            except PortError as error:
                logger.debug("no dermatoscope reason=%s", error)
                self._stop.wait(pause_s)
                pause_s = min(pause_s * 2, REOPEN_MAX_S)
                continue
            pause_s = REOPEN_FIRST_S
            try:
                self._serve(port)
            except PortError as error:
                logger.warning("dermatoscope lost reason=%s", error)
            except Exception:
                # The edge of this thread: whatever it is, the clinic goes on and the link starts anew.
                logger.exception("dermatoscope link failed")
                pause_s = REOPEN_MAX_S
            finally:
                # Before any pause: who looks meanwhile must see that nothing is known of the light.
                self._give_up(port)
            self._stop.wait(pause_s)

    def _serve(self, port: Port) -> None:
        with self._lock:
            self._port = port
        now_s = heard_s = self._clock()
        self._link.connect(now_s)
        while not self._stop.is_set():
            port.write(self._link.take_outgoing())
            data = port.read(POLL_S)
            now_s = self._clock()
            self._link.receive(data, now_s)
            self._submit_waiting(now_s)
            self._link.tick(now_s)
            self._publish()
            if self._link.state is not LinkState.OPENING:
                heard_s = now_s
            elif now_s - heard_s > SILENT_REOPEN_S:
                raise PortError("nothing answers")

    def _give_up(self, port: Port) -> None:
        with self._lock:
            self._port = None
        port.close()
        self._link.disconnect()
        self._submit_waiting(self._clock())
        self._publish()

    def _submit_waiting(self, now_s: float) -> None:
        while True:
            try:
                command, future = self._inbox.get_nowait()
            except Empty:
                return
            self._futures[self._link.submit(command, now_s)] = future

    def _publish(self) -> None:
        hello, status = self.snapshot.hello, self.snapshot.status
        events: list[Happened] = []
        settled: list[Outcome] = []
        for outcome in self._link.take_outcomes():
            match outcome:
                case StateChanged():
                    hello, status = outcome.hello, None
                    logger.info("dermatoscope state=%s", outcome.state.value)
                case StatusReported():
                    status = outcome.status
                case Happened():
                    events.append(outcome)
                case _:
                    settled.append(outcome)
        # First the snapshot, then those who wait: whoever was answered sees a snapshot that knows of it.
        self.snapshot = Snapshot(
            state=self._link.state,
            light=self._link.light,
            off_reason=self._link.off_reason,
            status=status,
            hello=hello,
        )
        for event in events:
            self._take_event(event)
        for outcome in settled:
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        match outcome:
            case Answered():
                self._futures.pop(outcome.ticket).set_result(outcome.reply)
            case Refused():
                refusal = outcome.refusal
                self._futures.pop(outcome.ticket).set_exception(CommandRefusedError(refusal.reason, refusal.detail))
            case Failed():
                self._futures.pop(outcome.ticket).set_exception(_error_of(outcome.failure))
