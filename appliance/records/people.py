"""Signing in: named users with a PIN, whose guesses are counted on the disk before the PIN is looked at.

A wrong PIN costs 1, 2, 4, ... 300 seconds, for that user only; twenty in a row close that user until the lead, or the
clinic's phrase, opens it again. A new start, a power cut or a clock that jumps gives no guess back: the count is in
the database, and waiting is measured on the boot's monotonic clock and begins anew after a boot.
Source: NIST SP 800-63B, 5.2.2 (rate limiting); `DESIGN.md`, "PINs".
"""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.clock import Clock, SystemClock
from appliance.records.box_secret import box_secret
from appliance.records.clinic_key import WrappingKey
from appliance.records.errors import ForbiddenError, MissingError, NotSavedError, ThrottledError, WrongSecretError
from appliance.records.pins import check_pin, is_pin, pin_hash
from appliance.records.store import RecordStore, new_id
from appliance.records.users import Role, User, insert_user, select_users, update_user

GUESSES_MAX: Final = 20
WAIT_MAX_S: Final = 300.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the kernel's name for this boot; empty where it gives none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def wait_after(guesses: int) -> float:
    """Return how many seconds must pass after this many wrong guesses in a row."""
    return min(2.0 ** (guesses - 1), WAIT_MAX_S) if guesses > 0 else 0.0


