"""One job at a time, the others waiting in the order in which they came, and no more of them than agreed.

It knows neither HTTP nor the model. A cancelled job that waits leaves at once; one that runs ends within a token.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from appliance.engine_wire import QueueState
from appliance.errors import DermstationError, EngineUnavailableError
from web.engine.jobs import ENDS, Failed, Job, Started
from web.engine.panics import panics_as_errors

logger = logging.getLogger(__name__)

STALL_GRACE_S: Final = 30.0
"""A run looks at its deadline between two steps; the longest one, a prefill chunk on a slow box, takes less."""
_STOP_S: Final = 2.0


class QueueFullError(Exception):
    """There is no place left to wait."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"The engine is busy: {waiting} requests already wait.")
        self.waiting = waiting


class DuplicateJobError(Exception):
    """A job of this id waits or runs already."""


class JobQueue:
    """The queue and its one worker; a context manager."""

    def __init__(self, limit: int, *, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._stall_after_s = deadline_s + STALL_GRACE_S
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._started_at_s = 0.0
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="model-worker", daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def submit(self, job: Job) -> None:
        """Let a job stand in the queue.

        Raises:
            QueueFullError: As many as agreed wait already.
            EngineUnavailableError: The engine is stopping.
            DuplicateJobError: Its id is taken.
        """
        with self._changed:
            if self._find(job.id) is not None:
                raise DuplicateJobError(f"A request with the id {job.id} is not finished yet.")
            if self._is_closed:
                raise EngineUnavailableError("The engine is stopping.")
            if len(self._waiting) + (self._running is not None) > self._limit:
                raise QueueFullError(len(self._waiting))
            self._waiting.append(job)
            self._changed.notify()

    def before(self, job: Job) -> int | None:
        """Count the jobs that come first, the running one included; None when this one does not wait."""
        with self._changed:
            if job not in self._waiting:
                return None
            return self._waiting.index(job) + (self._running is not None)

    def cancel(self, job_id: str) -> bool:
        """End a job by its id; False when there is none."""
        with self._changed:
            job = self._find(job_id)
            if job is None:
                return False
            self._end(job)
            return True

    def withdraw(self, job: Job) -> None:
        """End this very job if it is not finished; its id may have been taken by another since."""
        with self._changed:
            if job is self._running or job in self._waiting:
                self._end(job)

    def refuse(self, error: Exception) -> None:
        """End every job that waits with an error, and take no new one."""
        with self._changed:
            self._is_closed = True
            while self._waiting:
                self._waiting.popleft().put(Failed(error=error))

    @property
    def state(self) -> QueueState:
        """How busy the worker is."""
        with self._changed:
            return QueueState(running=int(self._running is not None), waiting=len(self._waiting), limit=self._limit)

    def stalled_for_s(self) -> float | None:
        """Return how long the running job has been running if that is far beyond its deadline, else None."""
        with self._changed:
            running_s = self._clock() - self._started_at_s
            return running_s if self._running is not None and running_s > self._stall_after_s else None

    def close(self) -> bool:
        """Cancel everything and stop the worker; False when it hangs in the model."""
        with self._changed:
            self._is_closed = True
            for job in [*self._waiting, *filter(None, [self._running])]:
                self._end(job)
            self._changed.notify()
        if self._worker.is_alive():
            self._worker.join(_STOP_S)
        return not self._worker.is_alive()

    def _find(self, job_id: str) -> Job | None:
        candidates = [*self._waiting, *filter(None, [self._running])]
        return next((job for job in candidates if job.id == job_id), None)

    def _end(self, job: Job) -> None:
        job.cancelled.set()
        if job in self._waiting:
            self._waiting.remove(job)
            job.put(job.ended_early())

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                _run(job)
            finally:
                with self._changed:
                    self._running = None

    def _take(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return None
            self._running = self._waiting.popleft()
            self._started_at_s = self._clock()
            return self._running


def _run(job: Job) -> None:
    """Run one job to its end; whatever happens, its client hears of an end."""
    job.put(Started())
    has_ended = False
    try:
        # To the last item, past the end that its client sees: a run that is only dropped frees nothing in time.
        with panics_as_errors():
            for event in job.run():
                job.put(event)
                has_ended = isinstance(event, ENDS)
    except Exception as error:  # the edge of the worker's thread: one bad job must not take the others with it
        if not isinstance(error, DermstationError):
            logger.exception("job failed")
        has_ended = True
        job.put(Failed(error=error))
    if not has_ended:
        job.put(Failed(error=RuntimeError("the model ended without a result")))
