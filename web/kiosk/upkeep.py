"""Upkeep: backups to sticks, the drill, room on the disk, what is due for erasing, the inventory, the audit."""

from datetime import datetime
from typing import Any, Final

import msgspec
from flask import Blueprint, Response, jsonify, render_template

from appliance.records.backup import last_backup
from appliance.records.errors import LockedError
from appliance.records.inventory import take_inventory
from appliance.records.retention import due_for_erasing
from appliance.records.space import FULL_BYTES
from appliance.service.backups import BUSY, Backups, StickLine
from appliance.service.clinic import Clinic
from web.kiosk.dates import day_words
from web.kiosk.guard import allow
from web.kiosk.requests import decoded

PHOTO_BYTES: Final = 2_000_000
"""A dermatoscope's photo, rounded up."""
_GIGABYTE: Final = 1_000_000_000
INVENTORY_NAME: Final = "dermstation-inventory.txt"


class _StickRequest(msgspec.Struct, forbid_unknown_fields=True):
    path: str


class _DrillRequest(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    phrase: str


def create_upkeep(clinic: Clinic, backups: Backups, keep_years: int) -> Blueprint:
    """Build the routes."""
    upkeep = Blueprint("upkeep", __name__)
    _add_backup_routes(upkeep, clinic, backups)
    _add_pages(upkeep, clinic, backups, keep_years)
    return upkeep


def _add_backup_routes(upkeep: Blueprint, clinic: Clinic, backups: Backups) -> None:
    @upkeep.get("/backup")
    @allow("backup")
    def backup() -> str:
        return render_template("kiosk/upkeep/backup.html", view=_backup_view(clinic, backups))

    @upkeep.get("/api/backup")
    @allow("backup")
    def backup_state() -> Response:
        return jsonify(_backup_view(clinic, backups))

    @upkeep.post("/api/backup")
    @allow("backup")
    def start() -> Response:
        backups.start(decoded(_StickRequest).path)
        return jsonify(_backup_view(clinic, backups))

    @upkeep.post("/api/backup/drill")
    @allow("backup")
    def start_drill() -> Response:
        asked = decoded(_DrillRequest)
        backups.start_drill(asked.path, asked.phrase)
        return jsonify(_backup_view(clinic, backups))


def _add_pages(upkeep: Blueprint, clinic: Clinic, backups: Backups, keep_years: int) -> None:
    @upkeep.get("/upkeep")
    @allow("update")
    def overview() -> str:
        store = clinic.records()
        room = store.space()
        photos = max(0, room.room_bytes - FULL_BYTES) // PHOTO_BYTES
        return render_template(
            "kiosk/upkeep/upkeep.html",
            free=f"{_size_words(room.room_bytes)} free",
            room=room.action or f"Room for about {photos:,} more photos.",
            level=room.level,
        )

    @upkeep.get("/upkeep/inventory")
    @allow("update")
    def inventory() -> str:
        found = take_inventory(clinic.records(), keep_years)
        return render_template("kiosk/upkeep/inventory.html", inventory=found, years=keep_years)

    @upkeep.post("/api/upkeep/inventory")
    @allow("update")
    def write_inventory() -> Response:
        text = take_inventory(clinic.records(), keep_years).to_text()
        return jsonify(words=backups.write_text(INVENTORY_NAME, text))

    @upkeep.get("/upkeep/retention")
    @allow("erase")
    def retention() -> str:
        store = clinic.records()
        try:
            due = due_for_erasing(store, keep_years)
        except LockedError:
            due = None
        lines = [
            {
                "subject_id": one.subject_id,
                "who": one.pseudonym,
                "seen": day_words(one.last_seen_at, is_confirmed=True),
                "visits": one.visits,
            }
            for one in due or ()
        ]
        return render_template(
            "kiosk/upkeep/retention.html",
            due=None if due is None else lines,
            years=keep_years,
            is_date_confirmed=store.now().is_confirmed,
        )

    @upkeep.get("/upkeep/audit")
    @allow("audit")
    def audit() -> str:
        verdict = clinic.records().verify_audit()
        return render_template("kiosk/upkeep/audit.html", verdict=verdict, words=verdict.digest.split("-"))


def _backup_view(clinic: Clinic, backups: Backups) -> dict[str, Any]:
    state = backups.state
    return {
        "last": _last_words(clinic),
        "state": {
            "work": state.work,
            "words": state.words,
            "share": state.share,
            "is_busy": state.work in BUSY,
        },
        "sticks": [_stick_view(line) for line in backups.sticks()],
    }


def _last_words(clinic: Clinic) -> str:
    last = last_backup(clinic.records())
    if last is None:
        return "No backup was made yet."
    at = day_words(datetime.fromisoformat(last.recorded_at), is_confirmed=last.is_date_confirmed)
    visits = "1 visit" if last.encounters == 1 else f"{last.encounters} visits"
    return f"Last backup: {at}, on {last.label}, with {visits}."


def _stick_view(line: StickLine) -> dict[str, Any]:
    holds = "no backup yet"
    if line.newest_at is not None:
        times = "1 backup" if line.generations == 1 else f"{line.generations} backups"
        holds = f"{times}, the newest of {day_words(line.newest_at, is_confirmed=True)}"
    free = f"{_size_words(line.stick.free_bytes)} free"
    return {
        "path": str(line.stick.path),
        "label": line.stick.label,
        "words": f"{holds} · {free}" if line.stick.is_writable else f"{holds} · takes no writes",
        "is_writable": line.stick.is_writable,
        "has_backup": line.generations > 0,
    }


def _size_words(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= _GIGABYTE else f"{size_bytes / 1e6:.0f} MB"
