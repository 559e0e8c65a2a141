"""Buttons that are no touch, and a second camera, as the screen sees them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from kiosk_browser import CHROMIUM, SIZES, screen, served
from kiosk_station import ManualClock, RoleCamera, camera_set, replay_camera
from playwright.sync_api import Browser, expect

from appliance.camera.selection import CameraRole
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.shutter import Press
from appliance.service.station import Station
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CSRF_HEADER


@pytest.fixture
def engine(tmp_path: Path) -> EngineClient:
    return EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))


class Kiosk:
    """A station with two cameras whose threads do not run, and its face."""

    def __init__(self, engine: EngineClient) -> None:
        self.clock = ManualClock()
        cameras, self.by_role = camera_set(self.clock)
        self.station = Station(cameras, engine, clock=self.clock)
        self.client: FlaskClient = create_kiosk_app(self.station).test_client()
        found = re.search(r'name="csrf-token" content="([^"]+)"', self.client.get("/").text)
        assert found is not None
        self.headers = {CSRF_HEADER: found[1]}

    def take(self, role: CameraRole = "overview") -> RoleCamera:
        self.by_role[role].take()
        return self.by_role[role]

    def press(self, role: CameraRole | None = None) -> None:
        self.station.shutter.handle(Press(source="camera", pressed_s=self.clock.passed_s, role=role))


@pytest.fixture
def kiosk(engine: EngineClient) -> Kiosk:
    return Kiosk(engine)


def test_preview_tells_of_a_press_and_the_page_finds_its_photo(kiosk: Kiosk) -> None:
    kiosk.station.open_encounter()
    kiosk.take()
    assert kiosk.client.get("/preview").headers["X-Presses"] == "0"
    kiosk.press()
    kiosk.take()
    assert kiosk.client.get("/preview").headers["X-Presses"] == "1"
    outcome = kiosk.client.get("/api/press").json
    assert outcome is not None
    assert kiosk.client.get(outcome["page_url"]).status_code == 200
    assert kiosk.client.get(outcome["image_url"]).data.startswith(b"\xff\xd8\xff")


def test_press_that_kept_nothing_is_one_sentence(kiosk: Kiosk) -> None:
    assert kiosk.client.get("/api/press").json == {"number": 0, "sentence": None}
    kiosk.take()
    kiosk.press()
    assert kiosk.client.get("/api/press").json == {
        "number": 1,
        "sentence": "No visit is open, so no photo was kept.",
    }


def test_other_camera_is_shown_and_named(kiosk: Kiosk) -> None:
    encounter = kiosk.station.open_encounter()
    kiosk.take()
    assert 'id="other-camera"' in kiosk.client.get(f"/encounters/{encounter.encounter_id}").text
    assert kiosk.client.get("/api/state").json["camera"]["words"] == "Camera ready"  # type: ignore[index] # it is JSON
    assert kiosk.client.post("/api/camera/other", headers=kiosk.headers).status_code == 204
    kiosk.take("dermatoscope")
    assert kiosk.client.get("/api/state").json["camera"]["words"] == "Dermatoscope ready"  # type: ignore[index] # likewise
    kiosk.client.post("/api/camera/other", headers=kiosk.headers)
    assert kiosk.station.selected_camera == "overview"


@pytest.fixture
def running(engine: EngineClient, tmp_path: Path) -> Iterator[Station]:
    with Station(replay_camera(tmp_path / "pictures"), engine) as station:
        yield station


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium")
def test_foot_switch_takes_the_screen_to_the_photo(browser: Browser, running: Station) -> None:
    with served(running) as url, screen(browser, url, SIZES["1280x800"]) as shown:
        shown.open()
        shown.page.get_by_role("button", name="New photo").tap()
        shown.page.locator("#shutter:not([disabled])").wait_for()
        running.shutter.press(Press(source="foot", pressed_s=running._clock.monotonic_s()))
        shown.page.wait_for_selector("#model")
        expect(shown.page).to_have_url(re.compile("/captures/"))
        assert running.captures.current is not None
        assert len(running.captures.images(running.captures.current.encounter_id)) == 1
        shown.assert_clean()
