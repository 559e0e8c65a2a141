"""The morning unlock and the clinic's other secrets at the screen: guesses slowed down, and what is asked before.

The phrase has 64 random bits and a sheet 128, so waiting protects no secret that was made here; it protects one that
somebody chose.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from appliance.records.errors import LockedError, ThrottledError, WrongSecretError
from appliance.service.clinic import Clinic

if TYPE_CHECKING:
    from appliance.records.clinic_key import WrappingKey
    from appliance.records.store import RecordStore

WAIT_MAX_S: Final = 300.0
T = TypeVar("T")


class Unlocking:
    """What a phrase or a sheet opens; any thread may call, one guess at a time."""

    def __init__(self, clinic: Clinic) -> None:
        self._clinic = clinic
        self._lock = threading.Lock()
        # Counted apart: whoever guesses at the sign-in screen must not keep the nurse from opening the records.
        self._guesses = {True: (0, 0.0), False: (0, 0.0)}
        """How many were wrong in a row and when the next one is looked at, by whether somebody is signed in."""

    @property
    def wait_s(self) -> float:
        """Seconds until the next guess is looked at, for whoever is at the screen."""
        _, next_s = self._guesses[self._clinic.user is not None]
        return max(0.0, next_s - self._clinic.clock.monotonic_s())

    def unlock(self, typed: str) -> None:
        """Open the records for reading; takes about a second, and some more with many subjects.

        Raises:
            ThrottledError, WrongSecretError, TamperedError: It stays locked.
        """
        user = self._clinic.require_user()
        with self._lock:
            self._store().unlock(self._guess(typed), user.user_id)

    def unlock_with(self, ask: Callable[[], "WrappingKey"], *, is_guess: bool) -> None:
        """Open the records with what a key fob or the box's chip gives.

        Args:
            ask: Gives it, or raises `WrongSecretError`.
            is_guess: Whether a person typed something for it, whose wrong guesses are slowed down.

        Raises:
            ThrottledError, WrongSecretError, TamperedError: It stays locked; also what `ask` raises besides.
        """
        user = self._clinic.require_user()
        with self._lock:
            self._store().unlock(self._counted(ask) if is_guess else ask(), user.user_id)

    def with_known(self, typed: str, act: Callable[["WrappingKey"], T]) -> T:
        """Do what needs the phrase or a sheet, typed now.

        Raises:
            ThrottledError, WrongSecretError: Nothing was done; also what `act` raises.
        """
        with self._lock:
            return act(self._guess(typed))

    def lock_everything(self) -> None:
        """Let go of all keys: nothing can be read until the phrase is typed again."""
        user = self._clinic.require_user()
        self._store().lock(user.user_id)
        self._clinic.lock()

    def change_phrase(self, typed: str, phrase: str) -> None:
        """Replace the clinic's phrase.

        Raises:
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: The old phrase holds.
        """
        from appliance.records.slots import change_phrase

        lead = self._clinic.require("people")
        with self._lock:
            change_phrase(self._store(), self._guess(typed), phrase, lead.user_id)

    def new_sheets(self, typed: str) -> tuple[str, ...]:
        """Replace both recovery sheets; returns their words, which are kept nowhere.

        Raises:
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: The old sheets hold.
        """
        from appliance.records.slots import new_sheets

        lead = self._clinic.require("people")
        with self._lock:
            return new_sheets(self._store(), self._guess(typed), lead.user_id)

    def reset_lead_pin(self, user_id: str, typed: str, pin: str) -> None:
        """Give a lead who was closed out a new PIN, on the word of who knows the phrase or has a sheet.

        Raises:
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: The PIN stays as it was.
        """
        people = self._clinic.people
        if people is None:
            raise LockedError("There are no users on this box yet.")
        with self._lock:
            people.reset_lead_pin(user_id, pin, self._guess(typed))

    def sign_in(self, user_id: str, typed: str) -> str:
        """Let somebody in by the phrase instead of a PIN, where the disk takes no writes and no PIN can be counted.

        Returns:
            As `Clinic.sign_in`.

        Raises:
            ThrottledError, WrongSecretError, LockedError: Nobody is let in.
        """
        store, people = self._store(), self._clinic.people
        if not store.is_read_only or people is None:
            raise LockedError("On this box everybody signs in with their PIN.")
        with self._lock:
            user = people.user(user_id)
            store.unlock(self._guess(typed), user.user_id)
        return self._clinic.begin(user)

    def _store(self) -> "RecordStore":
        store = self._clinic.store
        if store is None:
            raise LockedError("There are no records on this box yet.")
        return store

    def _guess(self, typed: str) -> "WrappingKey":
        """Count and compare one guess; the secret that fits comes back.

        Raises:
            ThrottledError: Not now.
            WrongSecretError: It fits nothing.
        """
        from appliance.records.clinic_key import typed_secret

        def compare() -> "WrappingKey":
            secret = typed_secret(typed)
            self._store().open_slot(secret)
            return secret

        return self._counted(compare)

    def _counted(self, compare: Callable[[], "WrappingKey"]) -> "WrappingKey":
        """Count a guess; raises as `_guess`."""
        if (wait_s := self.wait_s) > 0:
            raise ThrottledError(f"Too many wrong guesses; try again in {int(wait_s) + 1} seconds.", wait_s)
        whose = self._clinic.user is not None
        try:
            secret = compare()
        except WrongSecretError:
            wrong = self._guesses[whose][0] + 1
            self._guesses[whose] = (wrong, self._clinic.clock.monotonic_s() + min(2.0 ** (wrong - 1), WAIT_MAX_S))
            raise
        self._guesses[whose] = (0, 0.0)
        return secret
