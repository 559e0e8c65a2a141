"""Devices of the clinic's LAN that were paired: kept by the digest of their token, listed, revocable.

It makes and compares tokens; QR codes, cookies and addresses are the web's.
Source: `DESIGN.md`, "Devices"; OWASP Session Management Cheat Sheet (identifiers of 128 bits or more).
"""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.records.errors import MissingError
from appliance.records.store import RecordStore, new_id
from appliance.records.users import User

_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A paired tablet or telephone."""

    device_id: str
    name: str
    paired_by: str | None
    is_revoked: bool


def pair(store: RecordStore, name: str, lead: User) -> tuple[Device, str]:
    """Admit a device; returns it and its token, which is kept nowhere here and given to the device once.

    Raises:
        ForbiddenError: Only a lead may.
        NotSavedError: It was not admitted.
    """
    lead.require("people")
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    device = Device(device_id=new_id(), name=name.strip(), paired_by=lead.user_id, is_revoked=False)

    def write(connection: sqlite3.Connection, sequence: int) -> None:
        connection.execute(
            "INSERT INTO device (device_id, name, token_sha256, paired_by, is_revoked, sequence) "
            "VALUES (?, ?, ?, ?, 0, ?)",
            (device.device_id, device.name, _digest(token), lead.user_id, sequence),
        )

    store.note("device-paired", lead.user_id, also=write, detail=device.device_id)
    return device, token


def device_of(store: RecordStore, token: str) -> Device:
    """Return the device that a token belongs to.

    Raises:
        MissingError: It belongs to none, or to one that was revoked.
    """
    # Found by the digest of 256 random bits: comparing it in constant time would protect nothing.
    found = [device for device in _select(store, "WHERE token_sha256 = ?", (_digest(token),)) if not device.is_revoked]
    if not found:
        raise MissingError("This device is not paired with the station, or not any more.")
    return found[0]


def devices(store: RecordStore) -> tuple[Device, ...]:
    """List every device that was ever paired."""
    return _select(store, "ORDER BY rowid", ())


def last_seen(store: RecordStore) -> dict[str, datetime]:
    """Return when each device was noted last, by its id; one that never came is not in it."""
    with store.saver.lock:
        found = store.saver.connection.execute(
            "SELECT detail, MAX(sequence), recorded_at FROM audit WHERE action = 'device-seen' GROUP BY detail"
        ).fetchall()
    return {one[0]: datetime.fromisoformat(one[2]) for one in found}


def revoke(store: RecordStore, device_id: str, lead: User) -> None:
    """Let a device in no more.

    Raises:
        ForbiddenError: Only a lead may.
        NotSavedError: It is still let in.
    """
    lead.require("people")

    def write(connection: sqlite3.Connection, sequence: int) -> None:
        connection.execute("UPDATE device SET is_revoked = 1, sequence = ? WHERE device_id = ?", (sequence, device_id))

    store.note("device-revoked", lead.user_id, also=write, detail=device_id)


def _select(store: RecordStore, rest: str, values: tuple[bytes, ...]) -> tuple[Device, ...]:
    with store.saver.lock:
        found = store.saver.connection.execute(
            f"SELECT device_id, name, paired_by, is_revoked FROM device {rest}", values
        ).fetchall()
    return tuple(Device(device_id=one[0], name=one[1], paired_by=one[2], is_revoked=bool(one[3])) for one in found)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
