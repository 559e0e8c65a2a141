"""A real Chromium at the kiosk: touch on, everything it complains of and every request it makes written down."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, expect

from appliance.config import RecordsConfig
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from web.kiosk.app import MAX_BODY_BYTES, create_kiosk_app
from web.serve import THREADS, listen
from web.server import HttpServer

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SIZES = {"1280x800": (1280, 800), "800x480": (800, 480)}
WAIT_MS = 30_000
"""Longest wait for the screen, on a machine that has much else to do; only a failing test waits so long."""
_LISTEN_FOR_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass(kw_only=True)
class Screen:
    """One page, and what went wrong on it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Words of complaints that a test provokes, such as a refused request."""

    def open(self, path: str = "/") -> None:
        """Go to a page of the kiosk."""
        self.page.goto(self.url + path)

    def photograph(self) -> None:
        """Open a visit and take a photo, by touch; ends on the assessment screen."""
        self.open()
        self.page.get_by_role("button", name="New photo").tap()
        shutter = self.page.locator("#shutter:not([disabled])")
        shutter.wait_for()
        shutter.tap()
        self.page.wait_for_selector("#model")

    def show(self, view: str) -> None:
        """Bring a panel to the front where the screen shows one at a time."""
        button = self.page.locator(f'[data-view="{view}"]')
        if button.is_visible():
            button.tap()

    def assert_clean(self) -> None:
        """Fail if the browser complained, a policy was violated, or a request left for elsewhere."""
        violations = self.page.evaluate("window.violations")
        complaints = [text for text in self.complaints if not any(word in text for word in self.expected)]
        assert (complaints, self.foreign, violations) == ([], [], [])

    def keep_picture(self, name: str) -> None:
        """Save what is seen where DERMSTATION_SCREENSHOTS says; nowhere when it says nothing."""
        if folder := os.environ.get("DERMSTATION_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@contextmanager
def served(station: Station, clinic: Clinic | None = None, records: RecordsConfig | None = None) -> Iterator[str]:
    """Serve the kiosk of a station on loopback with the real server; gives its address."""
    with serving(create_kiosk_app(station, clinic=clinic, records=records or RecordsConfig())) as url:
        yield url


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve an application on loopback with the real server; gives its address."""
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = HttpServer(app, listener, threads=THREADS, max_body_bytes=MAX_BODY_BYTES)
    thread = threading.Thread(target=server.run, name="kiosk-server")
    thread.start()
    try:
        yield url
    finally:
        server.stop()
        thread.join(10)
        server.close()


def launch(playwright: Playwright) -> Browser:
    """Start Debian's Chromium without a screen."""
    expect.set_options(timeout=WAIT_MS)
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))


@contextmanager
def screen(browser: Browser, url: str, size: tuple[int, int], **context: str) -> Iterator[Screen]:
    """Open a touch screen of some size, with a browser profile of its own."""
    viewport = {"width": size[0], "height": size[1]}
    profile = browser.new_context(viewport=viewport, has_touch=True, **context)  # type: ignore[arg-type] # a plain dict
    profile.set_default_timeout(WAIT_MS)
    profile.add_init_script(_LISTEN_FOR_VIOLATIONS)
    page = profile.new_page()
    shown = Screen(page=page, url=url)

    def console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            shown.complaints.append(message.text)

    def request(made: Request) -> None:
        if urlsplit(made.url).netloc != urlsplit(url).netloc and not made.url.startswith(("data:", "blob:")):
            shown.foreign.append(made.url)

    page.on("console", console)
    page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    page.on("request", request)
    try:
        yield shown
    finally:
        profile.close()
