"""The parent's side: starts an engine in a process of its own, gives it orders, and watches its memory.

An engine waits on its pipe while another one computes, so they can be asked in turn in one run.
"""

import dataclasses
import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from appliance import huge_pages
from harness.engine import Order, Timing

HARNESS: Final = Path(__file__).parents[1]
WATCH_INTERVAL_S: Final = 0.2
STOP_TIMEOUT_S: Final = 30.0


class EngineError(Exception):
    """An engine did not start, broke off, or could not do what it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """How to start an engine."""

    name: str
    """As the table calls it, such as `llama.cpp Q4_0`."""
    python: Path
    """Interpreter of the environment in which the engine's library is installed."""
    module: str
    """One of `harness.child.ENGINES`."""
    options: dict[str, Any]
    """What its `load` takes."""
    files: tuple[Path, ...] = ()
    """What a start reads from disk."""
    reads_photos: bool = True
    """Whether orders with a photo are given to it."""


def harness_environment() -> dict[str, str]:
    """Return this process's environment with the harness findable, whatever environment's Python is started.

    All engines get memory in huge pages, as ours does in service.
    """
    path = os.pathsep.join(filter(None, [str(HARNESS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **huge_pages.ENVIRONMENT}


class EngineProcess:
    """A started engine; a context manager that ends it."""

    def __init__(self, command: EngineCommand, log: Path) -> None:
        """Start an engine and wait until it is ready.

        Args:
            command: How.
            log: File that takes its stderr.

        Raises:
            EngineError: It ended instead.
        """
        self.command = command
        self._log = log
        arguments = [str(command.python), "-m", "harness.child", command.module, json.dumps(command.options)]
        started_s = time.monotonic()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # Not where this was started: `-m` would look for packages there first.
                cwd=HARNESS,
                env=harness_environment(),
            )
        self._watch = _MemoryWatch(self._process.pid)
        try:
            self.facts: dict[str, Any] = self._read()["ready"]
        except BaseException:
            self.stop()
            raise
        self.start_s = time.monotonic() - started_s
        """Seconds from the command until it takes questions, interpreter and imports included."""
        try:
            self.settled_s = float(self._read()["settled_s"])
            """Seconds from then until it answers."""
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def ask(self, order: Order) -> Timing:
        """Have an order carried out.

        Raises:
            EngineError: The engine failed or is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(dataclasses.asdict(order)) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineError(f"{self.command.name} is gone; {self._last_words()}") from error
        answer = self._read()
        if "error" in answer:
            raise EngineError(f"{self.command.name} failed: {answer['error']}.")
        return Timing(**answer["timing"])

    def memory(self) -> dict[str, float]:
        """Return the peaks so far in GB: `peak_rss_gb` with mapped files, `anonymous_gb` without."""
        return self._watch.peaks_gb()

    def stop(self) -> None:
        """End the engine; it is killed if closing its pipe is not enough."""
        self._watch.stop()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(STOP_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"{self.command.name} ended unexpectedly; {self._last_words()}")
        content: dict[str, Any] = json.loads(line)
        return content

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines()]
        return f"its last words are in {self._log}: {next(filter(None, reversed(lines)), 'none')}"


class _MemoryWatch:
    """Reads a process's memory now and then: the kernel keeps a peak of all of it, but none of the anonymous part."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._peaks: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"memory-{pid}", daemon=True)
        self._thread.start()

    def peaks_gb(self) -> dict[str, float]:
        self._look()
        names = {"peak_rss_gb": "VmHWM", "anonymous_gb": "RssAnon"}
        return {name: self._peaks[key] * 1024 / 1e9 for name, key in names.items()}

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        try:
            lines = self._status.read_text(encoding="ascii").splitlines()
        except OSError:
            return  # it ended; its peaks stay
        for line in lines:
            key, _, rest = line.partition(":")
            if key in {"VmHWM", "RssAnon"}:  # proc_pid_status(5): in kB
                self._peaks[key] = max(self._peaks.get(key, 0), int(rest.split()[0]))
