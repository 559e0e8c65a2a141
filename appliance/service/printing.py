"""Printing at the screen: one page at a time on the clinic's printer, followed until it is out or taken back.

Nothing is left in the queue: what is not printed within two minutes, or meets a printer that complains, is cancelled. A
page of secrets is handed over only where CUPS is known to keep no printed page.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from appliance.host.printing import (
    PrintingError,
    cancel,
    default_printer,
    job_state,
    keeps_no_files,
    printer_status,
    submit,
)
from appliance.service.errors import LimitError, NotFoundError

logger = logging.getLogger(__name__)
PATIENCE_S: Final = 120.0
TROUBLE_S: Final = 6.0
"""A complaint that lasts so long is told; while a printer wakes up it has some that pass."""
_POLL_S: Final = 0.5
_NO_PRINTER: Final = "No printer is set up on this box. Ask the technician, or print it on another machine."
_NOT_PRIVATE: Final = "This printer's queue would keep a copy of the page, so it is not printed here. Copy it by hand."
_NOT_TAKEN: Final = "The printer's queue did not take the page; nothing was printed. Ask the technician to look at it."
_REFUSED: Final = "The printer could not print this page, and nothing of it is left in its queue. Print it elsewhere."
_TOO_SLOW: Final = "The printer did not print it in two minutes, and nothing waits in its queue now. Try it again."
_STUCK: Final = (
    "It was not printed, but the page may still wait in the printer's queue. The technician must empty it now."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintState:
    """How far the page is."""

    is_busy: bool = False
    words: str = ""
    """One sentence; empty before anything was printed."""


class Printing:
    """The clinic's printer; every method may be called from any thread."""

    def __init__(self, *, patience_s: float = PATIENCE_S, trouble_s: float = TROUBLE_S) -> None:
        self._patience_s = patience_s
        self._trouble_s = trouble_s
        self._state = PrintState()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def printer(self) -> str | None:
        """The name of the printer; None where nothing can be printed here. Asks CUPS."""
        return default_printer()

    @property
    def may_print_secrets(self) -> bool:
        """Whether a page of secrets may be printed here. Asks CUPS."""
        return keeps_no_files() and self.printer is not None

    @property
    def state(self) -> PrintState:
        """How far the page is."""
        with self._lock:
            return self._state

    def start(self, pdf: bytes, title: str, *, is_secret: bool = False) -> None:
        """Begin to print.

        Args:
            pdf: The pages.
            title: What the printer's queue shows of it; nothing secret.
            is_secret: Whether who finds the page may open records.

        Raises:
            NotFoundError: There is no printer, or none that may have this page.
            LimitError: Another page is being printed.
        """
        printer = self.printer
        if printer is None:
            raise NotFoundError(_NO_PRINTER)
        if is_secret and not keeps_no_files():
            raise NotFoundError(_NOT_PRIVATE)
        with self._lock:
            if self._state.is_busy:
                raise LimitError("Another page is being printed; wait for it.")
            self._state = PrintState(is_busy=True, words=f"Printing on {printer}…")
        self._thread = threading.Thread(target=self._run, args=(printer, pdf, title), name="printing", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait for what is being printed."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, printer: str, pdf: bytes, title: str) -> None:
        try:
            words = self._print(printer, pdf, title)
        except Exception:
            # A thread's edge: a screen that says "printing" for ever would be believed.
            logger.exception("printing failed unexpectedly")
            words = _STUCK
        with self._lock:
            self._state = PrintState(words=words)

    def _print(self, printer: str, pdf: bytes, title: str) -> str:
        try:
            job = submit(printer, pdf, title)
        except PrintingError as error:
            logger.warning("page not taken error=%s", error)
            return _NOT_TAKEN
        try:
            if (words := self._follow(printer, job)) is None:
                return f"Printed on {printer}."
            cancel(job)
        except PrintingError as error:
            logger.warning("page may be left in the queue error=%s", error)
            return _STUCK
        return words

    def _follow(self, printer: str, job: str) -> str | None:
        """Wait until a job is out; None when it is, else the sentence for the screen."""
        begun_s = time.monotonic()
        trouble_since_s, trouble = begun_s, ""
        while (now_s := time.monotonic()) - begun_s < self._patience_s:
            match job_state(job):
                case "done":
                    return None
                case "failed":
                    return _REFUSED
            found = printer_status(printer).trouble
            if found != trouble:
                trouble_since_s, trouble = now_s, found
            if trouble and now_s - trouble_since_s >= self._trouble_s:
                return trouble
            time.sleep(_POLL_S)
        return trouble or _TOO_SLOW
