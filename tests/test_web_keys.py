"""Key fobs and the box PIN over HTTP: who may, when the PIN is asked for anew, and no key in any answer or log."""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from kiosk_door import Door, Kiosk, token_of
from records_boxes import LEAD_PIN
from software_tpm import needs_tpm, software_tpm
from sticks import Sticks, stick_folder
from werkzeug.test import TestResponse

from appliance.config import RecordsConfig
from appliance.host.sticks import mounted_sticks
from appliance.records.fob_file import FOB_NAME, read_fob
from appliance.records.sessions import FRESH_S
from appliance.service.key_fobs import PUT_TO_USE, TAKE_OUT
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CSRF_HEADER

BOX_PIN = "907153"


class Box:
    """A kiosk with sticks; remembers everything that it answered."""

    def __init__(self, door: Door, sticks: Sticks, chip: str) -> None:
        self.door = door
        self.sticks = sticks
        self.answers: list[TestResponse] = []
        config = RecordsConfig(stick_folders=(str(sticks.folder),), chip=chip)
        client = create_kiosk_app(door.kiosk.station, clinic=door.kiosk.clinic, records=config).test_client()
        self.kiosk: Kiosk = replace(door.kiosk, client=client, token=token_of(client))

    def lead_signs_in(self) -> None:
        assert self.kiosk.sign_in(self.door.lead_id, LEAD_PIN).status_code == 200

    def nurse_signs_in(self) -> None:
        self.door.kiosk = self.kiosk
        assert self.door.nurse_signs_in().status_code == 200

    def get(self, path: str) -> TestResponse:
        self.answers.append(self.kiosk.get(path))
        return self.answers[-1]

    def post(self, url: str, **body: object) -> TestResponse:
        self.answers.append(self.kiosk.client.post(url, json=body, headers={CSRF_HEADER: self.kiosk.token}))
        return self.answers[-1]

    def later(self, seconds: float = 2.0) -> None:
        self.door.box.clock.passed_s += seconds

    def make(self, stick: Path) -> TestResponse:
        sheet = self.door.box.made.sheets[0]
        return self.post("/api/secrets/fobs", path=str(stick), name="Asha's fob", phrase=sheet)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Box]:
    with ExitStack() as stack:
        folder = stack.enter_context(stick_folder())
        sticks = Sticks(folder, tmp_path / "mountinfo")
        monkeypatch.setattr(
            "appliance.service.key_fobs.mounted_sticks", lambda folders, _: mounted_sticks(folders, sticks.mounts)
        )
        chip = f"device:{tmp_path / 'none'}"
        if getattr(request, "param", None) == "chip":
            chip = stack.enter_context(software_tpm(tmp_path / "chip"))._tcti
        found = Box(Door(tmp_path), sticks, chip)
        yield found
        found.door.box.store.close()


def test_nurse_opens_by_a_fob_and_her_pin_and_is_told_to_take_it_out(box: Box) -> None:
    stick = box.sticks.put_in("SMALL")
    box.lead_signs_in()
    assert box.make(stick).get_json() == {"go": "/secrets/fobs"}
    assert "Asha&#39;s fob" in box.get("/secrets/fobs").text
    box.door.box.store.lock()
    box.nurse_signs_in()
    box.later(FRESH_S + 1)
    assert box.get("/api/fob").get_json() == {"state": "ready", "words": "Asha's fob", "say": PUT_TO_USE}
    assert 'id="use-fob"' in box.get("/unlock").text
    stale = box.post("/api/unlock/fob")
    assert (stale.status_code, stale.get_json()["pin"]) == (403, True)
    assert not box.door.box.store.is_unlocked
    assert box.post("/api/pin", pin="730164").status_code == 204
    assert box.post("/api/unlock/fob").get_json() == {"go": "/"}
    assert TAKE_OUT in box.get("/").text
    assert box.get("/api/fob").get_json()["say"] == TAKE_OUT
    box.sticks.pull_out(stick)
    box.later()
    assert TAKE_OUT not in box.get("/").text


def test_without_a_pin_a_fob_opens_nothing(box: Box) -> None:
    box.lead_signs_in()
    box.make(box.sticks.put_in("SMALL"))
    box.door.box.store.lock()
    box.kiosk.form("/sign-out")
    assert box.post("/api/unlock/fob").status_code == 401
    box.kiosk.form("/emergency")
    assert box.post("/api/unlock/fob").status_code == 403
    assert box.get("/api/fob").status_code == 403
    assert not box.door.box.store.is_unlocked


