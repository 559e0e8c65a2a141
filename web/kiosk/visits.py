"""The beginning of a visit: whose it is, what they agree to, and which lesion. Each step can be left for later."""

from http import HTTPStatus
from typing import Final, get_args

import msgspec
from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.content import ConsentContent, ConsentTier, Laterality
from appliance.records.errors import LockedError
from appliance.service.body_sites import REGIONS, site_of
from appliance.service.errors import NotFoundError
from appliance.service.person_form import FITZPATRICK, MONK
from appliance.service.station import Station
from appliance.service.visits import Visits
from web.kiosk.guard import allow
from web.kiosk.requests import decoded

TIER_WORDS: Final[dict[ConsentTier, tuple[str, str]]] = {
    "care": ("Care here", "The clinic keeps the photos and looks at them again."),
    "referral": ("Referral", "A specialist elsewhere may see them, with the name."),
    "teaching": ("Teaching", "Others may learn from them, without the name."),
    "research": ("Research", "They may serve research, without the name."),
}
HOW_WORDS: Final = {"spoken": "Said so", "thumb": "Thumb print", "signed": "Signed"}
SEX_WORDS: Final = {"female": "Female", "male": "Male", "other": "Other", "unknown": "Not known"}


class _PersonRequest(msgspec.Struct, forbid_unknown_fields=True):
    subject_id: str


class _FieldRequest(msgspec.Struct, forbid_unknown_fields=True):
    field: str
    value: str


class _ConsentRequest(msgspec.Struct, forbid_unknown_fields=True):
    tiers: list[ConsentTier]
    how: str
    is_guardian: bool = False


def create_visits(station: Station, visits: Visits) -> Blueprint:
    """Build the routes of a visit's first steps."""
    blueprint = Blueprint("visits", __name__)
    _add_resume_routes(blueprint, station, visits)
    _add_who_routes(blueprint, station, visits)
    _add_form_routes(blueprint, station, visits)
    _add_consent_routes(blueprint, station, visits)
    _add_lesion_routes(blueprint, station, visits)
    return blueprint


def next_step(visits: Visits, encounter_id: str) -> str:
    """Return the address of what a visit still lacks; in the end its photos."""
    person = visits.person(encounter_id)
    if person.is_named and visits.consent(encounter_id) is None:
        return url_for("visits.consent", encounter_id=encounter_id)
    if visits.photos.lesion_of(encounter_id) is None:
        return url_for("visits.lesion", encounter_id=encounter_id)
    return url_for("pages.capture", encounter_id=encounter_id)


def consent_words(agreed: frozenset[ConsentTier]) -> str:
    """Say what a patient agreed to, in the order of the tiers."""
    found = [words[0].lower() for tier, words in TIER_WORDS.items() if tier in agreed]
    return ", ".join(found) if found else "nothing"


def require_on_screen(station: Station, encounter_id: str) -> None:
    """Insist that a visit is the one on the screen.

    Raises:
        NotFoundError: It is not.
    """
    current = station.captures.current
    if current is None or current.encounter_id != encounter_id:
        raise NotFoundError("This visit is closed.")


def _add_resume_routes(blueprint: Blueprint, station: Station, visits: Visits) -> None:
    @blueprint.post("/patients/<subject_id>/visits/<encounter_id>/take-up")
    @allow("capture")
    def take_up(subject_id: str, encounter_id: str) -> WerkzeugResponse:
        if visits.patients.subject_of(encounter_id) != subject_id:
            raise NotFoundError("This visit is another patient's.")
        visits.take_up(encounter_id)
        station.visit_screen.resume(encounter_id)
        return redirect(url_for("visits.who", encounter_id=encounter_id), HTTPStatus.SEE_OTHER)

    @blueprint.post("/encounters/<encounter_id>/resume")
    @allow("capture")
    def resume(encounter_id: str) -> WerkzeugResponse:
        station.visit_screen.resume(encounter_id)
        return redirect(url_for("pages.capture", encounter_id=encounter_id), HTTPStatus.SEE_OTHER)


def _add_who_routes(blueprint: Blueprint, station: Station, visits: Visits) -> None:
    @blueprint.get("/encounters/<encounter_id>/who")
    @allow("capture")
    def who(encounter_id: str) -> str:
        require_on_screen(station, encounter_id)
        agreed = visits.consent(encounter_id)
        return render_template(
            "kiosk/visit/who.html",
            encounter_id=encounter_id,
            is_unlocked=visits.records().is_unlocked,
            agreed=None if agreed is None else consent_words(agreed),
        )

    @blueprint.post("/api/encounters/<encounter_id>/who")
    @allow("read")
    def choose(encounter_id: str) -> Response:
        require_on_screen(station, encounter_id)
        visits.choose_person(encounter_id, decoded(_PersonRequest).subject_id)
        station.visit_screen.begin_shots()
        return jsonify(go=next_step(visits, encounter_id))

    @blueprint.post("/encounters/<encounter_id>/later")
    @allow("capture")
    def later(encounter_id: str) -> WerkzeugResponse:
        require_on_screen(station, encounter_id)
        return redirect(url_for("visits.lesion", encounter_id=encounter_id), HTTPStatus.SEE_OTHER)


