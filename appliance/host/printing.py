"""The printer that CUPS knows: which one, handing it a page, how far that is, and what it complains of.

CUPS' own commands are asked, over its socket; none of them is told a file's name, so that no page lies on the disk for
them. It decides nothing about what is printed.
Source: lp(1), lpstat(1), lpoptions(1), cancel(1), cupsd.conf(5) of CUPS 2.4; RFC 8011, 5.4.12 (printer-state-reasons).
"""

import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

logger = logging.getLogger(__name__)
COMMANDS: Final = ("lp", "lpstat", "lpoptions", "cancel")
CUPS_CONFIGURATION: Final = Path("/etc/cups/cupsd.conf")
JobState = Literal["waiting", "done", "failed"]
_TIMEOUT_S: Final = 10.0
_REQUEST: Final = re.compile(r"request id is (\S+-\d+)")
_DEFAULT: Final = re.compile(r"system default destination: (\S+)")
_DEVICE: Final = re.compile(r"^device for (\S+):", re.MULTILINE)
_REASONS: Final = re.compile(r"printer-state-reasons=(\S+)")
_STATE: Final = re.compile(r"printer-state=(\d)")
_STOPPED: Final = "5"
_KEEPS_NO_FILES: Final = re.compile(r"^\s*PreserveJobFiles\s+(no|off|false)\s*$", re.IGNORECASE | re.MULTILINE)
_ABSENT: Final = re.compile(
    r"unavailable|not respond|unreachable|not connected|turned off|offline|waiting for printer", re.IGNORECASE
)
"""What CUPS' backends say of a printer that is not there; they give no keyword for it. In CUPS' own language."""
_NO_ANSWER: Final = "The printer does not answer. Is it switched on and plugged in? Then print again."
TROUBLES: Final = (
    ("media-jam", "The paper is jammed in the printer. Clear it, then print again."),
    ("media-empty", "The printer has no paper. Put some in, then print again."),
    ("media-needed", "The printer has no paper. Put some in, then print again."),
    ("cover-open", "The printer is open. Close it, then print again."),
    ("door-open", "The printer is open. Close it, then print again."),
    ("marker-supply-empty", "The printer has no ink or toner left."),
    ("toner-empty", "The printer has no ink or toner left."),
    ("connecting-to-device", _NO_ANSWER),
    ("offline", _NO_ANSWER),
    ("paused", "The printer is stopped. Ask the technician to start its queue again."),
)
"""What a printer may complain of, by the beginning of RFC 8011's keyword, and the sentence for the screen."""


class PrintingError(Exception):
    """CUPS did not take a page; its text is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterStatus:
    """How the printer is."""

    is_stopped: bool
    trouble: str
    """One sentence; empty when it complains of nothing."""


def default_printer() -> str | None:
    """Return the name of the printer to use: CUPS' default, else the only one; None without CUPS or a printer."""
    if any(shutil.which(command) is None for command in COMMANDS):
        return None
    try:
        if found := _DEFAULT.search(_ask("lpstat", "-d")):
            return found[1]
        names = _DEVICE.findall(_ask("lpstat", "-v"))
    except PrintingError:
        return None
    return str(names[0]) if len(names) == 1 else None


def submit(printer: str, pdf: bytes, title: str) -> str:
    """Hand a page to the queue; returns the job's name.

    Args:
        printer: As `default_printer`.
        pdf: The pages.
        title: What the queue shows of it; nothing secret.

    Raises:
        PrintingError: CUPS did not take it.
    """
    answer = _ask("lp", "-d", printer, "-t", title, "-o", "print-scaling=none", "-", given=pdf)
    found = _REQUEST.search(answer)
    if found is None:
        raise PrintingError(f"lp answered {answer!r}")
    return found[1]


def job_state(job: str) -> JobState:
    """Tell how far a job is.

    Raises:
        PrintingError: CUPS does not answer.
    """
    printer = job.rpartition("-")[0]
    if job in _names(_ask("lpstat", "-W", "not-completed", "-o", printer)):
        return "waiting"
    told = _ask("lpstat", "-l", "-W", "completed", "-o", printer)
    lines = told.split(f"{job} ", 1)
    # The lines of a job are indented; the next one's name is not.
    alerts = re.split(r"\n(?=\S)", lines[1])[0] if len(lines) == 2 else ""
    return "failed" if re.search(r"abort|cancel", alerts) else "done"


def printer_status(printer: str) -> PrinterStatus:
    """Ask the printer what it complains of.

    Raises:
        PrintingError: CUPS does not answer.
    """
    told = _ask("lpoptions", "-p", printer)
    reasons, state = _REASONS.search(told), _STATE.search(told)
    found = reasons[1].split(",") if reasons is not None else []
    trouble = next((words for name, words in TROUBLES if any(reason.startswith(name) for reason in found)), "")
    if not trouble and _ABSENT.search(_ask("lpstat", "-l", "-p", printer).partition("Form mounted")[0]):
        trouble = _NO_ANSWER
    return PrinterStatus(is_stopped=state is not None and state[1] == _STOPPED, trouble=trouble)


def cancel(job: str) -> None:
    """Take a job out of the queue with its page; nothing happens to one that is printed.

    Raises:
        PrintingError: CUPS does not answer.
    """
    try:
        _ask("cancel", "-x", job)
    except PrintingError:
        if job_state(job) == "waiting":
            raise


def keeps_no_files(configuration: Path | None = None) -> bool:
    """Whether CUPS is told to keep no printed page; it does for a day when nobody says otherwise."""
    path = configuration or CUPS_CONFIGURATION
    try:
        return _KEEPS_NO_FILES.search(path.read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _names(listing: str) -> list[str]:
    return [line.split()[0] for line in listing.splitlines() if line and not line[0].isspace()]


def _ask(*command: str, given: bytes = b"") -> str:
    """Run one of CUPS' commands; its words are English."""
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=_TIMEOUT_S, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrintingError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise PrintingError(f"{command[0]} says {done.stderr.decode(errors='replace').strip()!r}")
    return done.stdout.decode(errors="replace")
