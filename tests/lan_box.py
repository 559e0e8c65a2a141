"""What the tests of the network share: a clinic with its people, its face on loopback, and telephones."""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from kiosk_station import ObedientCamera, until
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, Box, new_box

from appliance.config import Config, LanConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.users import Role, User
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from web.lan.access import DEVICE_COOKIE, SESSION_COOKIE
from web.lan.face import LanFace
from web.lan.limits import Limits

NAME = "dermstation.local"
PINS: dict[Role, str] = {"lead": LEAD_PIN, "nurse": "730164", "clinician": "518273", "technician": "906241"}

PATIENT = Limits(
    handshakes_each_per_s=1e4, handshakes_each_burst=1e4, requests_each_per_s=1e4, requests_each_burst=1e4,
    requests_per_s=1e4, requests_burst=1e4, accepts_per_s=1e4, accepts_burst=1e4, idle_s=60,
)  # fmt: skip
"""For tests of something else than the limits: they all come from one address."""


@dataclass(frozen=True, kw_only=True)
class LanBox:
    """A box whose face on the network runs."""

    box: Box
    clinic: Clinic
    station: Station
    face: LanFace

    def user(self, role: Role) -> User:
        assert self.clinic.people is not None
        return next(user for user in self.clinic.people.users() if user.role == role)

    def phone(self) -> "Phone":
        """A telephone with the box's authority installed."""
        made = self.face._certificates
        assert made is not None
        return Phone(port=self.face.port, tls=ssl.create_default_context(cadata=made.authority_der))

    def paired(self, name: str = "Phone") -> "Phone":
        """A telephone that was paired the whole way."""
        phone = self.phone()
        assert self.face.pairing is not None
        offer = self.face.pairing.make_offer(self.box.lead)
        assert phone.post("/pair", token=offer.token, name=name).status == 303
        asking = self.face.pairing.asking
        assert asking is not None
        self.face.pairing.approve(asking.asking_id, self.box.store, self.box.lead)
        assert phone.get("/pair/waiting").location == "/"
        assert DEVICE_COOKIE in phone.cookies
        return phone

    def signed_in(self, role: Role = "clinician") -> "Phone":
        """A paired telephone with somebody signed in on it."""
        phone = self.paired()
        answer = phone.post("/sign-in", user_id=self.user(role).user_id, pin=PINS[role])
        assert (answer.status, SESSION_COOKIE in phone.cookies) == (303, True), answer.text
        return phone


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def location(self) -> str:
        return str(self.headers.get("Location", ""))


@dataclass(kw_only=True)
class Phone:
    """A client over real TLS that keeps cookies and reads the token from forms, as a browser would."""

    port: int
    tls: ssl.SSLContext
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"Sec-Fetch-Site": "same-origin"})

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers)

    def post(self, path: str, *, token_from: str | None = None, **fields: str) -> Answer:
        """Send a form, with the token of a page where one can be had."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(token_from or path).text)
        body = urlencode({"csrf_token": found[1] if found else "", **fields})
        return self.ask("POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, body)

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> Answer:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            secure = self.tls.wrap_socket(connection, server_hostname=NAME)
            client = http.client.HTTPConnection(NAME, self.port, timeout=20)
            client.sock = secure
            sent = {**self.headers, **headers}
            if self.cookies:
                sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            client.request(method, path, body, sent)
            response = client.getresponse()
            content = response.read()
            for line in response.headers.get_all("Set-Cookie", ()):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
                    if not morsel.value or morsel["max-age"] == "0":
                        del self.cookies[name]
            client.close()
            return Answer(status=response.status, headers=response.headers, content=content)


@contextmanager
def lan_box(
    folder: Path, *, is_unlocked: bool = True, host: str = "127.0.0.1", limits: Limits = PATIENT
) -> Iterator[LanBox]:
    """Run a box that is set up, with a person a role, and its face on the network."""
    box = new_box(folder / "records")
    people = People(box.store, clock=box.clock)
    for role, pin in PINS.items():
        if role != "lead":
            people.add(role.capitalize(), role, pin, box.lead)
    box.store.confirm_date(box.lead.user_id)
    if not is_unlocked:
        box.store.lock()
    clinic = Clinic(Opening(state="ready", found="", store=box.store), clock=box.clock)
    engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
    station = Station(ObedientCamera(ManualClock()), engine, clock=box.clock)
    config = msgspec.structs.replace(
        Config(), lan=LanConfig(enabled=True, host=host, port=0, folder=str(folder / "lan"))
    )
    with clinic, LanFace(config, station, clinic, limits=limits) as face:
        until(lambda: face.front is not None)
        assert face.front is not None
        assert face.front.wait_ready(20)
        yield LanBox(box=box, clinic=clinic, station=station, face=face)