def _add_form_routes(blueprint: Blueprint, station: Station, visits: Visits) -> None:
    @blueprint.get("/encounters/<encounter_id>/new-patient")
    @allow("capture")
    def new_patient(encounter_id: str) -> str:
        require_on_screen(station, encounter_id)
        return render_template(
            "kiosk/visit/new_patient.html",
            encounter_id=encounter_id,
            fields=visits.form.fields(encounter_id),
            sexes=SEX_WORDS,
            fitzpatrick=FITZPATRICK,
            monk=MONK,
        )

    @blueprint.post("/api/encounters/<encounter_id>/new-patient")
    @allow("capture")
    def type_field(encounter_id: str) -> Response:
        require_on_screen(station, encounter_id)
        asked = decoded(_FieldRequest)
        return jsonify(value=visits.form.type(encounter_id, asked.field, asked.value))

    @blueprint.post("/api/encounters/<encounter_id>/new-patient/save")
    @allow("capture")
    def save(encounter_id: str) -> Response:
        require_on_screen(station, encounter_id)
        visits.name_person(encounter_id, visits.form.content(encounter_id))
        station.visit_screen.begin_shots()
        return jsonify(go=next_step(visits, encounter_id))


def _add_consent_routes(blueprint: Blueprint, station: Station, visits: Visits) -> None:
    @blueprint.get("/encounters/<encounter_id>/consent")
    @allow("capture")
    def consent(encounter_id: str) -> str:
        require_on_screen(station, encounter_id)
        return render_template(
            "kiosk/visit/consent.html",
            encounter_id=encounter_id,
            tiers=TIER_WORDS,
            hows=HOW_WORDS,
            agreed=visits.consent(encounter_id),
        )

    @blueprint.post("/api/encounters/<encounter_id>/consent")
    @allow("capture")
    def note_consent(encounter_id: str) -> Response:
        require_on_screen(station, encounter_id)
        asked = decoded(_ConsentRequest)
        how = next((one for one in ("spoken", "thumb", "signed") if one == asked.how), None)
        if how is None:
            abort(HTTPStatus.BAD_REQUEST, "Choose how the patient agreed.")
        content = ConsentContent(
            tiers=frozenset(asked.tiers), how=how, given_by="guardian" if asked.is_guardian else "subject"
        )
        visits.note_consent(encounter_id, content)
        return jsonify(go=next_step(visits, encounter_id))


def _add_lesion_routes(blueprint: Blueprint, station: Station, visits: Visits) -> None:
    @blueprint.get("/encounters/<encounter_id>/lesion")
    @allow("capture")
    def lesion(encounter_id: str) -> str | WerkzeugResponse:
        require_on_screen(station, encounter_id)
        subject_id = visits.photos.subject_of(encounter_id)
        try:
            known = visits.lesions.of_subject(subject_id) if subject_id is not None else ()
        except LockedError:
            known = None
        if known == ():
            return redirect(url_for("visits.new_lesion", encounter_id=encounter_id), HTTPStatus.SEE_OTHER)
        chosen = visits.photos.lesion_of(encounter_id)
        return render_template("kiosk/visit/lesion.html", encounter_id=encounter_id, lesions=known, chosen=chosen)

    @blueprint.post("/encounters/<encounter_id>/lesion/<lesion_id>")
    @allow("capture")
    def choose_lesion(encounter_id: str, lesion_id: str) -> WerkzeugResponse:
        require_on_screen(station, encounter_id)
        visits.lesions.choose(encounter_id, lesion_id)
        return _to_photos(station, encounter_id)

    @blueprint.get("/encounters/<encounter_id>/lesion/new")
    @allow("capture")
    def new_lesion(encounter_id: str) -> str:
        require_on_screen(station, encounter_id)
        region = next((one for one in REGIONS if one.key == request.args.get("region")), None)
        site = site_of(request.args.get("site", ""))
        return render_template(
            "kiosk/visit/new_lesion.html", encounter_id=encounter_id, regions=REGIONS, region=region, site=site
        )

    @blueprint.post("/encounters/<encounter_id>/lesion/new")
    @allow("capture")
    def add_lesion(encounter_id: str) -> WerkzeugResponse:
        require_on_screen(station, encounter_id)
        site, side = site_of(request.form.get("site", "")), request.form.get("side", "U")
        laterality: Laterality | None = next((one for one in get_args(Laterality) if one == side), None)
        if site is None or laterality is None:
            abort(HTTPStatus.BAD_REQUEST, "Choose where the spot is.")
        visits.lesions.add(encounter_id, site, laterality)
        return _to_photos(station, encounter_id)


def _to_photos(station: Station, encounter_id: str) -> WerkzeugResponse:
    """Go to the photos, whose list is that of the lesion chosen."""
    station.visit_screen.begin_shots()
    return redirect(url_for("pages.capture", encounter_id=encounter_id), HTTPStatus.SEE_OTHER)
