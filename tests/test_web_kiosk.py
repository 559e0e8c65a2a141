"""The kiosk's face over HTTP: headers on every route, no button for strangers, and the station's own sentences."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from kiosk_station import picture, replay_camera
from scripted_engine import RunningEngine, ScriptedModel
from werkzeug.routing import Rule

from appliance.camera.replay import ReplayCamera
from appliance.service.station import Station
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CONTENT_SECURITY_POLICY, CSRF_HEADER, SAFE_METHODS

ID = "0" * 32


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def camera(tmp_path: Path) -> ReplayCamera:
    return replay_camera(tmp_path / "pictures")


@pytest.fixture
def station(model: ScriptedModel, camera: ReplayCamera, tmp_path: Path) -> Iterator[Station]:
    with RunningEngine(model, socket=tmp_path / "engine.sock") as engine, Station(camera, engine.client) as station:
        assert station.watch.wait_ready(10)
        yield station


@pytest.fixture
def app(station: Station) -> Flask:
    return create_kiosk_app(station)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def token(client: FlaskClient) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', client.get("/").text)
    assert found is not None
    return found[1]


def path_of(rule: Rule) -> str:
    return re.sub(r"<path:[^>]+>", "kiosk/base.css", re.sub(r"<(?!path:)[^>]+>", ID, rule.rule))


def unsafe_rules(app: Flask) -> list[tuple[str, str]]:
    rules = [(path_of(rule), set(rule.methods or ())) for rule in app.url_map.iter_rules()]
    return [(path, method) for path, methods in rules for method in sorted(methods - SAFE_METHODS)]


def kept(client: FlaskClient, token: str) -> dict[str, str]:
    opened = client.post("/encounters", data={"csrf_token": token})
    answer = client.post(f"/api{opened.location}/captures", headers={CSRF_HEADER: token})
    assert answer.status_code == 201, answer.text
    links: dict[str, str] = answer.get_json()
    return links


def events_of(text: str) -> list[tuple[int, str, dict[str, object]]]:
    found = re.findall(r"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", text)
    return [(int(number), name, json.loads(value)) for number, name, value in found]


def test_every_route_has_the_strict_headers(app: Flask, client: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            headers = client.open(path_of(rule), method=method, buffered=True).headers
            where = f"{method} {rule.rule}"
            assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, where
            assert headers["X-Content-Type-Options"] == "nosniff", where
            assert headers["Referrer-Policy"] == "no-referrer", where
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin", where
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin", where
            assert "camera=()" in headers["Permissions-Policy"], where
            if rule.endpoint != "static":
                assert headers["Cache-Control"] == "no-store", where


def test_policy_allows_nothing_from_elsewhere_and_nothing_inline() -> None:
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY


STRANGERS = {
    "no token": {},
    "wrong token": {CSRF_HEADER: "guess"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a site beside": {"Sec-Fetch-Site": "same-site"},
    "foreign origin": {"Origin": "http://clinic.example"},
    "no origin": {"Origin": "null"},
    "other port": {"Origin": "http://localhost:1"},
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_stranger_presses_a_button(
    app: Flask, client: FlaskClient, station: Station, token: str, stranger: str
) -> None:
    headers = {CSRF_HEADER: token} if "token" not in stranger else {}
    for path, method in unsafe_rules(app):
        answer = client.open(path, method=method, headers={**headers, **STRANGERS[stranger]})
        assert answer.status_code == 403, f"{method} {path}"
    assert station.captures.current is None


def test_own_page_presses_buttons(client: FlaskClient, station: Station, token: str) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert client.post("/encounters", data={"csrf_token": token}, headers=headers).status_code == 303
    assert station.captures.current is not None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "a:b"]
)
def test_foreign_host_is_misdirected(app: Flask, client: FlaskClient, host: str) -> None:
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()):
            answer = client.get(path_of(rule), buffered=True, headers={"Host": host, "X-Forwarded-Host": "localhost"})
            assert answer.status_code in {400, 421}, rule.rule
            assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"])
def test_own_names_are_served(client: FlaskClient, host: str) -> None:
    assert client.get("/api/state", headers={"Host": host}).status_code == 200


def test_photo_is_served_as_the_cameras_own_bytes(client: FlaskClient, token: str) -> None:
    links = kept(client, token)
    image = client.get(links["image_url"])
    assert image.data == picture("tan")
    assert image.mimetype == "image/jpeg"
    assert client.get(links["page_url"]).status_code == 200


def test_closed_visit_shows_neither_photo_nor_answer(client: FlaskClient, token: str, station: Station) -> None:
    links = kept(client, token)
    job_id = client.post(f"/api/captures/{links['capture_id']}/assessment", headers={CSRF_HEADER: token}).json["job_id"]  # type: ignore[index] # it is JSON
    current = station.captures.current
    assert current is not None
    client.post(f"/encounters/{current.encounter_id}/close", data={"csrf_token": token})
    for path in (links["image_url"], links["page_url"], f"/api/jobs/{job_id}/events"):
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(("fault", "status"), [("unplugged", 503), ("frozen", 409)])
def test_camera_fault_keeps_nothing_and_says_why(
    client: FlaskClient, token: str, camera: ReplayCamera, station: Station, fault: str, status: int
) -> None:
    opened = client.post("/encounters", data={"csrf_token": token})
    camera.fault = fault  # type: ignore[assignment] # one of the two
    time.sleep(0.6)  # the age of a frame on the real clock is what is tested
    answer = client.post(f"/api{opened.location}/captures", headers={CSRF_HEADER: token})
    assert answer.status_code == status
    assert answer.get_json()["error"].startswith(("The camera", "This picture"))
    assert station.captures.images(opened.location.rpartition("/")[2]) == ()


def test_preview_gives_the_next_frame_and_its_number(client: FlaskClient) -> None:
    first = client.get("/preview")
    number = int(first.headers["X-Frame-Sequence"])
    second = client.get(f"/preview?after={number}")
    assert int(second.headers["X-Frame-Sequence"]) > number
    assert second.data == picture("tan")


def test_event_stream_resumes_after_the_last_event_seen(client: FlaskClient, token: str) -> None:
    links = kept(client, token)
    job = client.post(f"/api/captures/{links['capture_id']}/assessment", headers={CSRF_HEADER: token}).get_json()
    events = events_of(client.get(f"/api/jobs/{job['job_id']}/events").text)
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    assert events[-1][1] == "end"
    assert events[-1][2]["state"] == "done"
    middle = events[len(events) // 2][0]
    rest = events_of(client.get(f"/api/jobs/{job['job_id']}/events", headers={"Last-Event-ID": str(middle)}).text)
    assert rest == [event for event in events if event[0] > middle]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"question": 5}', b'{"question": "\xff"}', b'{"question": ""}', b'{"question": "?", "x": 1}']
)
def test_broken_question_is_refused_in_one_sentence(client: FlaskClient, token: str, body: bytes) -> None:
    links = kept(client, token)
    answer = client.post(f"/api/captures/{links['capture_id']}/questions", data=body, headers={CSRF_HEADER: token})
    assert answer.status_code == 400
    assert answer.get_json()["error"].endswith(".")


def test_long_question_and_large_body_are_refused(client: FlaskClient, token: str) -> None:
    links = kept(client, token)
    path = f"/api/captures/{links['capture_id']}/questions"
    long = client.post(path, json={"question": "a" * 201}, headers={CSRF_HEADER: token})
    large = client.post(path, json={"question": "a" * 100_000}, headers={CSRF_HEADER: token})
    assert (long.status_code, large.status_code) == (400, 413)


def test_unknown_page_speaks_the_boxs_language(client: FlaskClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page on this box." in answer.text
    assert "URL" not in answer.text


def test_pages_hold_no_address_of_elsewhere(client: FlaskClient, token: str) -> None:
    links = kept(client, token)
    paths = ("/", links["page_url"], links["page_url"].rpartition("/captures")[0], "/nowhere")
    for path in paths:
        page = client.get(path).text
        assert not re.findall(r"""(?:src|href|action)=["']?(?:https?:)?//""", page), path
        assert "<style" not in page
        assert not re.search(r"<script(?![^>]*src=)", page)
        assert not re.search(r"\son\w+=|\sstyle=", page)
