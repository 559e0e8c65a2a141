"""The network's pages over real TLS: what strangers, paired telephones and people on them get, and who is cut off."""

import contextlib
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kiosk_station import ObedientCamera, until
from lan_box import PINS, LanBox, Phone, lan_box
from manual_clock import ManualClock
from records_boxes import assess, new_box, visit

from appliance.config import Config, LanConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records import audit, devices
from appliance.records.opening import Opening
from appliance.records.people import GUESSES_MAX
from appliance.records.users import Role
from appliance.service.clinic import Clinic
from appliance.service.pairing import OFFER_S
from appliance.service.station import Station
from web.kiosk.guard import CONTENT_SECURITY_POLICY
from web.lan.access import DEVICE_COOKIE, SESSION_COOKIE
from web.lan.face import LanFace


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanBox]:
    with lan_box(tmp_path_factory.mktemp("lan")) as lan:
        yield lan


@pytest.fixture(autouse=True)
def rested(lan: LanBox) -> None:
    """Wrong PINs of one test make no other wait."""
    lan.box.clock.passed_s += 400


def entries(lan: LanBox, action: str) -> list[audit.Entry]:
    with lan.box.store.saver.lock:
        return [entry for entry in audit.entries(lan.box.store.saver.connection) if entry.action == action]


def test_a_stranger_sees_how_the_box_is_and_nothing_of_anybody(lan: LanBox) -> None:
    seen = visit(lan.box, "stranger")
    page = lan.phone().get("/")
    assert page.status == 200
    assert "not paired" in page.text
    assert not any(mark in page.text for mark in ("P-stranger", "N-stranger", seen.encounter_id, "Sister Asha"))


@pytest.mark.parametrize("path", ["/sign-in", "/visits/0", "/visits/0/photos/0", "/encounters", "/captures/0/image"])
def test_a_stranger_gets_nothing_else(lan: LanBox, path: str) -> None:
    assert lan.phone().get(path).status in {403, 404}


def test_the_kiosks_screens_are_not_on_the_network(lan: LanBox) -> None:
    phone = lan.signed_in("lead")
    for path in (
        "/encounters",
        "/preview",
        "/api/state",
        "/devices",
        "/people",
        "/first-run",
        "/static/kiosk/base.css",
    ):
        assert phone.get(path).status == 404, path


def test_a_clinician_reads_a_visit_with_its_photo(lan: LanBox) -> None:
    seen = visit(lan.box, "read")
    assess(lan.box, seen.encounter_id, "irregular border")
    phone = lan.signed_in()
    assert f"/visits/{seen.encounter_id}" in phone.get("/").text
    page = phone.get(f"/visits/{seen.encounter_id}")
    assert page.status == 200
    assert "N-read" in page.text
    assert "irregular border" in page.text
    photo = phone.get(f"/visits/{seen.encounter_id}/photos/{seen.capture_id}")
    assert (photo.content, photo.headers["Content-Type"]) == (seen.content, "image/jpeg")
    assert photo.headers["Cache-Control"] == "no-store"


def test_what_was_read_is_in_the_audit_with_who_and_where(lan: LanBox) -> None:
    seen = visit(lan.box, "noted")
    phone = lan.signed_in()
    before = len(entries(lan, "read"))
    phone.get(f"/visits/{seen.encounter_id}/photos/{seen.capture_id}")
    phone.get(f"/visits/{seen.encounter_id}/photos/{seen.capture_id}")
    noted = entries(lan, "read")[before:]
    assert len(noted) == 1
    assert noted[0].operator_id == lan.user("clinician").user_id
    device = devices.device_of(lan.box.store, phone.cookies[DEVICE_COOKIE])
    assert (seen.encounter_id in noted[0].objects, noted[0].detail) == (True, f"device {device.device_id}")
    assert lan.box.store.verify_audit().problems == ()


def test_another_visits_photo_is_not_under_this_visit(lan: LanBox) -> None:
    one, other = visit(lan.box, "one"), visit(lan.box, "other")
    assert lan.signed_in().get(f"/visits/{one.encounter_id}/photos/{other.capture_id}").status == 404


