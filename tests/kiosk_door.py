"""A kiosk with records for tests of its door: pages over HTTP, a clock that obeys, and the box started anew."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from flask.testing import FlaskClient
from kiosk_station import ObedientCamera
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, Box, new_box, open_box
from werkzeug.test import TestResponse

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.opening import Opening, open_records
from appliance.records.people import People
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from appliance.service.visits import Visits
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CSRF_HEADER

NURSE_PIN = "730164"
HTML = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
}
"""As Chromium asks for a page."""


@dataclass(kw_only=True)
class Kiosk:
    """One run of the station on a folder, seen by one browser."""

    clinic: Clinic
    station: Station
    camera: ObedientCamera
    clock: ManualClock
    client: FlaskClient
    token: str

    def get(self, path: str) -> TestResponse:
        return self.client.get(path, headers=HTML)

    def form(self, path: str) -> TestResponse:
        return self.client.post(path, headers={**HTML, CSRF_HEADER: self.token})

    def post(self, path: str, **body: object) -> TestResponse:
        return self.client.post(path, json=body, headers={CSRF_HEADER: self.token})

    def sign_in(self, user_id: str, pin: str) -> TestResponse:
        return self.post("/api/sign-in", user_id=user_id, pin=pin)

    def photograph(self) -> str:
        """Open a visit and take a photo; returns the visit's path."""
        found = re.search(r"/encounters/[0-9a-f]{32}", self.form("/encounters").headers["Location"])
        assert found is not None
        self.camera.take()
        answer = self.post(f"/api{found[0]}/captures")
        assert answer.status_code == 201, answer.text
        return found[0]

    def other_browser(self) -> "Kiosk":
        """Another browser on the same box."""
        client = self.client.application.test_client()
        return replace(self, client=client, token=token_of(client))


def token_of(client: FlaskClient) -> str:
    page = client.get("/sign-in", follow_redirects=True).text
    found = re.search(r'name="csrf-token" content="([^"]+)"', page)
    assert found is not None, page
    return found[1]


def kiosk_of(opening: Opening, folder: Path, clock: ManualClock) -> Kiosk:
    """Start a station on what opening found."""
    clinic = Clinic(opening, clock=clock, folder=folder)
    camera = ObedientCamera(clock)
    visits = Visits(clinic.records, clinic.operator, has_records=lambda: clinic.store is not None)
    engine = EngineClient(EngineAddress(socket=str(folder.parent / "nobody.sock")))
    station = Station(camera, engine, visits=visits, clock=clock)
    client = create_kiosk_app(station, clinic=clinic).test_client()
    return Kiosk(clinic=clinic, station=station, camera=camera, clock=clock, client=client, token=token_of(client))


def opened(folder: Path) -> Kiosk:
    """Start a station on a folder, in whatever state it is."""
    clock = ManualClock()
    return kiosk_of(open_records(folder, clock=clock, ballast_bytes=0), folder, clock)


class Door:
    """A box with a lead and a nurse, and the kiosk that runs on it now."""

    def __init__(self, folder: Path) -> None:
        self.box: Box = new_box(folder / "records")
        self.nurse_id = (
            People(self.box.store, clock=self.box.clock).add("Nurse", "nurse", NURSE_PIN, self.box.lead).user_id
        )
        self.lead_id = self.box.lead.user_id
        self.kiosk = self._start()

    def _start(self) -> Kiosk:
        opening = Opening(state="ready", found="The records are open.", store=self.box.store)
        return kiosk_of(opening, self.box.folder, self.box.clock)

    def restart(self, *, is_boot: bool = False) -> None:
        """Start the station anew, its memory gone; after a boot the monotonic clock begins at nothing too."""
        self.box.store.close()
        if is_boot:
            self.box.clock.passed_s = 0.0
        self.box = open_box(self.box.folder, self.box.made, clock=self.box.clock)
        self.kiosk = self._start()

    def nurse_signs_in(self) -> TestResponse:
        return self.kiosk.sign_in(self.nurse_id, NURSE_PIN)

    def lead_signs_in(self) -> TestResponse:
        return self.kiosk.sign_in(self.lead_id, LEAD_PIN)
