"""Who may use which route: the URL map is walked for everybody, so a new route is denied until it says who may."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from kiosk_station import ObedientCamera
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, new_box

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.users import PERMISSIONS, Role
from appliance.service.clinic import EMERGENCY_PERMISSIONS, Clinic
from appliance.service.station import Station
from web.kiosk.access import COOKIE, SIGN_IN
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import CSRF_HEADER, Access, access_of, allow

PINS: dict[Role, str] = {"lead": LEAD_PIN, "nurse": "730164", "clinician": "518273", "technician": "906241"}
EVERYBODY = ("nobody", "emergency", *PINS)
ID = "0" * 32
REACHED = 418
"""What every view answers here instead of doing its work."""


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    box = new_box(tmp_path / "records")
    people = People(box.store, clock=box.clock)
    for role, pin in PINS.items():
        if role != "lead":
            people.add(role.capitalize(), role, pin, box.lead)
    clinic = Clinic(Opening(state="ready", found="", store=box.store), clock=box.clock)
    yield clinic
    box.store.close()


@pytest.fixture
def app(clinic: Clinic, tmp_path: Path) -> Flask:
    engine = EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))
    app = create_kiosk_app(Station(ObedientCamera(ManualClock()), engine, clock=clinic.clock), clinic=clinic)
    for endpoint, view in app.view_functions.items():
        if endpoint != "static":
            app.view_functions[endpoint] = stand_in(access_of(view))
    return app


def stand_in(access: Access | None) -> Callable[..., tuple[str, int]]:
    def view(**_: str) -> tuple[str, int]:
        return "", REACHED

    return view if access is None else allow(access)(view)


def token_of(app: Flask) -> str:
    with app.test_request_context():
        found: dict[str, object] = {}
        app.update_template_context(found)
    return str(found["csrf_token"])


def client_of(app: Flask, clinic: Clinic, who: str) -> FlaskClient:
    client = app.test_client()
    if who == "emergency":
        client.set_cookie(COOKIE, clinic.begin_emergency())
    elif who != "nobody":
        assert clinic.people is not None
        user = next(user for user in clinic.people.users() if user.role == who)
        client.set_cookie(COOKIE, clinic.sign_in(user.user_id, next(pin for role, pin in PINS.items() if role == who)))
    return client


def is_meant_for(access: Access | None, who: str) -> bool:
    match access:
        case None | "first-run" | "paired":
            return False
        case "nobody-signed-in":
            return True
        case "at-the-screen":
            return who != "nobody"
        case "signed-in":
            return who in PINS
        case _ if who == "emergency":
            return access in EMERGENCY_PERMISSIONS
        case _:
            return any(role == who and access in allowed for role, allowed in PERMISSIONS.items())


def is_denied(client: FlaskClient, path: str, method: str, token: str) -> bool:
    answer = client.open(path, method=method, headers={CSRF_HEADER: token})
    if answer.status_code == REACHED:
        return False
    assert answer.status_code in {401, 403} or answer.location == SIGN_IN, (path, method, answer.status)
    return True


def routes(app: Flask) -> list[tuple[str, str, Access | None]]:
    """Every path and method of the map, with what its view says."""
    return [
        (re.sub(r"<[^>]+>", ID, rule.rule), method, access_of(app.view_functions[rule.endpoint]))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.endpoint != "static"
    ]


@pytest.mark.parametrize("who", EVERYBODY)
def test_every_route_is_open_to_whom_it_says_and_to_nobody_else(app: Flask, clinic: Clinic, who: str) -> None:
    client, token = client_of(app, clinic, who), token_of(app)
    walked = routes(app)
    wrong = [
        (path, method, access)
        for path, method, access in walked
        if is_denied(client, path, method, token) == is_meant_for(access, who)
    ]
    assert wrong == []
    assert len(walked) > 15


def test_every_route_says_who_may(app: Flask) -> None:
    assert [path for path, _, access in routes(app) if access is None] == []


def test_a_route_that_says_nothing_is_used_by_nobody(app: Flask, clinic: Clinic) -> None:
    app.add_url_rule("/forgotten", view_func=stand_in(None), endpoint="forgotten")
    for who in EVERYBODY:
        assert is_denied(client_of(app, clinic, who), "/forgotten", "GET", token_of(app)), who


def test_the_walk_finds_a_route_that_is_open_to_too_many(app: Flask, clinic: Clinic) -> None:
    """Negative control: with the guard taken away, the walk must complain."""
    app.dispatch_request = lambda: Flask.dispatch_request(app)  # type: ignore[method-assign]  # takes the guard away
    client, token = client_of(app, clinic, "nobody"), token_of(app)
    opened = [path for path, method, access in routes(app) if not is_denied(client, path, method, token)]
    assert "/encounters" in opened


@pytest.mark.parametrize("who", ["nurse", "lead"])
def test_another_browser_is_nobody(app: Flask, clinic: Clinic, who: str) -> None:
    mine, other = client_of(app, clinic, who), app.test_client()
    other.set_cookie(COOKIE, "guessed")
    assert not is_denied(mine, "/encounters", "POST", token_of(app))
    assert is_denied(other, "/encounters", "POST", token_of(app))


def test_a_session_that_idled_too_long_is_nobody(app: Flask, clinic: Clinic) -> None:
    client = client_of(app, clinic, "nurse")
    assert isinstance(clinic.clock, ManualClock)
    clinic.clock.passed_s += 179
    assert not is_denied(client, "/encounters", "POST", token_of(app))
    clinic.clock.passed_s += 179
    for _ in range(3):
        client.get("/api/state")
    clinic.clock.passed_s += 1
    assert is_denied(client, "/encounters", "POST", token_of(app))
