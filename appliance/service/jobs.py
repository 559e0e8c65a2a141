"""One thing asked of the model, as the nurse's screen follows it: a state in words and a log of events to resume from.

A job runs nothing; `questions` does. Its log is what a screen that was reloaded, or lost its connection, reads again.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

JobState = Literal["waiting", "queued", "running", "done", "cancelled", "failed"]
"""`waiting`: the engine is away, the job runs by itself when it is back; `queued`: others come first."""
EventName = Literal["state", "finding", "text", "reset", "end"]
FINAL_STATES: Final = frozenset({"done", "cancelled", "failed"})

_EVENTS_MAX: Final = 4096
"""More than the longest answer writes; past it text is joined to the last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One entry of a job's log."""

    event_id: int
    """Counts from 1."""
    name: EventName
    value: dict[str, Any]


class Job:
    """What was asked about one photo, and how far it is."""

    def __init__(self, capture_id: str, encounter_id: str, question: str | None) -> None:
        self.job_id = uuid.uuid4().hex
        self.capture_id = capture_id
        self.encounter_id = encounter_id
        self.question = question
        """None asks for the assessment."""
        self.asked_by: str | None = None
        """Id of the user who asked, where there are users."""
        self._state: JobState = "queued"
        self._events: list[JobEvent] = []
        self._changed = threading.Condition()
        self._is_cancelled = threading.Event()
        self._stop_run: Callable[[], None] | None = None

    @property
    def state(self) -> JobState:
        """Where it stands."""
        return self._state

    @property
    def words(self) -> str:
        """The sentence of its present state."""
        with self._changed:
            return next((str(one.value["words"]) for one in reversed(self._events) if one.name == "state"), "")

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._state in FINAL_STATES

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to end it."""
        return self._is_cancelled.is_set()

    def cancel(self) -> None:
        """End it: at once while it only waits, else within one token of whoever runs it."""
        self._is_cancelled.set()
        with self._changed:
            stop_run = self._stop_run
        if stop_run is not None:
            stop_run()
        elif self._state != "running":
            self.enter("cancelled", "Cancelled.")

    def run_by(self, stop_run: Callable[[], None] | None) -> None:
        """Say how to stop the run that is going on; None when there is none."""
        with self._changed:
            self._stop_run = stop_run
        if stop_run is not None and self._is_cancelled.is_set():
            stop_run()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Wait for a cancel, no longer than `timeout_s`; return whether it came."""
        return self._is_cancelled.wait(timeout_s)

    def enter(self, state: JobState, words: str, **facts: Any) -> None:
        """Change the state; a final one ends the log.

        Args:
            state: The new state.
            words: One sentence for the nurse.
            facts: `before`, jobs that come first; `seconds_left`.
        """
        value = {"state": state, "words": words, "before": None, "seconds_left": None, **facts}
        with self._changed:
            if self.is_over:
                return
            self._state = state
            self._append("state", value)
            if state in FINAL_STATES:
                self._append("end", {"state": state, "words": words})

    def tell(self, event: Literal["finding", "text", "reset"], /, **value: str) -> None:
        """Add something to show, or withdraw all of it (`reset`)."""
        with self._changed:
            if not self.is_over:
                self._append(event, value)

    def events(self, after: int, timeout_s: float) -> Iterator[JobEvent]:
        """Wait for events whose id is greater than `after` and yield those there are; none when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events) and self._events[-1].event_id > after, timeout_s)
            found = [event for event in self._events if event.event_id > after]
        yield from found

    def _append(self, name: EventName, value: dict[str, Any]) -> None:
        event_id = self._events[-1].event_id + 1 if self._events else 1
        if name == "text" and len(self._events) >= _EVENTS_MAX and self._events[-1].name == "text":
            value = {"text": self._events.pop().value["text"] + value["text"]}
        self._events.append(JobEvent(event_id=event_id, name=name, value=value))
        self._changed.notify_all()