class People:
    """The users of a store; every method may be called from any thread."""

    def __init__(self, store: RecordStore, *, clock: Clock | None = None, boot: str | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._boot = boot_id() if boot is None else boot
        self._started_s = self._clock.monotonic_s()
        self._box_secret = box_secret(store)

    def users(self) -> tuple[User, ...]:
        """Return who may sign in, for the tiles."""
        return tuple(user for user in self._all() if user.is_active)

    def user(self, user_id: str) -> User:
        """Return one user, also one who left.

        Raises:
            MissingError: There is none.
        """
        found = next((user for user in self._all() if user.user_id == user_id), None)
        if found is None:
            raise MissingError("There is no such user.")
        return found

    def sign_in(self, user_id: str, pin: str) -> User:
        """Compare a PIN, after counting the guess.

        Raises:
            ThrottledError: Not now, or not before the lead helps; nothing was compared.
            WrongSecretError: The PIN is wrong, or must be set anew.
            NotSavedError: The guess could not be counted, so nothing was compared.
        """
        return self._compare(user_id, pin, "signed-in")

    def confirm(self, user_id: str, pin: str) -> User:
        """Compare the PIN of somebody who confirms what another person does at the screen, and signs in nowhere.

        Raises:
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: As `sign_in`.
        """
        return self._compare(user_id, pin, "pin-confirmed")

    def _compare(self, user_id: str, pin: str, action: str) -> User:
        with self._store.saver.lock:
            user = self.user(user_id)
            if not user.is_active:
                raise ForbiddenError("This user does not work here any more.")
            self._count_guess(user)
            if not is_pin(pin, user.pin_hash, self._box_secret):
                left = GUESSES_MAX - self._guard(user_id)[0]
                raise WrongSecretError(
                    "This PIN is wrong." if left > 0 else "This PIN is wrong; ask the lead for a new one."
                )
            self._store.note(action, user_id, also=lambda connection, _: _forgive(connection, user_id))
            return user

    def wait_s(self, user_id: str) -> float | None:
        """Return the seconds until this user's PIN may be tried again, 0 for now; None when it must be set anew."""
        with self._store.saver.lock:
            guesses, boot, guess_s = self._guard(user_id)
            has_pin = self.user(user_id).pin_hash != ""
        if guesses >= GUESSES_MAX or not has_pin:
            return None
        now_s = self._clock.monotonic_s()
        is_this_boot = boot == self._boot and guess_s <= now_s
        return max(0.0, (guess_s if is_this_boot else self._started_s) + wait_after(guesses) - now_s)

    def sign_out(self, user_id: str) -> None:
        """Note that somebody left."""
        self._store.note("signed-out", user_id)

    def add(self, name: str, role: Role, pin: str, lead: User) -> User:
        """Add a user.

        Raises:
            ForbiddenError: Only the lead may.
            WrongSecretError: The PIN is too easy, or the name is empty or taken.
        """
        lead.require("people")
        check_pin(pin)
        if not name.strip() or any(user.name == name.strip() for user in self.users()):
            raise WrongSecretError("Each user needs a name of their own.")
        user = User(
            user_id=new_id(),
            name=name.strip(),
            role=role,
            pin_hash=self._hash(pin),
            is_active=True,
        )
        self._store.note(
            "user-added", lead.user_id, also=lambda connection, sequence: insert_user(connection, user, sequence)
        )
        return user

    def remove(self, user_id: str, lead: User) -> None:
        """Let nobody sign in as this user any more; the records keep the name.

        Raises:
            ForbiddenError: Only a lead may, and the last lead stays.
        """
        lead.require("people")
        self._require_other_lead(user_id)
        self._change("user-changed", replace(self.user(user_id), is_active=False), lead.user_id)

    def change_role(self, user_id: str, role: Role, lead: User) -> None:
        """Give somebody another role.

        Raises:
            ForbiddenError: Only a lead may, and one lead stays.
        """
        lead.require("people")
        user = self.user(user_id)
        if role != "lead":
            self._require_other_lead(user_id)
        self._change("user-changed", replace(user, role=role), lead.user_id)

    def change_pin(self, user_id: str, old: str, new: str) -> None:
        """Change one's own PIN; the old one is compared as when signing in.

        Raises:
            WrongSecretError, ThrottledError, NotSavedError: As `sign_in`; or the new PIN is too easy.
        """
        check_pin(new)
        user = self.sign_in(user_id, old)
        self._change("pin-changed", replace(user, pin_hash=self._hash(new)), user_id)

    def reset_pin(self, user_id: str, new: str, lead: User) -> None:
        """Give somebody a new PIN, and their guesses back.

        Raises:
            ForbiddenError: Only a lead may.
            WrongSecretError: The new PIN is too easy.
        """
        lead.require("people")
        self._reset(user_id, new, lead.user_id)

    def reset_lead_pin(self, user_id: str, new: str, secret: WrappingKey) -> None:
        """Give a lead a new PIN on the word of who knows the clinic's phrase or has a recovery sheet.

        Raises:
            WrongSecretError: The secret fits nothing, or the new PIN is too easy.
            ForbiddenError: This user is no lead.
        """
        self._store.open_slot(secret)
        if self.user(user_id).role != "lead":
            raise ForbiddenError("Only a lead's PIN is set this way; the lead sets the others.")
        self._reset(user_id, new, None)

    def _hash(self, pin: str) -> str:
        if not self._box_secret:
            raise NotSavedError("The disk does not take the box's secret, so no PIN can be set.")
        return pin_hash(pin, self._box_secret)

    def _require_other_lead(self, user_id: str) -> None:
        if not any(other.role == "lead" and other.user_id != user_id for other in self.users()):
            raise ForbiddenError("The last lead stays; make somebody else lead first.")

    def _reset(self, user_id: str, new: str, operator_id: str | None) -> None:
        check_pin(new)
        changed = replace(self.user(user_id), pin_hash=self._hash(new))

        def write(connection: sqlite3.Connection, sequence: int) -> None:
            update_user(connection, changed, sequence)
            _forgive(connection, user_id)

        self._store.note("pin-reset", operator_id, also=write, detail=user_id)

    def _change(self, action: str, user: User, operator_id: str) -> None:
        self._store.note(
            action,
            operator_id,
            also=lambda connection, sequence: update_user(connection, user, sequence),
            detail=user.user_id,
        )

    def _all(self) -> tuple[User, ...]:
        with self._store.saver.lock:
            return select_users(self._store.saver.connection)

    def _guard(self, user_id: str) -> tuple[int, str, float]:
        found = self._store.saver.connection.execute(
            "SELECT guesses, boot_id, guess_s FROM pin_guard WHERE user_id = ?", (user_id,)
        ).fetchone()
        return (0, "", 0.0) if found is None else (int(found[0]), str(found[1]), float(found[2]))

    def _count_guess(self, user: User) -> None:
        """Commit one more guess, or refuse it."""
        wait_s = self.wait_s(user.user_id)
        if not user.pin_hash:
            raise ThrottledError(f"No PIN holds on this box any more; the lead gives {user.name} a new one.", None)
        if wait_s is None:
            raise ThrottledError(f"Too many wrong PINs; ask the lead to give {user.name} a new one.", None)
        if wait_s > 0:
            raise ThrottledError(f"Too many wrong PINs; try again in {int(wait_s) + 1} seconds.", wait_s)
        row = (user.user_id, self._guard(user.user_id)[0] + 1, self._boot, self._clock.monotonic_s())

        def count(connection: sqlite3.Connection, _: int) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO pin_guard (user_id, guesses, boot_id, guess_s) VALUES (?, ?, ?, ?)", row
            )

        self._store.note("pin-tried", None, also=count, detail=user.user_id)


def _forgive(connection: sqlite3.Connection, user_id: str) -> None:
    connection.execute("DELETE FROM pin_guard WHERE user_id = ?", (user_id,))
