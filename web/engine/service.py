"""The engine as its routes see it: the model, the queue in front of it, and the way an answer is followed.

It knows no HTTP.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from appliance.engine_wire import KEEPALIVE_S, EngineHealth
from appliance.errors import EngineUnavailableError
from web.engine.job_queue import JobQueue
from web.engine.jobs import ENDS, Event, Job
from web.engine.limits import EngineLimits
from web.engine.model_host import ModelHost, summary_of

POLL_S: Final = 0.05
"""How often a request's thread looks whether its client is still there; well below the time of one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Nothing new; the client is told so that it knows the engine lives."""

    before: int | None
    """Jobs that come first; None when the job runs."""


class EngineService:
    """Everything that lives as long as the process."""

    def __init__(self, host: ModelHost, limits: EngineLimits) -> None:
        self.host = host
        self.limits = limits
        self.queue = JobQueue(limits.queue_limit, deadline_s=limits.deadline_s)
        self._started_at_s = time.monotonic()

    def start(self) -> None:
        """Begin to load the model and to work."""
        self.host.start(self._may_answer)

    def _may_answer(self, refusal: EngineUnavailableError | None) -> None:
        """Let the queue work once the model has passed its self-test; end what waits if it never will."""
        if refusal is None:
            self.queue.start()
        else:
            self.queue.refuse(refusal)

    def close(self) -> bool:
        """Cancel every job and free the model; False when the model hangs and could not be freed."""
        if not self.queue.close():
            return False
        self.host.close()
        return True

    def health(self) -> EngineHealth:
        """Return what `/health` says."""
        model = self.host.model
        stalled_for_s = self.queue.stalled_for_s()
        error = self.host.error
        if stalled_for_s is not None:
            error = f"The model has been stuck for {stalled_for_s:.0f} s; the engine must be restarted."
        return EngineHealth(
            status="failed" if error is not None else self.host.status,
            model=summary_of(model) if model is not None else None,
            providers=tuple(model.providers) if model is not None else (),
            placement=model.placement if model is not None else {},
            self_test=self.host.self_test,
            memory=model.plan.sentence if model is not None else None,
            queue=self.queue.state,
            error=error,
            version=version("dermstation"),
            load_s=model.load_s if model is not None else None,
            uptime_s=time.monotonic() - self._started_at_s,
        )

    def follow(self, job: Job, is_disconnected: Callable[[], bool]) -> Iterator[Event | Waiting]:
        """Yield what happens to a submitted job; leaving the iteration, or the client's leaving, cancels it."""
        said_at_s, said = 0.0, -1
        try:
            while not is_disconnected():
                event = job.next_event(POLL_S)
                if event is not None:
                    said_at_s = time.monotonic()
                    yield event
                    if isinstance(event, ENDS):
                        return
                    continue
                before = self.queue.before(job)
                if before not in {None, said} or time.monotonic() - said_at_s > KEEPALIVE_S:
                    said_at_s, said = time.monotonic(), before if before is not None else said
                    yield Waiting(before=before)
        finally:
            self.queue.withdraw(job)