def test_a_technician_has_no_business_here(lan: LanBox) -> None:
    phone = lan.paired()
    assert "Technician" not in phone.get("/sign-in").text
    before = len(entries(lan, "pin-tried"))
    answer = phone.post("/sign-in", user_id=lan.user("technician").user_id, pin=PINS["technician"])
    assert (answer.status, SESSION_COOKIE in phone.cookies) == (403, False)
    assert len(entries(lan, "pin-tried")) == before


def test_cookies_are_for_this_box_over_tls_and_for_no_script(lan: LanBox) -> None:
    phone = lan.paired()
    answer = phone.post("/sign-in", user_id=lan.user("nurse").user_id, pin=PINS["nurse"])
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


def test_signing_in_makes_a_new_secret_and_ends_the_old(lan: LanBox) -> None:
    phone = lan.signed_in()
    old = phone.cookies[SESSION_COOKIE]
    phone.post("/sign-in", user_id=lan.user("nurse").user_id, pin=PINS["nurse"])
    assert phone.cookies[SESSION_COOKIE] != old
    phone.cookies[SESSION_COOKIE] = old
    assert phone.get("/").location == "/sign-in"


def test_a_session_is_worth_nothing_on_another_device(lan: LanBox) -> None:
    first, second = lan.signed_in(), lan.paired("Other")
    second.cookies[SESSION_COOKIE] = first.cookies[SESSION_COOKIE]
    assert second.get("/").location == "/sign-in"


def test_three_idle_minutes_end_a_session_and_signing_out_does_at_once(lan: LanBox) -> None:
    phone = lan.signed_in()
    lan.box.clock.passed_s += 179
    assert phone.get("/").status == 200
    lan.box.clock.passed_s += 180
    assert phone.get("/").location == "/sign-in"
    again = lan.signed_in()
    kept = dict(again.cookies)
    assert again.post("/sign-out", token_from="/").location == "/sign-in"
    again.cookies = kept
    assert again.get("/").location == "/sign-in"


def test_who_was_removed_is_out(lan: LanBox) -> None:
    assert lan.clinic.people is not None
    gone = lan.clinic.people.add("Gone", "clinician", "640281", lan.box.lead)
    phone = lan.paired()
    assert phone.post("/sign-in", user_id=gone.user_id, pin="640281").status == 303
    lan.clinic.people.remove(gone.user_id, lan.box.lead)
    assert phone.get("/").location == "/sign-in"


def test_wrong_pins_count_together_with_the_kiosks(lan: LanBox) -> None:
    assert lan.clinic.people is not None
    tried = lan.clinic.people.add("Tried", "clinician", "640282", lan.box.lead)
    phone, compared = lan.paired(), 0
    for number in range(GUESSES_MAX + 5):
        lan.box.clock.passed_s += 301
        if number % 2:
            answer = phone.post("/sign-in", user_id=tried.user_id, pin="111112")
            compared += "PIN is wrong" in answer.text
        else:
            with pytest.raises(Exception, match="PIN") as refused:
                lan.clinic.people.sign_in(tried.user_id, "111112")
            compared += "PIN is wrong" in str(refused.value)
    assert compared == GUESSES_MAX
    answer = phone.post("/sign-in", user_id=tried.user_id, pin="640282")
    assert (answer.status, "ask the lead" in answer.text) == (429, True)


def test_while_locked_a_person_signs_in_and_reads_nothing(tmp_path: Path) -> None:
    with lan_box(tmp_path, is_unlocked=False) as lan:
        seen = visit(lan.box, "locked")
        lan.box.store.lock()
        phone = lan.signed_in()
        assert "records are locked" in phone.get("/").text
        assert phone.get(f"/visits/{seen.encounter_id}").status == 423
        assert phone.get(f"/visits/{seen.encounter_id}/photos/{seen.capture_id}").status == 423


def test_a_refused_telephone_is_told(lan: LanBox) -> None:
    phone = lan.phone()
    assert lan.face.pairing is not None
    phone.post("/pair", token=lan.face.pairing.make_offer(lan.box.lead).token, name="Phone")
    asking = lan.face.pairing.asking
    assert asking is not None
    assert asking.digits in phone.get("/pair/waiting").text
    lan.face.pairing.refuse(asking.asking_id)
    answer = phone.get("/pair/waiting")
    assert (answer.status, "did not take this phone" in answer.text) == (403, True)
    assert phone.cookies == {}


