"""The real station as a process with records, asked over real HTTP: started, signed in, made to shoot, and killed."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

END_S = 20.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the station answered."""

    status: int
    text: str
    location: str

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass(slots=True, kw_only=True)
class StationProcess:
    """One station, and a browser without a screen."""

    process: "subprocess.Popen[str]"
    url: str
    token: str = ""
    _jar: CookieJar = field(default_factory=CookieJar)

    def ask(self, path: str, body: object = None, *, form: bool = False, timeout_s: float = 30) -> Reply:
        """GET, or POST where there is a body."""
        headers = {"X-CSRF-Token": self.token}
        data = None
        if body is not None:
            data = b"" if form else json.dumps(body).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
        request = urllib.request.Request(self.url + path, data=data, headers=headers)  # noqa: S310 - it is ours
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar), _NoRedirect)
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return Reply(status=answer.status, text=answer.read().decode(errors="replace"), location="")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            return Reply(status=error.code, text=text, location=error.headers.get("Location") or "")

    def page(self, path: str) -> Reply:
        """GET a page, and take its token."""
        reply = self.ask(path)
        if found := re.search(r'name="csrf-token" content="([^"]+)"', reply.text):
            self.token = found[1]
        return reply

    def sign_in(self, user_id: str, pin: str) -> Reply:
        self.page("/sign-in")
        return self.ask("/api/sign-in", {"user_id": user_id, "pin": pin})

    def sign_in_by_phrase(self, user_id: str, phrase: str) -> Reply:
        self.page("/sign-in")
        return self.ask("/api/sign-in/phrase", {"user_id": user_id, "phrase": phrase})

    def open_visit(self) -> str:
        """Open a visit; returns its id."""
        self.page("/")
        reply = self.ask("/encounters", {}, form=True)
        assert reply.status == 303, reply
        found = re.search(r"/encounters/([0-9a-f]{32})", reply.location)
        assert found is not None, reply
        return found[1]

    def shoot(self, encounter_id: str) -> Reply:
        return self.ask(f"/api/encounters/{encounter_id}/captures", {})

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


SETTINGS = """
[records]
folder = "{records}"
[camera]
kind = "replay"
folder = "{pictures}"
frames_per_s = 60
[quality]
focus_min = 0.0
brightness_min = 0.0
clipped_max = 1.0
glare_max = 1.0
shift_max = 1.0
green_cast_max = 5.0
blue_cast_max = 5.0
yellow_cast_max = 5.0
[shots]
usual = []
[lan]
enabled = false
[engine]
socket = "{socket}"
"""


def write_settings(folder: Path, records: Path, pictures: Path) -> Path:
    """Write a station's settings; its engine is away."""
    path = folder / "dermstation.toml"
    path.write_text(SETTINGS.format(records=records, pictures=pictures, socket=folder / "engine.sock"))
    return path


@contextmanager
def announced(
    command: Sequence[str], *, ending: signal.Signals = signal.SIGTERM
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command that prints the address it serves, until the block ends; gives the process and the address."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, f"{line!r} {process.communicate(timeout=END_S)[1]}"
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.send_signal(ending)
        try:
            process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@contextmanager
def station_process(settings: Path, *, before: str = "") -> Iterator[StationProcess]:
    """Run the station until the block ends; `before` is Python that spoils it for a control."""
    code = f"{before}\nfrom appliance.cli import main\nmain()"
    command = [sys.executable, "-c", code, "serve", "--config", str(settings), "--port", "0"]
    with announced(command) as (process, url):
        yield StationProcess(process=process, url=url)
