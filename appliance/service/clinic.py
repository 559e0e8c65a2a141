"""The records behind the screens: their opening, who is signed in at the kiosk, and when the screen locks.

It compares no PIN (`records.people`) and draws nothing. Time passes by itself: `user`, `operator` and `may` look at the
clock each time they are asked, so nobody is signed in one moment longer than allowed; the screen's own lock, which
discards a photo on its way, follows with `tick`.
Source: `records/DESIGN.md`; HIPAA 45 CFR 164.312(a)(2)(ii) and (iii), emergency access and automatic logoff.
"""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from appliance.clock import Clock
from appliance.records.errors import NotSavedError
from appliance.records.sessions import IDLE_S, Session
from appliance.records.users import Permission, User
from appliance.service.errors import SignedOutError
from appliance.service.screen_lock import Screen, ScreenLock

if TYPE_CHECKING:  # a station without the extra `records` has screens too
    from appliance.records.opening import Opening
    from appliance.records.people import People
    from appliance.records.store import RecordStore
    from appliance.service.demonstration import Demonstration

ClinicState = Literal["broken", "first-run", "locked", "signed-out", "open"]
EMERGENCY: Final = "emergency"
"""Who is at the screen without a PIN: no user's id, which are hexadecimal."""
EMERGENCY_PERMISSIONS: Final[frozenset[Permission]] = frozenset({"capture"})
HOME: Final = "/"
_TICK_S: Final = 0.5


