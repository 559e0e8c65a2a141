"""How the engine is, in words: asked every second on a thread of its own, so that no screen ever waits for it."""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

from appliance.engine_wire import EngineHealth
from appliance.errors import EngineUnavailableError

logger = logging.getLogger(__name__)

ModelState = Literal["starting", "ready", "off"]
_POLL_S: Final = 1.0
_START_S: Final = 20.0
"""An engine that was never seen is taken for starting this long, then for off."""
_RUNS_REMEMBERED: Final = 8


class HealthSource(Protocol):
    """The part of the engine's client that is needed here."""

    def health(self, timeout_s: float = 1.0) -> EngineHealth:
        """Return the engine's health, or raise EngineUnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """What every screen says about the model."""

    state: ModelState
    words: str
    detail: str | None = None
    """Why it is off, in one sentence for a technician."""
    warning: str | None = None
    """The bundle's sentence that stands beside every answer."""
    answer_s: float | None = None
    """Seconds that an assessment took lately; None before the first."""
    name: str | None = None
    sha256: str | None = None
    providers: tuple[str, ...] = ()
    """Execution providers that run the model's nodes; for the record of each answer."""


class EngineWatch:
    """Keeps the latest answer to "how is the engine?"; a context manager."""

    def __init__(self, source: HealthSource, *, poll_s: float = _POLL_S) -> None:
        self._source = source
        self._poll_s = poll_s
        self._status = ModelStatus(state="starting", words="Model is starting")
        self._seen_or_late = False
        self._runs_s: deque[float] = deque(maxlen=_RUNS_REMEMBERED)
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)

    def __enter__(self) -> Self:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._stop.set()
        self._nudge.set()
        self._thread.join(5)

    @property
    def status(self) -> ModelStatus:
        """The latest."""
        return self._status

    @property
    def answer_s(self) -> float | None:
        """Seconds that an assessment takes on this box, by the median of the last ones; at least 1."""
        runs_s = sorted(self._runs_s)
        # A screen counts whole seconds, and "about 0 s" says nothing.
        return max(1.0, runs_s[len(runs_s) // 2]) if runs_s else None

    def remember_run(self, seconds: float) -> None:
        """Learn from an assessment that went through."""
        self._runs_s.append(seconds)

    def look_again(self) -> None:
        """Ask at once: somebody has noticed that the engine is gone."""
        self._nudge.set()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the model is ready, no longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._status.state == "ready", timeout_s)

    def _watch(self) -> None:
        waited_s = 0.0
        while not self._stop.is_set():
            status = self._ask(is_late=self._seen_or_late or waited_s >= _START_S)
            if status.state != self._status.state:
                logger.info("model state=%s", status.state)
            with self._changed:
                self._status = status
                self._changed.notify_all()
            self._nudge.wait(self._poll_s)
            self._nudge.clear()
            waited_s += self._poll_s

    def _ask(self, *, is_late: bool) -> ModelStatus:
        try:
            health = self._source.health()
        except EngineUnavailableError as error:
            if is_late:
                return ModelStatus(state="off", words="Model is off: photos still work", detail=str(error))
            return ModelStatus(state="starting", words="Model is starting")
        self._seen_or_late = True
        if health.status == "failed":
            return ModelStatus(state="off", words="Model is off: photos still work", detail=health.error)
        if health.status == "loading" or health.model is None:
            return ModelStatus(state="starting", words="Model is starting")
        return ModelStatus(
            state="ready",
            # It takes questions by now, and answers them once it has shown that it is the model it was.
            words="Model is checking itself" if health.self_test in {"waiting", "running"} else "Model ready",
            warning=health.model.warning,
            answer_s=self.answer_s,
            name=health.model.name,
            sha256=health.model.sha256,
            providers=health.providers,
        )
