"""Erasing a patient: what goes and what stays, the lead's proposal, and the second person's PIN."""

from datetime import datetime
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.backup import KEPT, last_backup
from appliance.records.erasing import ErasurePlan, Reason
from appliance.records.errors import WrongSecretError
from appliance.service.clinic import Clinic
from appliance.service.erasures import Erasures
from web.kiosk.access import require_fresh_pin
from web.kiosk.dates import day_words
from web.kiosk.door import tiles
from web.kiosk.guard import allow
from web.kiosk.requests import decoded

REASON_WORDS: Final[dict[Reason, str]] = {
    "asked-for": "The patient asked for it",
    "kept-long-enough": "Kept long enough",
    "by-mistake": "Made by mistake",
}


class _ProposeRequest(msgspec.Struct, forbid_unknown_fields=True):
    reason: Reason
    digest: str


class _ConfirmRequest(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str
    pin: str


def create_erasing(clinic: Clinic, erasures: Erasures) -> Blueprint:
    """Build the routes."""
    blueprint = Blueprint("erasing", __name__)
    _add_pages(blueprint, clinic, erasures)
    _add_acts(blueprint, clinic, erasures)
    return blueprint


def _add_pages(blueprint: Blueprint, clinic: Clinic, erasures: Erasures) -> None:
    @blueprint.get("/patients/<subject_id>/erase")
    @allow("erase")
    def plan(subject_id: str) -> str:
        person, found = erasures.plan(subject_id)
        is_due = request.args.get("why") == "kept-long-enough"
        return render_template(
            "kiosk/erasing/plan.html",
            person=person,
            goes=what_goes(found),
            stays=_what_stays(clinic, found),
            digest=found.digest,
            reasons=REASON_WORDS,
            reason="kept-long-enough" if is_due else "asked-for",
            back="/upkeep/retention" if is_due else url_for("patients.patient", subject_id=subject_id),
            has_witness=bool(erasures.witnesses()),
        )

    @blueprint.get("/patients/<subject_id>/erase/confirm")
    @allow("erase")
    def confirm(subject_id: str) -> str:
        proposal = erasures.proposal(subject_id)
        person, found = erasures.plan(subject_id)
        may = {user.user_id for user in erasures.witnesses()}
        return render_template(
            "kiosk/erasing/confirm.html",
            person=person,
            goes=what_goes(found),
            reason=REASON_WORDS[proposal.reason],
            tiles=[tile for tile in tiles(clinic) if tile["user_id"] in may],
        )

    @blueprint.get("/erased")
    @allow("erase")
    def erased() -> str:
        return render_template("kiosk/erasing/done.html", backups=_backup_words(clinic))


def _add_acts(blueprint: Blueprint, clinic: Clinic, erasures: Erasures) -> None:
    @blueprint.post("/api/patients/<subject_id>/erase")
    @allow("erase")
    def propose(subject_id: str) -> Response:
        require_fresh_pin(clinic)
        asked = decoded(_ProposeRequest)
        erasures.propose(subject_id, asked.reason, asked.digest)
        return jsonify(go=url_for("erasing.confirm", subject_id=subject_id))

    @blueprint.post("/api/patients/<subject_id>/erase/confirm")
    @allow("erase")
    def confirm_now(subject_id: str) -> tuple[Response, int] | Response:
        asked = decoded(_ConfirmRequest)
        try:
            erasures.confirm(subject_id, asked.user_id, asked.pin)
        except WrongSecretError as error:
            wait_s = clinic.people.wait_s(asked.user_id) if clinic.people is not None else 0.0
            return jsonify(error=str(error), wait_s=wait_s), HTTPStatus.FORBIDDEN
        return jsonify(go=url_for("erasing.erased"))

    @blueprint.post("/patients/<subject_id>/erase/withdraw")
    @allow("erase")
    def withdraw(subject_id: str) -> WerkzeugResponse:
        erasures.withdraw()
        return redirect(url_for("erasing.plan", subject_id=subject_id), HTTPStatus.SEE_OTHER)


def what_goes(plan: ErasurePlan) -> list[str]:
    """Say what an erasure takes, by count and dates."""
    found = [_counted(len(plan.visits), "visit") + _dates(plan), _counted(plan.photos, "photo")]
    if number := sum(plan.others.values()):
        found.append(_counted(number, "other record") + ": answers, lesions, consent, decisions")
    if plan.drafts:
        found.append(_counted(plan.drafts, "form") + " or visit not finished yet, of anybody")
    return [*found, "Name, number and everything else of this person"]


def _what_stays(clinic: Clinic, plan: ErasurePlan) -> list[str]:
    found = [
        "In the audit: that somebody was erased, when, why, and by which two. No patient data.",
        _backup_words(clinic),
        "What was printed, exported or told.",
    ]
    if plan.older_copies:
        names = ", ".join(plan.older_copies)
        found.insert(2, f"In the older records that a restore set aside on this disk: the technician deletes {names}.")
    return found


def _backup_words(clinic: Clinic) -> str:
    last = last_backup(clinic.records())
    if last is None:
        return "No backup was made here, so none holds it."
    at = day_words(datetime.fromisoformat(last.recorded_at), is_confirmed=last.is_date_confirmed)
    return (
        f"On sticks backed up before (the last on {at}, {last.label}): until each stick was backed up "
        f"{KEPT} times more. Restoring an older one erases it again, where this box or the stick knows of it."
    )


def _dates(plan: ErasurePlan) -> str:
    days = [
        day_words(datetime.fromisoformat(one.recorded_at), is_confirmed=one.is_date_confirmed) for one in plan.visits
    ]
    if not days:
        return ""
    return f", {days[0]}" if days[0] == days[-1] else f", {days[0]} to {days[-1]}"


def _counted(number: int, name: str) -> str:
    return f"1 {name}" if number == 1 else f"{number} {name}s"
