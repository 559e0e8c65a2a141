"""Key fobs at the screen: which is in, opening the records with it, making one of a stick, the warning to take it out.

Sticks are looked at on a thread of its own and a page waits for that a moment only: one that hangs holds nobody up.
Files and slots are `records.fobs`.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from appliance.host.sticks import MOUNTS, Stick, mounted_sticks
from appliance.records.errors import MissingError, RecordsError
from appliance.service.clinic import Clinic
from appliance.service.unlocking import Unlocking

if TYPE_CHECKING:
    from appliance.records.held_slots import HeldSlot

FobState = Literal["none", "ready", "refused"]
_LOOK_EVERY_S: Final = 1.0
_WAIT_S: Final = 0.3
TAKE_OUT: Final = "Take the key fob out and keep it with you."
PUT_TO_USE: Final = "The key fob is in: the records can be opened with it."


@dataclass(frozen=True, slots=True, kw_only=True)
class FobInBox:
    """A stick with a fob's file, or that there is none."""

    state: FobState = "none"
    words: str = ""
    """The fob's name, or the sentence why it opens nothing."""
    path: Path | None = None


class KeyFobs:
    """The key fobs of a box; any thread may call."""

    def __init__(
        self, clinic: Clinic, unlocking: Unlocking, folders: tuple[str, ...], *, mounts: Path = MOUNTS
    ) -> None:
        """Look for sticks.

        Args:
            clinic: The records, and who is at the screen.
            unlocking: Compares the phrase and counts guesses.
            folders: Where sticks are mounted.
            mounts: The kernel's list of what is mounted.
        """
        self._clinic = clinic
        self._unlocking = unlocking
        self._folders = folders
        self._mounts = mounts
        self._lock = threading.Lock()
        self._looker: threading.Thread | None = None
        self._found = FobInBox()
        self._found_s: float | None = None
        clinic.words_of_fob = self.words_of_box

    def listed(self) -> tuple["HeldSlot", ...]:
        """Return the fobs that open this box, the oldest first."""
        return self._clinic.records().held_slots("fob")

    def sticks(self) -> tuple[Stick, ...]:
        """List the sticks that are in."""
        return mounted_sticks(self._folders, self._mounts)

    def in_box(self) -> FobInBox:
        """Tell which fob is in, as of a second ago at the earliest; an older answer when a stick does not answer."""
        with self._lock:
            now_s = self._clinic.clock.monotonic_s()
            is_old = self._found_s is None or not 0 <= now_s - self._found_s < _LOOK_EVERY_S
            if is_old and (self._looker is None or not self._looker.is_alive()):
                self._looker = threading.Thread(target=self._look, name="fob-look", daemon=True)
                self._looker.start()
            looker = self._looker if is_old else None
        if looker is not None:
            looker.join(_WAIT_S)
        return self._found

    def words_of_box(self) -> str:
        """Say what to do with the fob that is in: open the records, or take it out; empty when none is in."""
        store = self._clinic.store
        if store is None or self.in_box().state != "ready":
            return ""
        return TAKE_OUT if store.is_unlocked else PUT_TO_USE

    def unlock(self) -> None:
        """Open the records with the fob that is in.

        Raises:
            MissingError: None is in, or it was pulled out.
            WrongSecretError, TamperedError: It stays locked.
        """
        from appliance.records.fobs import fob_key

        store, path = self._clinic.records(), self._look().path
        if path is None:
            raise MissingError("No key fob is in. Put it into the box.")
        self._unlocking.unlock_with(lambda: fob_key(store, path), is_guess=False)

    def make(self, typed: str, path: str, name: str) -> None:
        """Make a key fob of a stick that is in.

        Raises:
            MissingError: This stick is not in any more.
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: No fob was made.
        """
        from appliance.records.fobs import make_fob

        lead, store = self._clinic.require("people"), self._clinic.records()
        stick = next((one for one in self.sticks() if str(one.path) == path), None)
        if stick is None:
            raise MissingError("This stick is not in any more. Put it in again.")
        self._unlocking.with_known(typed, lambda known: make_fob(store, known, stick.path, name, lead.user_id))
        self._forget()

    def revoke(self, fob_id: str) -> None:
        """Let a fob open this box no more.

        Raises:
            MissingError: It is not on the list.
            ForbiddenError, NotSavedError: It still opens.
        """
        from appliance.records.slots import remove_held_slot

        lead, store = self._clinic.require("people"), self._clinic.records()
        if not any(held.slot.slot_id == fob_id for held in self.listed()):
            raise MissingError("This key fob is not on the list any more.")
        remove_held_slot(store, fob_id, lead.user_id)
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._found_s = None

    def _look(self) -> FobInBox:
        """Look at every stick; a fob of this box comes before one that opens nothing."""
        from appliance.records.fobs import fob_on

        store, found = self._clinic.store, FobInBox()
        for stick in self.sticks() if store is not None else ():
            try:
                held = fob_on(store, stick.path) if store is not None else None
            except RecordsError as error:
                found = FobInBox(state="refused", words=str(error), path=stick.path)
                continue
            if held is not None:
                found = FobInBox(state="ready", words=held.name, path=stick.path)
                break
        self._found, self._found_s = found, self._clinic.clock.monotonic_s()
        return found
