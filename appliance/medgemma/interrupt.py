"""Ending a run early: by the caller's event or at a deadline, also in the middle of a long computation.

Encoding a photo or prefilling a chunk takes seconds on the box, so looking at a flag between tokens is not enough: a
thread watches and pulls the brake that the computation looks at between two nodes of its graph.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self

_LOOK_EVERY_S: Final = 0.02
"""A fifth of the fastest decode step measured at the real shape (110 ms): unnoticed in both directions."""
_JOIN_S: Final = 5.0


class Interrupt:
    """A watch over one run, for the time of a `with`; it has no thread where nothing can interrupt."""

    def __init__(
        self, cancel: threading.Event | None, deadline_s: float | None, pull_brake: Callable[[], None]
    ) -> None:
        """Prepare the watch; the deadline counts from here.

        Args:
            cancel: Ends the run once it is set.
            deadline_s: Ends the run after so many seconds.
            pull_brake: Called once, from the watching thread, when the run must end.
        """
        self._cancel = cancel
        self._ends_at_s = None if deadline_s is None else time.monotonic() + deadline_s
        self._pull_brake = pull_brake
        self._reason: Literal["cancelled", "deadline"] | None = None
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def reason(self) -> Literal["cancelled", "deadline"] | None:
        """Why the run must end, or `None` while it may go on; it stays what it was first."""
        if self._reason is None:
            if self._cancel is not None and self._cancel.is_set():
                self._reason = "cancelled"
            elif self._ends_at_s is not None and time.monotonic() >= self._ends_at_s:
                self._reason = "deadline"
        return self._reason

    def acquire(self, lock: threading.Lock) -> bool:
        """Take a lock, or return False when the run must end before it is free."""
        while self.reason is None:
            if lock.acquire(timeout=_LOOK_EVERY_S):
                return True
        return False

    def __enter__(self) -> Self:
        if self._cancel is not None or self._ends_at_s is not None:
            self._thread = threading.Thread(target=self._watch, name="medgemma-interrupt", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            if self.reason is not None:
                self._pull_brake()
                return
