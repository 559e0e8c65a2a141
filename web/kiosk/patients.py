"""Patients of earlier days: finding one, their visits, and the photos of each with what the model wrote then."""

from typing import Any, Final

import msgspec
from flask import Blueprint, Response, jsonify, render_template, url_for

from appliance.errors import ImageError
from appliance.service.errors import NotFoundError
from appliance.service.patients import PatientLine, VisitLine
from appliance.service.visits import Visits
from web.kiosk.dates import day_words
from web.kiosk.guard import allow
from web.kiosk.requests import decoded
from web.kiosk.visits import consent_words

WITHOUT_PIN_MAX: Final = 60


class _FindRequest(msgspec.Struct, forbid_unknown_fields=True):
    text: str


def create_patients(visits: Visits) -> Blueprint:
    """Build the routes."""
    blueprint = Blueprint("patients", __name__)
    _add_pages(blueprint, visits)
    _add_review(blueprint, visits)
    _add_photos(blueprint, visits)
    return blueprint


def _add_pages(blueprint: Blueprint, visits: Visits) -> None:
    @blueprint.get("/patients")
    @allow("read")
    def search() -> str:
        return render_template("kiosk/visit/patients.html", is_unlocked=visits.records().is_unlocked)

    @blueprint.post("/api/patients/find")
    @allow("read")
    def find() -> Response:
        found = visits.patients.find(decoded(_FindRequest).text)
        return jsonify(people=[_patient_view(line) for line in found])

    @blueprint.get("/patients/<subject_id>")
    @allow("read")
    def patient(subject_id: str) -> str:
        opened = visits.patients.open(subject_id)
        waiting = {one.encounter_id for one in visits.waiting()}
        return render_template(
            "kiosk/visit/patient.html",
            person=opened.person,
            consent=None if opened.consent is None else consent_words(opened.consent),
            seen=[_visit_view(line, waiting) for line in opened.visits],
        )

    @blueprint.get("/patients/<subject_id>/visits/<encounter_id>")
    @allow("read")
    def earlier_visit(subject_id: str, encounter_id: str) -> str:
        if visits.patients.subject_of(encounter_id) != subject_id:
            raise NotFoundError("This visit is another patient's.")
        opened = visits.patients.open(subject_id)
        line = next(one for one in opened.visits if one.encounter_id == encounter_id)
        return render_template(
            "kiosk/visit/earlier_visit.html",
            person=opened.person,
            seen=_visit_view(line, set()),
            photos=visits.patients.photos(encounter_id),
            may_take_up=visits.may_take_up(encounter_id),
        )


def _add_review(blueprint: Blueprint, visits: Visits) -> None:
    @blueprint.get("/upkeep/without-pin")
    @allow("audit")
    def without_pin() -> str:
        store = visits.records()
        found = [visits.summary(one) for one in store.visits_without_pin(WITHOUT_PIN_MAX)]
        return render_template(
            "kiosk/upkeep/without_pin.html",
            is_unlocked=store.is_unlocked,
            seen=[
                {
                    "who": one.person.title,
                    "url": url_for(
                        "patients.earlier_visit", subject_id=one.person.subject_id, encounter_id=one.encounter_id
                    ),
                    "words": f"{day_words(one.opened_at, is_confirmed=one.is_date_confirmed)} · "
                    + ("1 photo" if one.photos == 1 else f"{one.photos} photos"),
                }
                for one in found
            ],
        )


def _add_photos(blueprint: Blueprint, visits: Visits) -> None:
    @blueprint.get("/records/photos/<capture_id>")
    @allow("read")
    def photo(capture_id: str) -> Response:
        content, media_type = visits.patients.photo(capture_id)
        return Response(content, mimetype=media_type)

    @blueprint.get("/records/photos/<capture_id>/small")
    @allow("read")
    def small(capture_id: str) -> Response:
        try:
            return Response(visits.thumbnails.of(capture_id), mimetype="image/jpeg")
        except ImageError:
            raise NotFoundError("This photo cannot be made small.") from None


def _patient_view(line: PatientLine) -> dict[str, Any]:
    seen = "never photographed"
    if line.last_seen_at is not None:
        times = "once" if line.visits == 1 else f"{line.visits} times"
        seen = f"here {times}, last on {day_words(line.last_seen_at, is_confirmed=line.is_date_confirmed)}"
    return {
        "subject_id": line.subject_id,
        "title": line.person.title,
        "details": " · ".join(line.person.details),
        "seen": seen,
        "url": url_for("patients.patient", subject_id=line.subject_id),
    }


def _visit_view(line: VisitLine, waiting: set[str]) -> dict[str, Any]:
    return {
        "encounter_id": line.encounter_id,
        "day": day_words(line.at, is_confirmed=line.is_date_confirmed),
        "lesions": ", ".join(line.lesions),
        "capture_ids": line.capture_ids,
        "is_open": line.encounter_id in waiting,
    }
