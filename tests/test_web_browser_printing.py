"""The print buttons in a real Chromium: offered where there is a printer, and told until the page is out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cups_rig import Cups, Paper, missing, network_printer, running_cups
from kiosk_browser import CHROMIUM, SIZES, Screen, screen
from kiosk_records import LEAD_PIN, KeptKiosk, kept_kiosk, sign_in
from playwright.sync_api import Browser, expect
from scripted_engine import RunningEngine, ScriptedModel
from test_service_printing import folder
from test_web_browser_visits import THEMES, fits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
    pytest.mark.skipif(missing() != "", reason=missing()),
]
__all__ = ["folder"]


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[KeptKiosk]:
    with RunningEngine(ScriptedModel()) as engine, kept_kiosk(engine.client, tmp_path) as found:
        yield found
        found.box.store.close()


@pytest.fixture
def cups(folder: Path) -> Iterator[Cups]:
    with running_cups(folder) as found:
        yield found


@pytest.fixture
def paper(cups: Cups) -> Iterator[Paper]:
    with network_printer() as found:
        cups.add("Office", f"socket://127.0.0.1:{found.port}/?waiteof=false")
        yield found


@pytest.mark.parametrize("size", ["800x480"])  # the smaller screen, where a sentence may not fit
def test_pages_are_printed_by_touch(browser: Browser, kiosk: KeptKiosk, cups: Cups, paper: Paper, size: str) -> None:
    with screen(browser, kiosk.url, SIZES[size]) as shown:
        shown.open("/sign-in")
        shown.page.evaluate("theme => localStorage.setItem('dermstation.theme', theme)", THEMES[size])
        sign_in(shown, "Sister Asha", LEAD_PIN)
        shown.open("/upkeep/inventory")
        _prints(shown, "Print it here", "inventory")
        shown.open("/upkeep")
        _prints(shown, "Print the measuring card", "card")
        _new_sheets(shown, kiosk)
        _prints(shown, "Print here", "sheets")
        assert [page[:5] for page in paper.pages] == [b"%PDF-"] * 3
        cups.add_jammed("media-jam-error")
        shown.page.get_by_role("button", name="Print here").tap()
        expect(shown.page.get_by_text("The paper is jammed in the printer.")).to_be_visible()
        fits(shown, "print-jammed")
        assert cups.spooled() == []
        shown.assert_clean()


def _prints(shown: Screen, button: str, name: str) -> None:
    fits(shown, f"print-{name}")
    shown.page.get_by_role("button", name=button).tap()
    expect(shown.page.get_by_text("Printed on Office.")).to_be_visible()
    fits(shown, f"print-{name}-done")


def _new_sheets(shown: Screen, kiosk: KeptKiosk) -> None:
    token = shown.page.locator('meta[name="csrf-token"]').get_attribute("content")
    answer = shown.page.request.post(
        f"{kiosk.url}/api/secrets/sheets",
        data={"phrase": kiosk.box.made.phrase},
        headers={"X-CSRF-Token": str(token)},
    )
    assert answer.ok, answer.text()
    shown.open("/secrets/sheets")