def test_lead_shuts_a_fob_out_with_her_pin_typed_just_now(box: Box) -> None:
    stick = box.sticks.put_in("SMALL")
    box.lead_signs_in()
    box.make(stick)
    found = re.search(r"/secrets/fobs/([0-9a-f]{32})", box.get("/secrets/fobs").text)
    assert found is not None
    assert "Asha&#39;s fob" in box.get(found[0]).text
    box.later(FRESH_S + 1)
    for path in (f"/api{found[0]}/revoke", "/api/secrets/pin/off"):
        assert box.post(path).get_json()["pin"] is True
    assert box.make(stick).get_json()["pin"] is True
    box.post("/api/pin", pin=LEAD_PIN)
    assert box.post(f"/api{found[0]}/revoke").get_json() == {"go": "/secrets/fobs"}
    assert box.get(found[0]).status_code == 404
    assert box.post(f"/api{found[0]}/revoke").status_code == 404
    box.door.box.store.lock()
    box.later()
    assert box.get("/api/fob").get_json()["state"] == "refused"
    assert box.post("/api/unlock/fob").status_code == 403


@pytest.mark.parametrize("options", ["ro", "rw"])
def test_each_refusal_is_one_sentence(box: Box, options: str) -> None:
    stick = box.sticks.put_in("SMALL", options)
    box.lead_signs_in()
    (listed,) = box.get("/api/secrets/fobs/sticks").get_json()["sticks"]
    assert listed["is_writable"] is (options == "rw")
    refused = [
        box.post("/api/secrets/fobs", path="/gone", name="fob", phrase=box.door.box.made.sheets[0]),
        box.post("/api/secrets/fobs", path=str(stick), name=" ", phrase=box.door.box.made.sheets[0]),
        box.post("/api/secrets/fobs", path=str(stick), name="fob", phrase="babab"),
        box.make(stick),
        box.post("/api/unlock/pin", pin=BOX_PIN),
        box.post("/api/secrets/pin", pin=BOX_PIN, phrase=box.door.box.made.sheets[0]),
        box.post("/api/secrets/pin/off"),
    ]
    for answer in refused:
        assert answer.status_code in {403, 404, 423, 429}, answer.text
        assert re.fullmatch(r"[A-Z][^<>{}]+\.", answer.get_json()["error"]), answer.text
    page = box.get("/secrets/pin").text
    assert "The box PIN is off." in page
    assert 'data-act="box-pin"' not in page
    assert list(stick.iterdir()) == []


def test_no_key_is_in_any_answer_page_or_log(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stick = box.sticks.put_in("SMALL")
    box.lead_signs_in()
    box.make(stick)
    fob = read_fob(stick)
    assert fob is not None
    box.door.box.store.lock()
    for path in ("/", "/unlock", "/api/fob", "/secrets", "/secrets/fobs", f"/secrets/fobs/{fob.fob_id}"):
        assert box.get(path).status_code == 200
    box.post("/api/unlock/fob")
    (stick / FOB_NAME).write_bytes((stick / FOB_NAME).read_bytes()[:-1])
    box.door.box.store.lock()
    box.post("/api/unlock/fob")
    said = b"".join(answer.data for answer in box.answers) + caplog.text.encode()
    forms = (fob.key, fob.key.hex().encode(), base64.b64encode(fob.key), repr(fob.key)[2:-1].encode())
    assert [form for form in forms if form in said] == []
    # The control: the search finds what was said.
    assert fob.fob_id.encode() in said


def test_without_a_sheet_before_the_camera_nothing_is_opened(box: Box) -> None:
    assert box.post("/api/unlock/sheet").status_code == 401
    box.lead_signs_in()
    box.door.box.store.lock()
    assert "is not kept" in box.get("/unlock/sheet").text
    assert box.post("/api/unlock/sheet").get_json() == {"go": None}
    box.door.kiosk.camera.take()
    broken = box.post("/api/unlock/sheet")
    assert broken.status_code == 400
    assert broken.get_json()["error"].startswith("The image")
    box.door.kiosk.camera.close()
    assert box.post("/api/unlock/sheet").status_code == 503
    assert not box.door.box.store.is_unlocked


@pytest.mark.parametrize("box", ["chip"], indirect=True)
class TestBoxPin:
    pytestmark = needs_tpm

    def test_lead_turns_it_on_a_nurse_opens_with_it_and_it_is_turned_off(self, box: Box) -> None:
        box.lead_signs_in()
        assert 'data-act="box-pin"' in box.get("/secrets/pin").text
        asked = {"pin": BOX_PIN, "phrase": box.door.box.made.sheets[0]}
        assert box.post("/api/secrets/pin", **asked).get_json() == {"go": "/secrets/pin"}
        assert "on since" in box.get("/secrets/pin").text
        box.door.box.store.lock()
        box.nurse_signs_in()
        assert 'id="type-pin"' in box.get("/unlock").text
        wrong = box.post("/api/unlock/pin", pin="482916")
        assert (wrong.status_code, wrong.get_json()["error"]) == (403, "This box PIN is wrong.")
        box.later()
        assert box.post("/api/unlock/pin", pin=BOX_PIN).get_json() == {"go": "/"}
        assert box.door.box.store.is_unlocked
        box.lead_signs_in()
        assert box.post("/api/secrets/pin/off").get_json() == {"go": "/secrets/pin"}
        assert "The box PIN is off." in box.get("/secrets/pin").text
        assert BOX_PIN not in "".join(answer.text for answer in box.answers)