def test_a_token_is_worth_nothing_the_second_time_or_too_late(lan: LanBox) -> None:
    assert lan.face.pairing is not None
    token = lan.face.pairing.make_offer(lan.box.lead).token
    assert lan.phone().post("/pair", token=token, name="first").status == 303
    assert lan.phone().post("/pair", token=token, name="second").status == 404
    token = lan.face.pairing.make_offer(lan.box.lead).token
    lan.box.clock.passed_s += OFFER_S
    assert lan.phone().post("/pair", token=token, name="late").status == 404


def test_a_link_that_is_only_looked_at_uses_nothing_up(lan: LanBox) -> None:
    assert lan.face.pairing is not None
    offer = lan.face.pairing.make_offer(lan.box.lead)
    assert lan.phone().get("/pair").status == 200
    assert lan.face.pairing.offer == offer


def test_a_revoked_device_is_cut_off_in_the_middle(lan: LanBox) -> None:
    phone = lan.signed_in()
    device = devices.device_of(lan.box.store, phone.cookies[DEVICE_COOKIE])
    with (
        socket.create_connection(("127.0.0.1", phone.port), timeout=20) as plain,
        phone.tls.wrap_socket(plain, server_hostname="dermstation.local") as secure,
    ):
        cookies = "; ".join(f"{name}={value}" for name, value in phone.cookies.items())
        secure.sendall(f"GET / HTTP/1.1\r\nHost: dermstation.local\r\nCookie: {cookies}\r\n\r\n".encode())
        assert secure.recv(15) == b"HTTP/1.1 200 OK"
        lan.face.revoke(device.device_id, lan.box.lead)
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # however it ends, but before the time is over
            while secure.recv(65536):
                pass
    answer = phone.get("/visits/0")
    assert (answer.status, "not any more" in answer.text) == (403, True)
    assert "not paired" in phone.get("/").text


def test_devices_are_seen(lan: LanBox) -> None:
    phone = lan.paired("Seen")
    phone.get("/")
    device = devices.device_of(lan.box.store, phone.cookies[DEVICE_COOKIE])
    assert lan.face.sessions is not None
    assert lan.face.sessions.last_seen()[device.device_id] == lan.clinic.clock.now_at()
    assert device.device_id in devices.last_seen(lan.box.store)
    before = len(entries(lan, "device-seen"))
    phone.get("/")
    assert len(entries(lan, "device-seen")) == before


def test_every_answer_has_the_strict_headers(lan: LanBox) -> None:
    phone = lan.signed_in()
    for path in ("/", "/pair", "/sign-in", "/nothing", "/static/lan.css"):
        headers = phone.get(path).headers
        assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert not any(name.lower().startswith("x-dermstation") for name in headers), path
        if not path.startswith("/static"):
            assert headers["Cache-Control"] == "no-store", path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "dermstation.local.evil.example"}, 421),
        ({"Host": "evil.example", "X-Forwarded-Host": "dermstation.local"}, 421),
        ({"Host": "evil.example", "Forwarded": "host=dermstation.local"}, 421),
        ({"Host": ""}, 421),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_names_and_sites_that_are_not_ours(lan: LanBox, headers: dict[str, str], status: int) -> None:
    assert lan.signed_in().get("/", **headers).status == status


def test_no_header_makes_a_stranger_somebody(lan: LanBox) -> None:
    device_id = devices.device_of(lan.box.store, lan.paired().cookies[DEVICE_COOKIE]).device_id
    forged = {
        "X-Dermstation-Device": device_id,
        "X_Dermstation_Device": device_id,
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X-Remote-User": "lead",
        "X-Dermstation-Peer": "127.0.0.1",
    }
    phone = lan.phone()
    assert phone.get("/sign-in", **forged).status == 403
    assert "not paired" in phone.get("/", **forged).text


