"""The shot list, the light and the measures as the page's script asks for them: answers, and refusals in a sentence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from kiosk_station import ALL_ROLES, ManualClock, camera_set
from test_web_kiosk_buttons import Kiosk

from appliance.config import ShotsConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.station import Station
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CSRF_HEADER


class ListKiosk:
    """A station with a list whose threads do not run, and its face."""

    def __init__(self, folder: Path, *, has_clip_on_lens: bool = False) -> None:
        self.clock = ManualClock()
        roles = ALL_ROLES[:1] if has_clip_on_lens else ALL_ROLES
        cameras, self.by_role = camera_set(self.clock, roles, has_clip_on_lens=has_clip_on_lens)
        engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
        self.station = Station(cameras, engine, clock=self.clock, shots=ShotsConfig())
        self.client: FlaskClient = create_kiosk_app(self.station).test_client()
        found = re.search(r'name="csrf-token" content="([^"]+)"', self.client.get("/").text)
        assert found is not None
        self.headers = {CSRF_HEADER: found[1]}
        self.encounter_id = self.station.open_encounter().encounter_id

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(path, json=body if body is not None else {}, headers=self.headers)

    def take(self) -> Any:
        self.by_role[self.station.selected_camera].take()
        return self.post(f"/api/encounters/{self.encounter_id}/captures")

    def drawn(self) -> str:
        """Return the list as the page puts it in place."""
        return self.client.get(f"/api/encounters/{self.encounter_id}/shots.html").text


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[ListKiosk]:
    kiosk = ListKiosk(tmp_path)
    yield kiosk
    kiosk.station.measuring._sandbox.close()


def test_list_is_drawn_with_what_comes_now_and_what_is_kept(kiosk: ListKiosk) -> None:
    path = f"/api/encounters/{kiosk.encounter_id}/shots"
    before = kiosk.client.get(path).json
    assert before is not None
    assert (before["now"]["kind"], before["now"]["place"], before["assess_url"]) == ("overview", "1 of 5", None)
    kept = kiosk.take()
    assert (kept.status_code, kept.json["kept"], kept.json["sentence"]) == (201, 1, None)
    after = kiosk.client.get(path).json
    assert after is not None
    assert after["version"] != before["version"]
    assert after["now"]["kind"] == "close_up"
    assert after["count"] == 1
    assert kept.json["image_url"] in kiosk.drawn()
    assert after["assess_url"] == kept.json["page_url"]


def test_list_says_when_a_lens_is_clipped_on_and_when_it_comes_off(tmp_path: Path) -> None:
    kiosk, hints = ListKiosk(tmp_path, has_clip_on_lens=True), []
    while (now := kiosk.client.get(f"/api/encounters/{kiosk.encounter_id}/shots").json["now"]) is not None:  # type: ignore[index] # it is JSON
        hints.append((now["kind"], now["hint"]))
        assert kiosk.take().status_code == 201
    kiosk.station.measuring._sandbox.close()
    assert hints[1:4:2] == [
        ("close_up", "without the lens, with the card beside it"),
        ("dermoscopic_non_polarized", "clip the lens on, with gel on the skin"),
    ]


def test_frames_tell_of_the_lists_version(kiosk: ListKiosk) -> None:
    def version() -> str:
        kiosk.by_role[kiosk.station.selected_camera].take()
        return kiosk.client.get("/preview").headers["X-Shots"]

    before = version()
    assert version() == before
    kiosk.post(f"/api/encounters/{kiosk.encounter_id}/skip")
    assert version() != before


def test_shot_is_chosen_with_a_reason_of_the_list_only(kiosk: ListKiosk) -> None:
    kiosk.take()
    path = f"/api/encounters/{kiosk.encounter_id}/shots/overview"
    assert kiosk.post(path, {"reason": "because"}).status_code == 400
    chosen = kiosk.post(path, {"reason": "bad_light"}).json
    assert chosen["now"]["kind"] == "overview"
    assert "taking it again" in kiosk.drawn()
    assert "Keep the old" in kiosk.drawn()
    # The photo that is taken again may lie over the live picture.
    earlier = kiosk.client.get(chosen["now"]["earlier_url"])
    assert (earlier.status_code, earlier.headers["Cache-Control"]) == (200, "no-store")
    assert kiosk.post(f"/api/encounters/{kiosk.encounter_id}/shots/selfie").status_code == 404


def test_requests_of_an_old_page_are_refused_in_a_sentence(kiosk: ListKiosk) -> None:
    old = kiosk.encounter_id
    kiosk.station.open_encounter()
    assert kiosk.client.get(f"/api/encounters/{old}/shots").status_code == 409
    assert kiosk.post(f"/api/encounters/{old}/skip").status_code == 409
    assert kiosk.post(f"/api/encounters/{old}/shots/overview").status_code == 409


def test_light_and_list_of_a_box_without_them_are_not_there(kiosk: ListKiosk, tmp_path: Path) -> None:
    for answer in (kiosk.client.get("/api/light"), kiosk.post("/api/light", {"light": None})):
        assert (answer.status_code, answer.json) == (404, {"error": "This box has no light to switch."})
    plain = Kiosk(EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock"))))
    encounter_id = plain.station.open_encounter().encounter_id
    assert plain.client.get(f"/api/encounters/{encounter_id}/shots").status_code == 404
    assert 'id="shots"' not in plain.client.get(f"/encounters/{encounter_id}").text


def test_measures_that_are_not_there_are_one_sentence(kiosk: ListKiosk) -> None:
    capture_id = kiosk.take().json["capture_id"]
    place = f"/encounters/{kiosk.encounter_id}/captures/{capture_id}"
    assert "card was not seen" in kiosk.client.get(f"{place}/card").text
    assert "no earlier photo" in kiosk.client.get(f"{place}/change").text
    assert kiosk.client.get(f"{place}/balanced").status_code == 400, "the obedient camera's bytes are no picture"
    foreign = f"/encounters/{'0' * 32}/captures/{capture_id}"
    for screen in ("card", "balanced", "change", "compared"):
        assert kiosk.client.get(f"{foreign}/{screen}").status_code == 404
