"""Key fobs and the box PIN in a real Chromium: a fob is made, opens the records, and is asked to be taken out."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from kiosk_browser import CHROMIUM, SIZES, Screen, screen
from kiosk_records import LEAD_PIN, KeptKiosk, kept_kiosk, sign_in
from playwright.sync_api import Browser, Page, expect
from scripted_engine import RunningEngine, ScriptedModel
from software_tpm import needs_tpm, software_tpm
from sticks import Sticks, stick_folder
from test_service_sheet_reader import code_picture, scene
from test_web_browser_screens import MISFITS, PRIMARY_PX, TOUCH_PX

from appliance.camera.replay import ReplayCamera
from appliance.config import RecordsConfig
from appliance.host.sticks import mounted_sticks
from appliance.service.key_fobs import PUT_TO_USE, TAKE_OUT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
    *needs_tpm,
]
THEMES = {"1280x800": "dim", "800x480": "day"}
REFUSED = ("403 (FORBIDDEN)", "401 (UNAUTHORIZED)", "429 (TOO MANY")
BOX_PIN = "907153"


@dataclass(kw_only=True)
class Box:
    kiosk: KeptKiosk
    sticks: Sticks


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with ExitStack() as stack:
        sticks = Sticks(stack.enter_context(stick_folder()), tmp_path / "mountinfo")
        monkeypatch.setattr(
            "appliance.service.key_fobs.mounted_sticks", lambda folders, _: mounted_sticks(folders, sticks.mounts)
        )
        chip = stack.enter_context(software_tpm(tmp_path / "chip"))
        config = RecordsConfig(stick_folders=(str(sticks.folder),), chip=chip._tcti)
        engine = stack.enter_context(RunningEngine(ScriptedModel()))
        kiosk = stack.enter_context(kept_kiosk(engine.client, tmp_path, records=config))
        yield Box(kiosk=kiosk, sticks=sticks)
        kiosk.box.store.close()


def fits(shown: Screen, name: str) -> None:
    width = shown.page.viewport_size["width"] if shown.page.viewport_size else 0
    shown.keep_picture(f"keys-{name}-{width}")
    assert shown.page.evaluate(MISFITS, [TOUCH_PX, PRIMARY_PX]) == [], name


def type_text(page: Page, text: str) -> None:
    page.locator("#typing-input").fill(text)
    page.locator("#typing button.is-primary").tap()


def tap_pin(page: Page, pin: str) -> None:
    for digit in pin:
        page.locator(f'#pin-dialog [data-digit="{digit}"]').tap()


@pytest.mark.parametrize("size", SIZES)
def test_a_fob_is_made_opens_the_records_is_taken_out_and_shut_out(browser: Browser, box: Box, size: str) -> None:
    with screen(browser, box.kiosk.url, SIZES[size]) as shown:
        shown.expected = REFUSED
        shown.open("/sign-in")
        shown.page.evaluate("theme => localStorage.setItem('dermstation.theme', theme)", THEMES[size])
        sign_in(shown, "Sister Asha", LEAD_PIN)
        make_fob(shown, box)
        box_pin_on(shown, box)
        open_by_fob(shown, box)
        open_by_box_pin(shown, box)
        open_by_camera(shown, box)
        shut_out(shown)
        shown.assert_clean()


def make_fob(shown: Screen, box: Box) -> None:
    page = shown.page
    shown.open("/more")
    page.get_by_role("link", name="Phrase, sheets and keys").tap()
    page.wait_for_selector("[data-act=sheets]")
    fits(shown, "secrets")
    page.get_by_role("link", name="Key fobs").tap()
    page.get_by_text("No key fob was made yet.").wait_for()
    page.get_by_role("link", name="Make a key fob").tap()
    page.locator("#no-stick").wait_for()
    fits(shown, "no-stick")
    box.sticks.put_in("SMALL")
    page.get_by_role("button", name="Make it a key fob").wait_for()
    fits(shown, "new-fob")
    page.get_by_role("button", name="Make it a key fob").tap()
    type_text(page, "Asha's fob")
    expect(page.locator("#typing-label")).to_contain_text("phrase")
    type_text(page, box.kiosk.box.made.sheets[0])
    page.get_by_role("link", name="Asha's fob").wait_for()
    fits(shown, "fobs")


def box_pin_on(shown: Screen, box: Box) -> None:
    page = shown.page
    shown.open("/secrets/pin")
    fits(shown, "pin-off")
    page.get_by_role("button", name="Choose a box PIN").tap()
    tap_pin(page, BOX_PIN)
    expect(page.locator("#pin-dialog-title")).to_contain_text("again")
    tap_pin(page, BOX_PIN)
    type_text(page, box.kiosk.box.made.sheets[0])
    page.get_by_role("button", name="Turn it off").wait_for()
    fits(shown, "pin-on")


def open_by_fob(shown: Screen, box: Box) -> None:
    page, stick = shown.page, box.sticks.folder / "SMALL"
    box.sticks.pull_out(stick)
    box.kiosk.box.store.lock()
    shown.open("/unlock")
    page.locator("#use-fob", has_text="Put it into the box").wait_for()
    fits(shown, "unlock")
    page.locator("#use-fob").tap()
    expect(page.locator("#trouble")).to_contain_text("No key fob is in.")
    fits(shown, "unlock-none")
    box.sticks.put_back(stick)
    page.locator("#use-fob.is-primary", has_text="Open with Asha's fob").wait_for()
    fits(shown, "unlock-fob")
    page.locator("#use-fob").tap()
    page.locator(".notices .is-alarm", has_text=TAKE_OUT).wait_for()
    assert box.kiosk.box.store.is_unlocked
    fits(shown, "take-out")
    box.sticks.pull_out(stick)
    page.locator(".notices .is-alarm", has_text=TAKE_OUT).wait_for(state="detached")
    # At home it is offered as soon as it is in.
    box.kiosk.box.store.lock()
    shown.open()
    page.locator(".notices", has_text="Earlier records cannot be read").wait_for()
    box.sticks.put_back(stick)
    page.locator(".notices", has_text=PUT_TO_USE).wait_for()
    fits(shown, "home-fob")
    page.get_by_role("link", name="Open the records").tap()
    page.locator("#use-fob.is-primary").wait_for()
    box.sticks.pull_out(stick)


def open_by_box_pin(shown: Screen, box: Box) -> None:
    page = shown.page
    box.kiosk.box.store.lock()
    shown.open("/unlock")
    page.locator("#type-pin").tap()
    fits(shown, "box-pin")
    tap_pin(page, "482916")
    expect(page.locator("#trouble")).to_contain_text("This box PIN is wrong.")
    page.locator("#type-pin:not([disabled])").wait_for()
    page.locator("#type-pin").tap()
    tap_pin(page, BOX_PIN)
    page.wait_for_selector(".at-home")
    assert box.kiosk.box.store.is_unlocked


def open_by_camera(shown: Screen, box: Box) -> None:
    page, camera = shown.page, box.kiosk.station.camera
    box.kiosk.box.store.lock()
    shown.open("/unlock")
    page.get_by_role("link", name="Show a recovery sheet").tap()
    expect(page.locator("#say")).to_contain_text("Looking for the code")
    page.wait_for_timeout(500)
    fits(shown, "sheet")
    assert not box.kiosk.box.store.is_unlocked
    assert isinstance(camera, ReplayCamera)
    camera._pictures = [(scene(code_picture(box.kiosk.box.made.sheets[0])), "image/jpeg")]
    camera._position = 0
    page.wait_for_selector(".at-home")
    assert box.kiosk.box.store.is_unlocked


def shut_out(shown: Screen) -> None:
    page = shown.page
    shown.open("/secrets/fobs")
    page.get_by_role("link", name="Asha's fob").tap()
    page.wait_for_selector("[data-act=revoke-fob]")
    fits(shown, "fob")
    page.wait_for_load_state("load")
    page.locator("[data-act=revoke-fob]").tap()
    page.get_by_text("No key fob was made yet.").wait_for()
