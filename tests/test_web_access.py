"""Who may use which route: both faces' maps are walked for everybody; a new route is denied until it says who may."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from kiosk_station import ObedientCamera
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, new_box
from route_walk import is_denied, routes, stand_in, token_of, with_stand_ins

from appliance.config import Config
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records import devices
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.sessions import IDLE_S
from appliance.records.users import PERMISSIONS, Role
from appliance.service.clinic import EMERGENCY_PERMISSIONS, Clinic
from appliance.service.lan_sessions import LanSessions
from appliance.service.pairing import Pairing
from appliance.service.station import Station
from appliance.service.visits import Visits
from web.kiosk.access import COOKIE
from web.kiosk.app import create_kiosk_app
from web.kiosk.guard import Access
from web.lan.access import DEVICE_COOKIE, SESSION_COOKIE, LanApp
from web.lan.app import LanParts, create_lan_app
from web.lan.face import LanFace

PINS: dict[Role, str] = {"lead": LEAD_PIN, "nurse": "730164", "clinician": "518273", "technician": "906241"}
EVERYBODY = ("nobody", "emergency", *PINS)


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
    visits = Visits(clinic.records, clinic.operator)
    station = Station(ObedientCamera(ManualClock()), engine, clock=clinic.clock, visits=visits)
    app = create_kiosk_app(station, clinic=clinic, lan=LanFace(Config(), station, clinic))
    return with_stand_ins(app)


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


LAN_STATES = ("stranger", "guessed", "revoked", "paired", "idled", "on another phone", *PINS)


@pytest.fixture
def lan_app(clinic: Clinic, tmp_path: Path) -> LanApp:
    engine = EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))
    parts = LanParts(
        station=Station(ObedientCamera(ManualClock()), engine, clock=clinic.clock),
        clinic=clinic,
        sessions=LanSessions(clinic, IDLE_S),
        pairing=Pairing(clinic.clock),
    )
    app = with_stand_ins(create_lan_app(parts, lambda: frozenset({"localhost"})))
    assert isinstance(app, LanApp)
    return app


def phone_of(app: LanApp, clinic: Clinic, who: str) -> tuple[FlaskClient, str]:
    """A phone in some state, and the token that its own pages carry."""
    assert clinic.people is not None
    assert clinic.store is not None
    assert app.sessions is not None
    lead = next(user for user in clinic.people.users() if user.role == "lead")
    cookies: dict[str, str] = {}
    if who == "guessed":
        cookies[DEVICE_COOKIE] = "0" * 43
    elif who != "stranger":
        device, cookies[DEVICE_COOKIE] = devices.pair(clinic.store, who, lead)
        role = who if who in PINS else "clinician"
        user = next(user for user in clinic.people.users() if user.role == role)
        if who not in {"paired", "technician"}:
            cookies[SESSION_COOKIE] = app.sessions.sign_in(device, user.user_id, dict(PINS.items())[user.role])
        if who == "revoked":
            devices.revoke(clinic.store, device.device_id, lead)
        if who == "on another phone":
            _, cookies[DEVICE_COOKIE] = devices.pair(clinic.store, who, lead)
        if who == "idled":
            assert isinstance(clinic.clock, ManualClock)
            clinic.clock.passed_s += IDLE_S
    client = app.test_client()
    for name, value in cookies.items():
        client.set_cookie(name, value)
    with app.test_request_context(headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}):
        return client, app.csrf_token()


def is_meant_for_phone(access: Access | None, who: str) -> bool:
    match access:
        case None | "first-run" | "at-the-screen":
            return False
        case "nobody-signed-in":
            return True
        case "paired":
            return who not in {"stranger", "guessed", "revoked"}
        case "signed-in":
            return who in {"lead", "nurse", "clinician"}
        case _:
            # A technician cannot sign in on a phone at all.
            return who != "technician" and any(
                role == who and access in allowed for role, allowed in PERMISSIONS.items()
            )


@pytest.mark.parametrize("who", LAN_STATES)
def test_every_page_of_the_network_is_open_to_whom_it_says(lan_app: LanApp, clinic: Clinic, who: str) -> None:
    lan_app.add_url_rule("/forgotten", view_func=stand_in(None), endpoint="forgotten")
    lan_app.add_url_rule("/people", view_func=stand_in("people"), endpoint="people")
    lan_app.add_url_rule("/screen", view_func=stand_in("at-the-screen"), endpoint="screen")
    client, token = phone_of(lan_app, clinic, who)
    walked = routes(lan_app)
    wrong = [
        (path, method, access)
        for path, method, access in walked
        if is_denied(client, path, method, token) == is_meant_for_phone(access, who)
    ]
    assert wrong == []
    assert len(walked) > 10


def test_every_page_of_the_network_says_who_may(lan_app: LanApp) -> None:
    assert [path for path, _, access in routes(lan_app) if access is None] == []


def test_the_walk_of_the_network_finds_a_page_that_is_open_to_too_many(lan_app: LanApp, clinic: Clinic) -> None:
    """Negative control: with the guard taken away, the walk must complain."""
    lan_app.dispatch_request = lambda: Flask.dispatch_request(lan_app)  # type: ignore[method-assign]  # takes it away
    client, token = phone_of(lan_app, clinic, "stranger")
    opened = [path for path, method, access in routes(lan_app) if not is_denied(client, path, method, token)]
    assert "/visits/00000000000000000000000000000000" in opened


def test_a_strangers_token_fits_no_paired_phone(lan_app: LanApp, clinic: Clinic) -> None:
    _, strangers = phone_of(lan_app, clinic, "stranger")
    client, token = phone_of(lan_app, clinic, "clinician")
    assert is_denied(client, "/sign-out", "POST", strangers)
    assert not is_denied(client, "/sign-out", "POST", token)
