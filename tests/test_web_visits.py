"""The routes of visits, patients and upkeep: nurses who change places, the locked box, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from kiosk_records import NURSE_PIN, TECHNICIAN_PIN, add_user
from kiosk_station import ManualClock, ObedientCamera
from records_boxes import LEAD_PIN, Box, new_box
from route_walk import token_of

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.content import EncounterContent
from appliance.records.opening import Opening
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from appliance.service.visits import Visits
from web.kiosk.access import COOKIE
from web.kiosk.app import create_kiosk_app


class Kiosk:
    """A kiosk without a browser, whose clock and camera obey."""

    def __init__(self, folder: Path) -> None:
        self.box: Box = new_box(folder / "records")
        self.nurse = add_user(self.box, "Thandi", "nurse", NURSE_PIN)
        self.technician = add_user(self.box, "Sam", "technician", TECHNICIAN_PIN)
        clock = ManualClock()
        clock.passed_s = 1000
        self.clinic = Clinic(Opening(state="ready", found="", store=self.box.store), clock=clock, idle_s=600)
        visits = Visits(self.clinic.records, self.clinic.operator)
        self.camera = ObedientCamera(clock)
        engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
        self.station = Station(self.camera, engine, visits=visits, clock=clock)
        self.app = create_kiosk_app(self.station, clinic=self.clinic)
        self.client: FlaskClient = self.app.test_client()

    def signs_in(self, user_id: str, pin: str) -> None:
        self.client.set_cookie(COOKIE, self.clinic.sign_in(user_id, pin))

    def lead_signs_in(self) -> None:
        self.signs_in(self.box.lead.user_id, LEAD_PIN)

    def nurse_signs_in(self) -> None:
        self.signs_in(self.nurse.user_id, NURSE_PIN)

    def opens(self) -> str:
        reply = self.post("/encounters")
        assert reply.status_code == 303
        return str(reply.location).split("/")[2]

    def shoots(self, encounter_id: str) -> str:
        self.camera.take()
        reply = self.post(f"/api/encounters/{encounter_id}/captures", json={})
        assert reply.status_code == 201, reply.text
        return str(reply.get_json()["capture_id"])

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, headers={"X-CSRF-Token": token_of(self.app)}, **body)

    def page(self, path: str) -> str:
        reply = self.client.get(path)
        assert reply.status_code == 200, reply.text
        return reply.text


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    found = Kiosk(tmp_path)
    yield found
    found.box.store.close()


def test_visit_leaves_with_its_nurse_and_comes_back_with_her(kiosk: Kiosk) -> None:
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.nurse_signs_in()
    assert encounter_id not in kiosk.page("/")
    assert kiosk.client.get(f"/encounters/{encounter_id}").status_code == 404
    assert kiosk.post(f"/encounters/{encounter_id}/resume").status_code == 404
    assert kiosk.post(f"/api/encounters/{encounter_id}/captures", json={}).status_code == 409
    kiosk.lead_signs_in()
    assert f"/encounters/{encounter_id}" in kiosk.page("/")
    kiosk.shoots(encounter_id)
    assert len(kiosk.station.captures.images(encounter_id)) == 2


def test_visit_without_a_pin_is_offered_to_a_nurse_and_not_to_the_next_without(kiosk: Kiosk) -> None:
    kiosk.client.set_cookie(COOKIE, kiosk.clinic.begin_emergency())
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.nurse_signs_in()
    assert "Begun without a PIN" in kiosk.page("/")
    kiosk.client.set_cookie(COOKIE, kiosk.clinic.begin_emergency())
    assert encounter_id not in kiosk.page("/")
    assert kiosk.post(f"/encounters/{encounter_id}/resume").status_code == 404
    kiosk.nurse_signs_in()
    assert kiosk.post(f"/encounters/{encounter_id}/resume").status_code == 303
    assert "1 photo" in kiosk.page("/")
    kiosk.lead_signs_in()
    assert "1 photo" in kiosk.page("/upkeep/without-pin")
    assert kiosk.box.store.verify_audit().problems == ()


def test_closed_visit_without_a_name_is_taken_up_and_named(kiosk: Kiosk) -> None:
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.post(f"/encounters/{encounter_id}/close")
    kiosk.nurse_signs_in()
    (found,) = kiosk.post("/api/patients/find", json={"text": ""}).get_json()["people"]
    assert found["title"] == "Not named yet"
    page = f"{found['url']}/visits/{encounter_id}"
    assert "Go on with it" in kiosk.page(page)
    assert kiosk.post(f"{page}/take-up").status_code == 303
    form = f"/api/encounters/{encounter_id}/new-patient"
    assert kiosk.post(form, json={"field": "name", "value": " Nomvula  D. "}).get_json() == {"value": "Nomvula D."}
    assert kiosk.post(f"{form}/save").get_json()["go"].endswith("/consent")
    kiosk.post(f"/encounters/{encounter_id}/close")
    assert "Go on with it" not in kiosk.page(page)
    assert kiosk.post(f"{page}/take-up").status_code == 404
    assert kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed
    assert kiosk.box.store.verify_audit().problems == ()


def test_consent_is_asked_once_and_shown(kiosk: Kiosk) -> None:
    kiosk.nurse_signs_in()
    encounter_id = kiosk.opens()
    form = f"/api/encounters/{encounter_id}/new-patient"
    kiosk.post(form, json={"field": "local_number", "value": "0417"})
    assert kiosk.post(f"{form}/save").get_json()["go"].endswith("/consent")
    consent = f"/api/encounters/{encounter_id}/consent"
    refused = kiosk.post(consent, json={"tiers": ["care"], "how": "by post"})
    assert (refused.status_code, refused.get_json()["error"]) == (400, "Choose how the patient agreed.")
    assert kiosk.post(consent, json={"tiers": ["sale"], "how": "spoken"}).status_code == 400
    agreed = kiosk.post(consent, json={"tiers": ["teaching", "care"], "how": "thumb"})
    assert agreed.get_json()["go"].endswith("/lesion")
    assert "Agreed to care here, teaching" in kiosk.page(f"/encounters/{encounter_id}/who")


def test_what_does_not_fit_is_refused_in_a_sentence(kiosk: Kiosk) -> None:
    kiosk.nurse_signs_in()
    encounter_id = kiosk.opens()
    refused = kiosk.post(
        f"/api/encounters/{encounter_id}/new-patient", json={"field": "birth_year", "value": "next year"}
    )
    assert refused.status_code == 400
    assert "four digits" in refused.get_json()["error"]
    assert kiosk.post(f"/encounters/{encounter_id}/lesion/new", data={"site": "moon"}).status_code == 400
    assert kiosk.post(f"/encounters/{encounter_id}/lesion/new", data={"site": "palm", "side": "X"}).status_code == 400
    assert kiosk.post(f"/encounters/{encounter_id}/lesion/{'0' * 32}").status_code == 404
    assert kiosk.client.get(f"/encounters/{'0' * 32}/who").status_code == 404
    assert kiosk.post(f"/api/encounters/{encounter_id}/who", json={"subject_id": "0" * 32}).status_code == 404


def test_locked_box_finds_nobody_and_shows_no_photo(kiosk: Kiosk) -> None:
    kiosk.nurse_signs_in()
    encounter_id = kiosk.opens()
    capture_id = kiosk.shoots(encounter_id)
    kiosk.box.store.lock()
    assert kiosk.post("/api/patients/find", json={"text": ""}).status_code == 423
    for path in (
        f"/captures/{capture_id}/image",
        f"/records/photos/{capture_id}",
        f"/records/photos/{capture_id}/small",
    ):
        assert kiosk.client.get(path).status_code == 423, path
    assert "1 earlier: saved, shown after the phrase" in kiosk.page(f"/encounters/{encounter_id}")
    assert kiosk.post(f"/encounters/{encounter_id}/close").status_code == 303
    kiosk.post("/api/unlock", json={"phrase": kiosk.box.made.phrase})
    assert kiosk.box.store.get(EncounterContent, encounter_id).content.is_closed


def test_opening_a_patient_is_noted_with_who_looked(kiosk: Kiosk) -> None:
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    kiosk.nurse_signs_in()
    (found,) = kiosk.post("/api/patients/find", json={"text": ""}).get_json()["people"]
    kiosk.page(found["url"])
    kiosk.page(f"{found['url']}/visits/{encounter_id}")
    noted = kiosk.box.store.saver.connection.execute(
        "SELECT operator_id, objects FROM audit WHERE action = 'read' ORDER BY sequence"
    ).fetchall()
    assert {row[0] for row in noted} == {kiosk.nurse.user_id}
    assert [encounter_id in row[1] for row in noted] == [False, False, True]


def test_technician_keeps_the_box_and_reads_nobody(kiosk: Kiosk) -> None:
    kiosk.signs_in(kiosk.technician.user_id, TECHNICIAN_PIN)
    for path in ("/backup", "/upkeep", "/upkeep/inventory"):
        kiosk.page(path)
    for path in ("/patients", "/upkeep/retention", "/upkeep/audit"):
        assert kiosk.client.get(path).status_code == 403, path
    assert kiosk.post("/api/patients/find", json={"text": ""}).status_code == 403
    assert kiosk.post("/encounters").status_code == 403


def test_audit_page_says_when_something_was_changed(kiosk: Kiosk) -> None:
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    assert "Nothing was changed" in kiosk.page("/upkeep/audit")
    kiosk.box.store.saver.connection.execute("UPDATE encounter SET revision = revision + 1")
    page = kiosk.page("/upkeep/audit")
    assert "Something was changed" in page
    assert "not as it was written" in page