class Clinic:
    """The records and the one person at the kiosk; a context manager that owns both. Any thread may call."""

    def __init__(self, opening: "Opening", *, clock: Clock, folder: Path | None = None, idle_s: float = IDLE_S) -> None:
        """Take what `open_records` found.

        Args:
            opening: In whatever state.
            clock: Its monotonic time drives the session.
            folder: Where first run sets the box up.
            idle_s: After how long the screen locks by itself.
        """
        self.opening = opening
        self.folder = folder
        self.clock = clock
        self.demonstration: Demonstration | None = None
        """Secrets to show on the screens; never of a clinic."""
        self.words_of_fob: Callable[[], str] = str
        """Says what to do with the key fob that is in the box; empty where none is, and where nobody looks for one."""
        self.on_unlocked: Callable[[], None] = lambda: None
        """Called each time the records were opened, by whatever secret: what waited for that."""
        self._people = self._people_of(opening)
        self._session = Session(idle_s=idle_s)
        self._user: User | None = None
        self._last_user_id: str | None = None
        self._token = ""
        self.run = secrets.token_hex(4)
        """Another one after each start: pages that were open before it are out of date."""
        self.session_number = 0
        """Another one after each sign-in: what was begun in one session is not ended in the next."""
        self.page = HOME
        """What this session looked at last: whoever unlocks the screen again comes back to it."""
        self._lock = threading.RLock()
        self._screen = ScreenLock(lambda: self.session.state == "active")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="idle-lock", daemon=True)

    def __enter__(self) -> Self:
        """Start to watch for idleness."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Lock, and close the records."""
        self._done.set()
        self._thread.join(2)
        self.lock()
        if self.store is not None:
            self.store.close()

    @property
    def store(self) -> "RecordStore | None":
        """The records; None on first run and when they are broken."""
        return self.opening.store

    def records(self) -> "RecordStore":
        """Return the records.

        Raises:
            NotSavedError: There are none to save into; the sentence says why and what to do.
        """
        if self.store is None:
            raise NotSavedError(" ".join(filter(None, (self.opening.found, self.opening.action))))
        return self.store

    @property
    def people(self) -> "People | None":
        """The users of the records; None with `store`."""
        return self._people

    @property
    def state(self) -> ClinicState:
        """How it stands: "signed-out" also while the screen is locked; "locked" when the phrase was not typed yet.

        While "locked" somebody is signed in: PINs need no phrase, and photos are taken and kept.
        """
        store = self.store
        if store is None:
            return "first-run" if self.opening.state == "first-run" else "broken"
        if self.session.state != "active":
            return "signed-out"
        return "open" if store.is_unlocked else "locked"

    @property
    def name(self) -> str:
        """The clinic's, as it was typed on first run; the product's before."""
        return "dermstation" if self.store is None else self.store.meta("clinic_name").decode()

    @property
    def owner_of_visit(self) -> str | None:
        """The name of who was at the screen last, whose the visit on it is; None when nobody was, or without a PIN."""
        with self._lock:
            user_id, people = self._last_user_id, self._people
        return None if people is None or user_id in {None, EMERGENCY} else people.user(str(user_id)).name

    @property
    def session(self) -> Session:
        """The session as it is at this moment."""
        with self._lock:
            return self._session.at(self.clock.monotonic_s())

    @property
    def user(self) -> User | None:
        """Who is signed in at the kiosk now; None also while the screen is locked, and in an emergency."""
        with self._lock:
            return self._user if self.session.state == "active" else None

    @property
    def is_emergency(self) -> bool:
        """Whether somebody takes photos without a PIN."""
        session = self.session
        return session.state == "active" and session.user_id == EMERGENCY

    def operator(self) -> str | None:
        """Return who does what is done now, for the records: their user_id, or None in an emergency.

        Raises:
            SignedOutError: Nobody is at the screen, so nothing can be done in anybody's name.
        """
        session = self.session
        if session.state != "active":
            raise SignedOutError("The screen is locked; nothing was kept. Sign in first.")
        return None if session.user_id == EMERGENCY else session.user_id

    def may(self, permission: Permission) -> bool:
        """Whether whoever is at the screen may do that; in an emergency only photos may be taken."""
        user = self.user
        if user is not None:
            return user.may(permission)
        return self.is_emergency and permission in EMERGENCY_PERMISSIONS

    def require(self, permission: Permission) -> User:
        """Return who is signed in, if their role allows it.

        Raises:
            SignedOutError: Nobody is signed in.
            ForbiddenError: The role does not allow it.
        """
        user = self.require_user()
        user.require(permission)
        return user

    def require_user(self) -> User:
        """Return who is signed in.

        Raises:
            SignedOutError: Nobody is signed in.
        """
        user = self.user
        if user is None:
            raise SignedOutError("Sign in first.")
        return user

    def _people_of(self, opening: "Opening") -> "People | None":
        from appliance.records.people import People

        if opening.store is None:
            return None
        opening.store.on_unlocked = self._unlocked
        return People(opening.store, clock=self.clock)

    def _unlocked(self) -> None:
        self.on_unlocked()

    # At the screen

    def attach(self, screen: Screen) -> None:
        """Name the station whose screen locks and unlocks with the session; it is locked until somebody signs in."""
        self._screen.attach(screen)

    def sign_in(self, user_id: str, pin: str) -> str:
        """Begin a session, or go on after a lock.

        Returns:
            The new secret of this browser, for its cookie; every earlier one is worth nothing.

        Raises:
            SignedOutError: There are no users here.
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: As `People.sign_in`.
        """
        if self._people is None:
            raise SignedOutError("Nobody can sign in before the box is set up.")
        return self.begin(self._people.sign_in(user_id, pin))

    def begin_emergency(self) -> str:
        """Let photos be taken without a PIN: marked in the records by having no operator; nothing earlier is shown."""
        return self.begin(None)

    def begin(self, user: User | None) -> str:
        """Begin a session whose secret was compared already; None for an emergency. Returns as `sign_in`."""
        user_id = EMERGENCY if user is None else user.user_id
        token = secrets.token_urlsafe(32)
        # Before anybody is let in: the visit of the one before is never on this person's screen. Without a PIN it is
        # not known whether somebody is the one before.
        is_another = user is None or self._last_user_id not in {None, user_id}
        with self._screen.changing(is_another=is_another), self._lock:
            now_s = self.clock.monotonic_s()
            before, self._session = self._session.at(now_s), self._session.signed_in(user_id, now_s)
            self.session_number += 1
            if is_another or before.state != "locked":
                self.page = HOME
            self._token, self._user, self._last_user_id = token, user, user_id
        return token

    def confirm_pin(self, pin: str) -> None:
        """Compare the PIN of who is signed in once more, as before adding a user.

        Raises:
            SignedOutError: Nobody is signed in.
            ThrottledError, WrongSecretError, NotSavedError: As `People.sign_in`.
        """
        user = self.require_user()
        if self._people is not None:
            self._people.sign_in(user.user_id, pin)
            with self._lock:
                now_s = self.clock.monotonic_s()
                self._session = replace(self._session.touched(now_s), pin_s=now_s)

    def adopt(self, store: "RecordStore") -> str:
        """Go on with records that were set up just now, their lead signed in; returns as `sign_in`."""
        from appliance.records.opening import Opening

        opening = Opening(state="ready", found="The records are open.", store=store)
        with self._lock:
            self.opening, self._people = opening, self._people_of(opening)
        return self.begin(self._people.users()[0] if self._people is not None else None)

    def is_token(self, token: str) -> bool:
        """Whether a browser's secret is that of the present session."""
        with self._lock:
            return bool(self._token) and hmac.compare_digest(token.encode(), self._token.encode())

    def touch(self) -> None:
        """Somebody pressed something."""
        with self._lock:
            self._session = self._session.touched(self.clock.monotonic_s())

    def lock(self) -> None:
        """Lock the screen at once; the same person's PIN opens it where it was."""
        with self._lock:
            self._session = self.session.locked()
        self.tick()

    def sign_out(self) -> None:
        """End the session; its visit leaves the screen when somebody else signs in."""
        with self._lock:
            user, self._user, self._token = self._user, None, ""
            self._session = self._session.signed_out()
        self.tick()
        if user is not None and self._people is not None:
            self._people.sign_out(user.user_id)

    def tick(self) -> None:
        """Have the station's screen follow the session; called twice a second, and by whatever changes it."""
        self._screen.tick()

    def _watch(self) -> None:
        while not self._done.wait(_TICK_S):
            self.tick()