def csrf_headers() -> list[dict[str, str]]:
    sites: list[dict[str, str]] = [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
    origins: list[dict[str, str]] = [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://dermstation.local"},
        {"Origin": "https://dermstation.local:1"},
    ]
    hosts: list[dict[str, str]] = [{}, {"Host": "evil.example"}]
    return [{**site, **origin, **host} for site in sites for origin in origins for host in hosts]


@pytest.mark.parametrize("has_token", [True, False])
def test_another_sites_forms_change_nothing(lan: LanBox, *, has_token: bool) -> None:
    """Every mixture of foreign site, origin and host, also with a token that a stranger can load for himself."""
    phone, stranger = lan.signed_in(), lan.phone()
    page = stranger.get("/pair").text
    token = page.partition('name="csrf_token" value="')[2].partition('"')[0] if has_token else ""
    assert bool(token) is has_token
    for headers in csrf_headers():
        phone.headers = {}
        lan.box.clock.passed_s += 1
        answer = phone.ask(
            "POST",
            "/sign-out",
            {"Content-Type": "application/x-www-form-urlencoded", **headers},
            f"csrf_token={token}",
        )
        assert answer.status in {403, 421}, headers
    assert phone.get("/").status == 200


def test_parallel_telephones_share_one_token_once(lan: LanBox) -> None:
    assert lan.face.pairing is not None
    token, statuses = lan.face.pairing.make_offer(lan.box.lead).token, []

    def redeem(phone: Phone) -> None:
        statuses.append(phone.post("/pair", token=token, name="Phone").status)

    threads = [threading.Thread(target=redeem, args=(lan.phone(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [303, 404, 404]


@pytest.mark.parametrize("role", ["clinician", "nurse", "lead"])
def test_who_may_read_signs_in(lan: LanBox, role: Role) -> None:
    assert lan.signed_in(role).get("/").status == 200


def test_the_state_for_the_kiosks_screen(lan: LanBox) -> None:
    state = lan.face.state()
    assert (state.problem, state.notice) == ("", "")
    assert state.by_name == f"dermstation.local:{lan.face.port}"
    assert len(state.fingerprint.split(":")) == 32
    assert len(state.words.split("-")) == 6


def test_a_front_that_dies_is_started_again(lan: LanBox) -> None:
    front = lan.face.front
    assert front is not None
    first = front.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: front.pid not in {None, first})
    assert lan.phone().get("/").status == 200


def face_with(folder: Path, **lan: object) -> tuple[LanFace, Clinic]:
    box = new_box(folder / "records")
    clinic = Clinic(Opening(state="ready", found="", store=box.store), clock=box.clock)
    engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
    station = Station(ObedientCamera(ManualClock()), engine, clock=box.clock)
    settings = msgspec.convert({"enabled": True, "host": "127.0.0.1", "folder": str(folder / "lan"), **lan}, LanConfig)
    return LanFace(msgspec.structs.replace(Config(), lan=settings), station, clinic), clinic


def test_a_port_that_is_taken_is_one_sentence_and_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        face, clinic = face_with(tmp_path, port=taken.getsockname()[1])
        with clinic, face:
            until((tmp_path / "lan").exists)
            assert re.fullmatch(
                r"Phones cannot come in, for 127\.0\.0\.1:\d+ cannot be used: .*\.", face.state().problem
            )
            taken.close()
            face.look()
            assert face.front is not None
            # Until the front is there, the screen does not say that phones can come in.
            until(lambda: face.state().problem == "")


def test_a_folder_that_is_no_folder_is_one_sentence_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "lan").write_text("in the way")
    face, clinic = face_with(tmp_path, port=0)
    with clinic, face:
        until(lambda: "cannot be kept" in face.state().problem)
        (tmp_path / "lan").unlink()
        face.look()
        assert face.front is not None
        until(lambda: face.state().problem == "")


def test_without_records_the_network_sees_the_state_and_nothing_else(tmp_path: Path) -> None:
    engine = EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))
    station = Station(ObedientCamera(ManualClock()), engine, clock=ManualClock())
    settings = LanConfig(enabled=True, host="127.0.0.1", port=0, folder=str(tmp_path / "lan"))
    with LanFace(msgspec.structs.replace(Config(), lan=settings), station, None) as face:
        until(lambda: face.front is not None)
        made = face._certificates
        assert made is not None
        phone = Phone(port=face.port, tls=ssl.create_default_context(cadata=made.authority_der))
        assert "not paired" in phone.get("/").text
        assert {phone.get(path).status for path in ("/pair", "/sign-in", "/visits/1")} == {404}
