"""Backups and drills at the screen: one at a time on a thread of its own, so that nothing waits for a slow stick.

Writing, reading back and rotating are `records.backup`; this chooses the stick and tells how far it is.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from appliance.errors import DermstationError
from appliance.host.sticks import MOUNTS, Stick, mounted_sticks
from appliance.records.backup import generations, make_backup
from appliance.records.clinic_key import typed_secret
from appliance.records.door import FileDoor, replace_file
from appliance.records.drill import drill
from appliance.records.errors import MissingError, NotSavedError
from appliance.records.store import RecordStore

logger = logging.getLogger(__name__)

Work = Literal["idle", "writing", "checking", "trying", "done", "failed"]
BUSY: Final = frozenset({"writing", "checking", "trying"})
_STICK_WORDS: Final = "The stick cannot be written or was pulled out. Nothing is lost here; try it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupState:
    """How far it is."""

    work: Work = "idle"
    words: str = ""
    """One sentence."""
    share: float | None = None
    """0 to 1 of what is done; None where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StickLine:
    """A stick to choose."""

    stick: Stick
    generations: int
    """Backups of this clinic that it holds."""
    newest_at: datetime | None
    """By the stick's own dates."""


class Backups:
    """The backups of a box; every method may be called from any thread."""

    def __init__(
        self,
        records: Callable[[], RecordStore],
        operator: Callable[[], str | None],
        folders: tuple[str, ...],
        *,
        mounts: Path = MOUNTS,
    ) -> None:
        """Look for sticks.

        Args:
            records: Gives the records, locked or not, or raises the sentence why there are none.
            operator: Tells who is at the screen.
            folders: Where sticks are mounted.
            mounts: The kernel's list of what is mounted.
        """
        self._records = records
        self._operator = operator
        self._folders = folders
        self._mounts = mounts
        self._state = BackupState()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> BackupState:
        """How far it is."""
        with self._lock:
            return self._state

    def sticks(self) -> tuple[StickLine, ...]:
        """List the sticks that are in, and what they hold of this clinic."""
        clinic_id = self._records().meta("clinic_id").decode()
        return tuple(_line(stick, clinic_id) for stick in mounted_sticks(self._folders, self._mounts))

    def start(self, path: str) -> None:
        """Begin to write a backup; nothing happens while one is being written.

        Raises:
            MissingError: There is no such stick any more.
        """
        store, stick, operator_id = self._records(), self._stick(path), self._operator()

        def work() -> str:
            made = make_backup(store, stick.path, operator_id, label=stick.label, progress=self._tell)
            visits = "1 visit" if made.encounters == 1 else f"{made.encounters} visits"
            return f"Backed up and read back: {visits}, {made.size_bytes / 1e6:.1f} MB on {stick.label}."

        self._begin(BackupState(work="writing", words=f"Writing to {stick.label}…", share=0.0), work)

    def start_drill(self, path: str, typed: str) -> None:
        """Begin to prove that the newest backup of a stick would come back, with the phrase or a sheet.

        Raises:
            MissingError: There is no such stick any more, or no backup on it.
        """
        store, stick, operator_id = self._records(), self._stick(path), self._operator()
        found = generations(stick.path, store.meta("clinic_id").decode())
        if not found:
            raise MissingError(f"There is no backup of this clinic on {stick.label}.")

        def work() -> str:
            tried = drill(found[0], typed_secret(typed), random.SystemRandom())
            if not store.is_read_only:
                store.note("drill", operator_id, detail=f"holds {tried.sequence}")
            visits = "1 visit" if tried.encounters == 1 else f"{tried.encounters} visits"
            photos = "1 photo" if tried.opened_photos == 1 else f"{tried.opened_photos} photos"
            return f"This backup would come back: {visits}; {tried.opened_encounters} opened, with {photos}."

        self._begin(BackupState(work="trying", words=f"Trying the backup on {stick.label}…"), work)

    def write_text(self, name: str, text: str) -> str:
        """Write a page to print elsewhere on the first stick that takes writes; holds no patient data.

        Returns:
            The sentence that says where it is.

        Raises:
            MissingError: There is no stick.
            NotSavedError: The stick cannot be written.
        """
        stick = next((line.stick for line in self.sticks() if line.stick.is_writable), None)
        if stick is None:
            raise MissingError("Put in a stick first; the list is written there, to be printed elsewhere.")
        try:
            replace_file(FileDoor(), stick.path / name, text.encode())
        except OSError as error:
            raise NotSavedError(_STICK_WORDS) from error
        return f"Written to {stick.label} as {name}."

    def wait(self, timeout_s: float) -> None:
        """Wait for what is being done."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _stick(self, path: str) -> Stick:
        found = next((line.stick for line in self.sticks() if str(line.stick.path) == path), None)
        if found is None:
            raise MissingError("This stick is not in any more. Put it in again.")
        return found

    def _begin(self, state: BackupState, work: Callable[[], str]) -> None:
        with self._lock:
            if self._state.work in BUSY:
                return
            self._state = state
            self._thread = threading.Thread(target=self._run, args=(work,), name="backup", daemon=True)
            self._thread.start()

    def _run(self, work: Callable[[], str]) -> None:
        try:
            ended = BackupState(work="done", words=work(), share=1.0)
        except DermstationError as error:
            ended = BackupState(work="failed", words=str(error))
        except OSError as error:
            logger.warning("backup failed error=%s", error.strerror)
            ended = BackupState(work="failed", words=_STICK_WORDS)
        except Exception:
            # A thread's edge: a screen that says "writing" for ever would be believed.
            logger.exception("backup failed unexpectedly")
            ended = BackupState(work="failed", words="The backup failed. Try it again, with another stick.")
        with self._lock:
            self._state = ended

    def _tell(self, work: Literal["writing", "checking"], share: float) -> None:
        words = "Reading it back…" if work == "checking" else self._state.words
        with self._lock:
            self._state = replace(self._state, work=work, words=words, share=share)


def _line(stick: Stick, clinic_id: str) -> StickLine:
    try:
        found = generations(stick.path, clinic_id)
        newest_at = datetime.fromtimestamp(found[0].stat().st_mtime).astimezone() if found else None
    except OSError:
        return StickLine(stick=stick, generations=0, newest_at=None)
    return StickLine(stick=stick, generations=len(found), newest_at=newest_at)
