"""A nurse's way with records in a real Chromium: sign in, new patient, spot, photo, assessment, close, find again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_browser import CHROMIUM, SIZES, Screen, screen
from kiosk_records import LEAD_PIN, KeptKiosk, kept_kiosk, sign_in
from playwright.sync_api import Browser, Route, expect
from scripted_engine import RunningEngine, ScriptedModel
from test_web_browser_screens import MISFITS, PRIMARY_PX, TOUCH_PX

from appliance.config import RecordsConfig
from appliance.records.content import AssessmentContent, CapturedImageContent, LesionContent, SubjectContent

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
]
UNDER_THE_BAR = """() => {
  const bar = document.querySelector(".bar")?.getBoundingClientRect().top ?? innerHeight;
  const parts = [...document.querySelectorAll("main *")].filter((part) => part.checkVisibility());
  return parts.filter((part) => part.getBoundingClientRect().bottom > bar + 1).map((part) => part.textContent.trim());
}"""
LATE_MS = 500
THEMES = {"1280x800": "day", "800x480": "dim"}


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[KeptKiosk]:
    records = RecordsConfig(stick_folders=(str(tmp_path / "media"),))
    with RunningEngine(ScriptedModel()) as engine, kept_kiosk(engine.client, tmp_path, records=records) as found:
        yield found
        found.box.store.close()


@pytest.fixture(params=SIZES)
def shown(request: pytest.FixtureRequest, browser: Browser, kiosk: KeptKiosk) -> Iterator[Screen]:
    with screen(browser, kiosk.url, SIZES[request.param]) as opened:
        opened.open("/sign-in")
        opened.page.evaluate("theme => localStorage.setItem('dermstation.theme', theme)", THEMES[request.param])
        yield opened
        opened.assert_clean()


def fits(shown: Screen, name: str) -> None:
    """Photograph a screen, and fail if anything on it is cut off, too small for a finger, or scrolls."""
    width = shown.page.viewport_size["width"] if shown.page.viewport_size else 0
    shown.keep_picture(f"visits-{name}-{width}")
    assert shown.page.evaluate(MISFITS, [TOUCH_PX, PRIMARY_PX]) == [], name
    assert shown.page.evaluate(UNDER_THE_BAR) == [], name


def typed(shown: Screen, text: str) -> None:
    """Type into the dialog with its own keys."""
    dialog = shown.page.locator("#typing")
    for letter in text:
        dialog.locator(f'.key[data-key="{letter}"]').tap()
    dialog.get_by_role("button", name="Done").tap()


def fill(shown: Screen, field: str, text: str) -> None:
    shown.page.locator(f'[data-field="{field}"]').tap()
    typed(shown, text)
    expect(shown.page.locator("#saved")).to_contain_text("saved.")


def begin(shown: Screen) -> None:
    shown.page.get_by_role("button", name="New photo").tap()
    shown.page.wait_for_url("**/who")


def find(shown: Screen, text: str) -> None:
    shown.page.locator("#find").tap()
    typed(shown, text)
    shown.page.locator("#found li").first.wait_for()


def new_patient(shown: Screen) -> None:
    begin(shown)
    fits(shown, "who")
    shown.page.get_by_role("link", name="New patient").tap()
    fill(shown, "local_number", "0417")
    fill(shown, "birth_year", "1968")
    shown.page.locator('[data-field="skin_tone_fitzpatrick"]').tap()
    fits(shown, "fitzpatrick")
    shown.page.locator('#fitzpatrick [data-choice="V"]').tap()
    expect(shown.page.locator('[data-field="skin_tone_fitzpatrick"]')).to_contain_text("V")
    shown.page.locator('[data-field="skin_tone_monk"]').tap()
    fits(shown, "monk")
    shown.page.locator('#monk [data-choice="8"]').tap()
    expect(shown.page.locator("#saved")).to_contain_text("Skin, by colour: saved.")
    fits(shown, "form")
    shown.page.locator("#save").tap()
    shown.page.wait_for_url("**/consent")
    fits(shown, "consent")
    shown.page.locator("input[value=care]").tap()
    shown.page.locator("#save").tap()
    shown.page.wait_for_url("**/lesion/new")


def left_palm(shown: Screen) -> None:
    fits(shown, "regions")
    shown.page.get_by_role("link", name="Hand", exact=True).tap()
    shown.page.get_by_role("link", name="Palm").tap()
    shown.page.wait_for_url("**site=palm")
    fits(shown, "sides")
    shown.page.get_by_role("button", name="Left").tap()


def assessed_photo(shown: Screen) -> None:
    shown.page.locator("#shutter:not([disabled])").tap()
    shown.page.wait_for_selector("#model")
    expect(shown.page.locator("#progress")).to_have_text("Done. Saved in this visit.")


def close_visit(shown: Screen) -> None:
    shown.open()
    shown.page.locator('[data-opens="close-visit"]').first.tap()
    expect(shown.page.locator("dialog[open]")).to_contain_text("stay")
    fits(shown, "close")
    shown.page.locator("dialog[open] .is-primary").tap()
    expect(shown.page.get_by_role("button", name="New photo")).to_be_visible()


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "control"])
def test_touch_of_a_button_whose_script_comes_late_is_not_lost(shown: Screen, is_held: bool) -> None:
    sign_in(shown)
    page = shown.page

    def without_holding(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(' blocking="render"', ""))

    if not is_held:
        page.route("**/patients", without_holding)
    slow = {"offline": False, "latency": LATE_MS, "downloadThroughput": -1, "uploadThroughput": -1}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    page.goto(f"{shown.url}/patients", wait_until="commit")
    page.locator("#find").wait_for(state="attached")
    place = page.locator("#find").bounding_box()
    assert place is not None
    page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.wait_for_load_state("load")
    page.wait_for_timeout(LATE_MS)
    assert page.locator("#typing").is_visible() == is_held


def test_nurse_finds_the_patient_and_the_earlier_photo_again(shown: Screen, kiosk: KeptKiosk) -> None:
    sign_in(shown)
    fits(shown, "home")
    new_patient(shown)
    left_palm(shown)
    assessed_photo(shown)
    fits(shown, "assessment")
    shown.open()
    expect(shown.page.locator(".waiting")).to_contain_text("1 photo saved")
    fits(shown, "home-open")
    close_visit(shown)
    shown.page.get_by_role("link", name="Find").tap()
    find(shown, "0417")
    fits(shown, "found")
    shown.page.locator("#found a").tap()
    expect(shown.page.locator(".seen img")).to_have_js_property("complete", value=True)
    fits(shown, "patient")
    shown.page.locator(".seen a").first.tap()
    expect(shown.page.locator(".then")).to_contain_text("asymmetric in two axes")
    assert shown.page.locator(".photos img").evaluate("image => image.naturalWidth") > 0
    fits(shown, "earlier-visit")
    shown.open()
    begin(shown)
    find(shown, "1968")
    shown.page.locator("#found button.way-on").first.tap()
    shown.page.wait_for_url("**/lesion")
    expect(shown.page.locator(".spot")).to_contain_text("Palm, left")
    fits(shown, "spots")
    shown.page.locator(".spot").tap()
    shown.page.locator("#shutter:not([disabled])").wait_for()
    store = kiosk.box.store
    (subject,) = store.find_number("0417")
    assert len(subject.visits) == 2
    (lesion,) = store.of(LesionContent, subject_id=subject.subject_id)
    assert lesion.content.laterality == "L"
    (photo,) = store.of(CapturedImageContent, lesion_id=lesion.record_id)
    (answer,) = store.of(AssessmentContent, encounter_id=subject.visits[-1].encounter_id)
    assert answer.parents["capture_id"] == photo.record_id
    assert answer.content.asked_by == kiosk.nurse.user_id
    assert answer.content.capture_sha256 == photo.content.sha256
    assert store.get(SubjectContent, subject.subject_id).content.skin_tone_monk == 8
    assert store.verify_audit().problems == ()


def test_locked_box_says_so_and_goes_on(browser: Browser, kiosk: KeptKiosk) -> None:
    kiosk.box.store.lock()
    with screen(browser, kiosk.url, SIZES["800x480"]) as shown:
        sign_in(shown)
        fits(shown, "home-locked")
        begin(shown)
        expect(shown.page.locator("main")).to_contain_text("Finding needs the phrase")
        fits(shown, "who-locked")
        shown.page.get_by_role("button", name="Not now").tap()
        shown.page.wait_for_url("**/lesion/new")
        left_palm(shown)
        assessed_photo(shown)
        shown.assert_clean()


def test_lead_backs_up_and_drills(shown: Screen, kiosk: KeptKiosk, tmp_path: Path) -> None:
    stick = tmp_path / "media" / "STICK-A"
    stick.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(stick)], capture_output=True).returncode:
        pytest.skip("needs root to mount a small file system")
    try:
        sign_in(shown, "Sister Asha", LEAD_PIN)
        shown.page.get_by_role("link", name="Backup").tap()
        shown.page.get_by_role("button", name="Back up now").tap()
        expect(shown.page.locator("#work-words")).to_contain_text("Backed up and read back")
        expect(shown.page.locator("#last")).to_contain_text("on STICK-A")
        fits(shown, "backup")
        shown.page.get_by_role("button", name="Drill").tap()
        shown.page.locator("#typing-input").fill(kiosk.box.made.sheets[1])
        shown.page.get_by_role("button", name="Done").tap()
        expect(shown.page.locator("#work-words")).to_contain_text("would come back")
        for page in ("upkeep", "upkeep/inventory", "upkeep/audit", "upkeep/retention", "upkeep/without-pin", "more"):
            shown.open(f"/{page}")
            fits(shown, page.replace("/", "-"))
        shown.open("/upkeep/inventory")
        shown.page.locator("#write").tap()
        expect(shown.page.locator("#say")).to_contain_text("Written to STICK-A")
        assert "What this station keeps" in (stick / "dermstation-inventory.txt").read_text()
        shown.open()
        expect(shown.page.locator(".health")).to_contain_text("Backup: STICK-A, today")
    finally:
        subprocess.run(["umount", "-l", str(stick)], check=True)
