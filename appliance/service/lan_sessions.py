"""Who of the clinic's network is let in: a paired device, and the person who signed in on it.

The device's token says which telephone, the PIN says who, and both are asked at every request: revoking the one or
removing the other ends it at once. Wrong PINs count together with the kiosk's. Nothing of a session is stored.
"""

import contextlib
import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from appliance.records import devices
from appliance.records.devices import Device
from appliance.records.errors import MissingError, RecordsError
from appliance.records.sessions import Session
from appliance.records.users import Permission, User
from appliance.service.clinic import Clinic

LAN_PERMISSION: Final[Permission] = "read"
"""Whoever may not read has no business on a telephone."""
_SEEN_AGAIN_S: Final = 12 * 3600.0
"""How often the records note that a device was there: not at every page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visitor:
    secret_sha256: bytes
    user_id: str
    session: Session


class LanSessions:
    """The devices and their people; every method may be called from any thread."""

    def __init__(self, clinic: Clinic, idle_s: float) -> None:
        self._clinic = clinic
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._visitors: dict[str, _Visitor] = {}
        """By device: one person on one telephone."""
        self._noted_s: dict[str, float] = {}
        self._seen: dict[str, datetime] = {}

    def device(self, token: str) -> Device | None:
        """Return the paired device of a token; None when there is none, or not any more."""
        store = self._clinic.store
        if store is None or not token:
            return None
        try:
            device = devices.device_of(store, token)
        except MissingError:
            return None
        self._note_seen(device)
        return device

    def sign_in(self, device: Device, user_id: str, pin: str) -> str:
        """Begin a session on a device; the one that was there ends.

        Returns:
            The session's secret, for the device alone.

        Raises:
            MissingError: There is no such user.
            ForbiddenError: Their role has no business on a telephone.
            ThrottledError, WrongSecretError, NotSavedError: As `People.sign_in`.
        """
        people = self._clinic.people
        if people is None:
            raise MissingError("The records of this box are not open. Look at the box itself.")
        people.user(user_id).require(LAN_PERMISSION)
        user = people.sign_in(user_id, pin)
        secret = secrets.token_urlsafe(32)
        session = Session(idle_s=self._idle_s).signed_in(user.user_id, self._clinic.clock.monotonic_s())
        with self._lock:
            self._visitors[device.device_id] = _Visitor(
                secret_sha256=_digest(secret), user_id=user.user_id, session=session
            )
        return secret

    def user(self, device: Device, secret: str) -> User | None:
        """Return who is signed in on a device, and count this as a touch; None when nobody is."""
        people = self._clinic.people
        now_s = self._clinic.clock.monotonic_s()
        with self._lock:
            visitor = self._visitors.get(device.device_id)
            if visitor is None or not hmac.compare_digest(visitor.secret_sha256, _digest(secret)):
                return None
            session = visitor.session.touched(now_s)
            if session.state != "active":
                # On a telephone a lock is an end: it may lie in another hand by now.
                del self._visitors[device.device_id]
                return None
            self._visitors[device.device_id] = replace(visitor, session=session)
        if people is None:
            return None
        user = people.user(visitor.user_id)
        return user if user.may(LAN_PERMISSION) else None

    def sign_out(self, device: Device) -> None:
        """End the session on a device."""
        with self._lock:
            visitor = self._visitors.pop(device.device_id, None)
        if visitor is not None and self._clinic.people is not None:
            self._clinic.people.sign_out(visitor.user_id)

    def forget(self, device_id: str) -> None:
        """A device was revoked: its session ends."""
        with self._lock:
            self._visitors.pop(device_id, None)

    def people(self) -> tuple[User, ...]:
        """List who may sign in on a telephone."""
        people = self._clinic.people
        return tuple(user for user in people.users() if user.may(LAN_PERMISSION)) if people is not None else ()

    def last_seen(self) -> dict[str, datetime]:
        """Return when each device was there last, by its id: this run's to the minute, earlier ones to half a day."""
        store = self._clinic.store
        noted = devices.last_seen(store) if store is not None else {}
        with self._lock:
            return {**noted, **self._seen}

    def _note_seen(self, device: Device) -> None:
        store = self._clinic.store
        if store is None:
            return
        now_s = self._clinic.clock.monotonic_s()
        with self._lock:
            self._seen[device.device_id] = self._clinic.clock.now_at()
            noted_s = self._noted_s.get(device.device_id)
            if noted_s is not None and now_s - noted_s < _SEEN_AGAIN_S:
                return
            self._noted_s[device.device_id] = now_s
        with contextlib.suppress(RecordsError):  # a full disk keeps nobody from reading
            store.note("device-seen", None, detail=device.device_id)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
