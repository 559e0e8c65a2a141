"""The door in a real Chromium: set up, sign in, photograph, lock, go on; what fits, and what the profile keeps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask, Response
from kiosk_browser import CHROMIUM, CHROMIUM_FLAGS, SIZES, Screen, screen, served, serving
from kiosk_records import LEAD_PIN, NURSE_PIN, KeptKiosk, add_user, kept_kiosk, sign_in
from kiosk_station import picture, picture_folder, until
from playwright.sync_api import Browser, Page, expect
from scripted_engine import RunningEngine, ScriptedModel
from test_web_browser_screens import MISFITS, PRIMARY_PX, TOUCH_PX

from appliance.camera.replay import ReplayCamera
from appliance.clock import SystemClock
from appliance.records.content import SubjectContent
from appliance.records.opening import Opening, open_records
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from appliance.service.visits import Visits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
]
THEMES = {"1280x800": "dim", "800x480": "day"}
REFUSED = ("403 (FORBIDDEN)", "401 (UNAUTHORIZED)", "429 (TOO MANY")
MARK = "CANARY4711"
PIXELS = b"CANARY-pixels-4711"


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[KeptKiosk]:
    with RunningEngine(ScriptedModel()) as engine, kept_kiosk(engine.client, tmp_path) as found:
        yield found
        found.box.store.close()


@contextmanager
def themed(browser: Browser, url: str, size: str) -> Iterator[Screen]:
    with screen(browser, url, SIZES[size]) as shown:
        shown.expected = REFUSED
        shown.open("/sign-in")
        shown.page.evaluate("theme => localStorage.setItem('dermstation.theme', theme)", THEMES[size])
        shown.open("/sign-in")
        yield shown
        shown.assert_clean()


def fits(shown: Screen, name: str) -> None:
    width = shown.page.viewport_size["width"] if shown.page.viewport_size else 0
    shown.keep_picture(f"door-{name}-{width}")
    assert shown.page.evaluate(MISFITS, [TOUCH_PX, PRIMARY_PX]) == [], name


def touch(page: Page, selector: str) -> None:
    """Touch something once the page's scripts are there; a person would touch it again."""
    page.locator(selector).first.wait_for()
    page.wait_for_load_state("load")
    page.locator(selector).first.tap()


def tap_pin(page: Page, pin: str) -> None:
    for digit in pin:
        page.locator(f'[data-digit="{digit}"]:visible').last.tap()


def new_pin(page: Page, pin: str) -> None:
    expect(page.locator("#pin-dialog-title")).to_contain_text("choose")
    tap_pin(page, pin)
    expect(page.locator("#pin-dialog-title")).to_contain_text("again")
    tap_pin(page, pin)


def type_text(page: Page, text: str) -> None:
    page.locator("#typing-input").fill(text)
    page.locator("#typing button.is-primary").tap()


def shutter(page: Page) -> None:
    page.locator("#shutter:not([disabled])").tap()
    page.wait_for_selector("#model")


@pytest.mark.parametrize("size", SIZES)
def test_from_an_empty_box_to_a_photo_a_lock_and_on(browser: Browser, tmp_path: Path, size: str) -> None:
    (tmp_path / "pictures").mkdir()
    camera = ReplayCamera(picture_folder(tmp_path / "pictures"), frames_per_s=50, picture_s=60)
    opening = open_records(tmp_path / "records", ballast_bytes=0)
    clinic = Clinic(opening, clock=SystemClock(), folder=tmp_path / "records")
    visits = Visits(clinic.records, clinic.operator, has_records=lambda: clinic.store is not None)
    with (
        RunningEngine(ScriptedModel()) as engine,
        clinic,
        Station(camera, engine.client, visits=visits) as station,
        served(station, clinic) as url,
        themed(browser, url, size) as shown,
    ):
        set_up(shown)
        lock_and_go_on(shown)


def set_up(shown: Screen) -> None:
    page = shown.page
    fits(shown, "about")
    page.get_by_role("button", name="Begin").tap()
    touch(page, "#clinic-name")
    fits(shown, "typing")
    type_text(page, "Kliniek")
    fits(shown, "clinic")
    page.get_by_role("button", name="The date is right").tap()
    for step in ("phrase", "sheet-1", "sheet-2"):
        page.wait_for_selector(".secret-words")
        fits(shown, step)
        type_back(shown, step)
    touch(page, "#lead-name")
    type_text(page, "Sister Asha")
    fits(shown, "lead")
    touch(page, "#finish")
    fits(shown, "pin")
    new_pin(page, LEAD_PIN)
    page.wait_for_selector(".at-home")


def type_back(shown: Screen, step: str) -> None:
    """The first words by touch, the second one wrong at first; the others with a keyboard, which is faster."""
    page = shown.page
    words = [word.inner_text() for word in page.locator(".secret-words b").all()]
    page.locator(".bar .is-primary").tap()
    page.wait_for_selector("#word-keys .key")
    for number, word in enumerate(words, 1):
        expect(page.locator("#word-number")).to_have_text(str(number))
        if number == 2 and step != "sheet-2":
            for letter in "babab" if word != "babab" else "zozoz":
                page.locator(f'[data-key="{letter}"]').tap()
            expect(page.locator("#trouble")).to_contain_text("not word 2")
            fits(shown, f"{step}-back")
        if number > 2 or step != "phrase":
            page.keyboard.type(word)
            continue
        for letter in word:
            page.locator(f'[data-key="{letter}"]').tap()
    page.wait_for_selector("#words", state="detached")


def lock_and_go_on(shown: Screen) -> None:
    page = shown.page
    page.get_by_role("button", name="New photo").tap()
    page.wait_for_url("**/who")
    visit = page.url.removesuffix("/who").removeprefix(shown.url)
    shown.open(visit)
    shutter(page)
    where = page.url
    page.get_by_role("button", name="Lock").tap()
    page.wait_for_selector(".at-sign-in")
    fits(shown, "locked")
    # Nothing of the visit is left: not in the page, not one step back, not by its address.
    assert visit.rsplit("/", 1)[1] not in page.content()
    page.go_back()
    page.wait_for_selector(".at-sign-in")
    shown.open(visit)
    page.wait_for_selector(".at-sign-in")
    tap_pin(page, LEAD_PIN)
    page.wait_for_url(where)
    page.get_by_role("link", name="Take another photo").tap()
    shutter(page)


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_of_the_door_fits(browser: Browser, kiosk: KeptKiosk, size: str) -> None:
    for number in range(6):
        add_user(kiosk.box, f"Zodwa Christina Radebe-Khumalo {number}", "nurse", f"27{number}815")
    with themed(browser, kiosk.url, size) as shown:
        page = shown.page
        fits(shown, "sign-in")
        page.locator("[data-user]:visible", has_text="Christina").first.tap()
        tap_pin(page, "000111")
        expect(page.locator("[data-say]")).to_contain_text("wrong")
        fits(shown, "wrong-pin")
        sign_in(shown)
        sign_in_as_lead(shown)
        for path in ("/shift", "/more", "/people", "/people/new", "/secrets", "/secrets/phrase", "/date"):
            shown.open(path)
            fits(shown, path[1:].replace("/", "-"))
        person(shown)
        morning(shown, kiosk)


def sign_in_as_lead(shown: Screen) -> None:
    page = shown.page
    page.get_by_role("button", name="Lock").tap()
    page.wait_for_selector(".at-sign-in")
    page.wait_for_load_state("load")
    page.locator("[data-user]", has_text="Sister Asha").tap()
    tap_pin(page, LEAD_PIN)
    page.wait_for_url("**/shift")


def person(shown: Screen) -> None:
    page = shown.page
    shown.open("/people/new")
    touch(page, "#name")
    type_text(page, "Zanele")
    touch(page, "[data-act=add]")
    new_pin(page, "948271")
    page.wait_for_url("**/people")
    page.get_by_role("link", name="Zanele").tap()
    page.wait_for_selector("[data-act=role]")
    fits(shown, "person")
    touch(page, "[data-opens=leave]")
    fits(shown, "leave")
    touch(page, "[data-act=remove]")
    page.wait_for_url("**/people")


def morning(shown: Screen, kiosk: KeptKiosk) -> None:
    page = shown.page
    kiosk.box.store.lock()
    shown.open()
    fits(shown, "home-locked")
    page.get_by_role("link", name="Open the records").tap()
    page.wait_for_selector("#type-phrase")
    fits(shown, "unlock")
    touch(page, "#type-phrase")
    type_text(page, kiosk.box.made.phrase.replace("-", " "))
    page.wait_for_selector(".at-home")
    shown.open("/secrets")
    touch(page, "[data-act=sheets]")
    type_text(page, kiosk.box.made.phrase)
    page.wait_for_url("**/secrets/sheets")
    fits(shown, "new-sheets")


@pytest.mark.parametrize("size", SIZES)
def test_a_disk_that_takes_no_writes_is_opened_by_the_phrase(browser: Browser, kiosk: KeptKiosk, size: str) -> None:
    store = kiosk.box.store
    store.is_read_only = True
    store.lock()
    kiosk.clinic.opening = Opening(
        state="read-only", found="The disk takes no writes.", action="Have it looked at.", store=store
    )
    with themed(browser, kiosk.url, size) as shown:
        page = shown.page
        expect(page.locator(".at-sign-in .trouble").first).to_contain_text(
            "The disk takes no writes. Have it looked at."
        )
        assert page.locator("[data-digit]").count() == 0
        fits(shown, "read-only")
        page.locator("[data-user]:visible", has_text="Thandi").tap()
        expect(page.locator("#typing-label")).to_have_text("The clinic's phrase, for Nurse Thandi")
        fits(shown, "read-only-phrase")
        type_text(page, "babab babab babab babab")
        expect(page.locator("#trouble")).to_contain_text("phrase")
        assert kiosk.clinic.user is None
        # The next guess has to wait for a second.
        page.wait_for_timeout(1100)
        page.locator("[data-user]:visible", has_text="Thandi").tap()
        type_text(page, kiosk.box.made.phrase)
        page.wait_for_selector(".at-home")
        expect(page.locator("body")).to_contain_text("The disk takes no writes.")


def test_the_screen_warns_then_locks_by_itself_and_hides_everything(browser: Browser, tmp_path: Path) -> None:
    with (
        RunningEngine(ScriptedModel()) as engine,
        kept_kiosk(engine.client, tmp_path, idle_s=6) as kiosk,
        screen(browser, kiosk.url, SIZES["800x480"]) as shown,
    ):
        shown.expected = REFUSED
        sign_in(shown)
        expect(shown.page.locator("#idle")).to_contain_text("This screen locks in")
        shown.page.wait_for_selector(".at-sign-in")
        until(lambda: kiosk.station.captures._is_locked)
        assert "Nurse Thandi" in shown.page.content()
        # A station that was started anew: its old page would be refused, and a kiosk has no button to load it again.
        with shown.page.expect_navigation():
            kiosk.clinic.run = "another"
        shown.assert_clean()
        kiosk.box.store.close()


def found_in(folder: Path, marks: list[bytes]) -> list[str]:
    """Search every byte and every name of a browser's profile, as stored and as UTF-16."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        name = str(path.relative_to(folder)).encode()
        for mark in marks:
            forms = (mark, mark.decode("latin-1").encode("utf-16-le"))
            if any(form in content for form in forms) or mark in name:
                found.append(f"{mark!r} in {path.name}")
    return found


@contextmanager
def profiled(browser: Browser, folder: Path) -> Iterator[Page]:
    """A Chromium that keeps its profile in a folder, as the kiosk's does until it ends."""
    context = browser.browser_type.launch_persistent_context(
        folder, executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS), has_touch=True, viewport=None
    )
    try:
        yield context.pages[0]
    finally:
        context.close()


def marked_picture() -> bytes:
    """A JPEG with the mark in a comment."""
    content = picture("sienna")
    return content[:2] + b"\xff\xfe" + (len(PIXELS) + 2).to_bytes(2, "big") + PIXELS + content[2:]


def see_a_patient(page: Page, kiosk: KeptKiosk) -> None:
    page.goto(f"{kiosk.url}/sign-in")
    page.wait_for_load_state("load")
    page.locator("[data-user]", has_text="Nurse Thandi").tap()
    tap_pin(page, NURSE_PIN)
    page.wait_for_url(lambda url: "/sign-in" not in url)
    page.goto(f"{kiosk.url}/patients")
    touch(page, "#find")
    type_text(page, MARK)
    page.locator("#found li", has_text=MARK).first.wait_for()
    page.locator("#found li a").first.tap()
    page.wait_for_url(re.compile(r"/patients/[0-9a-f]{32}"))
    page.goto(kiosk.url)
    page.get_by_role("button", name="New photo").tap()
    page.wait_for_url("**/who")
    page.goto(page.url.removesuffix("/who"))
    shutter(page)
    image = page.locator(".picture img").get_attribute("src")
    page.goto(f"{kiosk.url}{image}")
    kiosk.box.store.lock()
    page.goto(f"{kiosk.url}/unlock")
    touch(page, "#type-phrase")
    type_text(page, kiosk.box.made.phrase)
    page.wait_for_url(lambda url: "/unlock" not in url)
    page.get_by_role("button", name="Lock").tap()
    page.wait_for_selector(".at-sign-in")


def test_nothing_of_a_patient_is_left_in_the_browsers_profile(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "00.jpg").write_bytes(marked_picture())
    profile = tmp_path / "profile"
    with RunningEngine(ScriptedModel()) as engine, kept_kiosk(engine.client, tmp_path) as kiosk:
        subject = SubjectContent(pseudonym="babab-dabab", name=f"Thembi {MARK}", local_number=MARK)
        kiosk.box.store.add(subject, kiosk.box.lead.user_id)
        with profiled(browser, profile) as page:
            page.set_default_timeout(30_000)
            see_a_patient(page, kiosk)
        kept = kiosk.box.store.photo_ids()
        phrase = kiosk.box.made.phrase
        marks = [MARK.encode(), PIXELS, phrase.encode(), phrase.replace("-", " ").encode()]
        kiosk.box.store.close()
    assert len(kept) == 1
    assert len(list(profile.rglob("*"))) > 50
    assert found_in(profile, marks) == []


def test_control_the_search_finds_a_page_that_may_be_kept(browser: Browser, tmp_path: Path) -> None:
    app = Flask("control", static_folder=None)
    headers = {"Cache-Control": "max-age=3600"}

    @app.get("/")
    def document() -> Response:
        text = f"<!doctype html><title>{MARK}</title><img src=/picture>"
        return Response(text, mimetype="text/html", headers=headers)

    @app.get("/picture")
    def image() -> Response:
        return Response(marked_picture(), mimetype="image/jpeg", headers=headers)

    with serving(app) as url, profiled(browser, tmp_path / "profile") as page:
        page.goto(url)
        page.wait_for_load_state("networkidle")
    found = found_in(tmp_path / "profile", [MARK.encode(), PIXELS])
    assert any("CANARY4711" in one for one in found)
    assert any("pixels" in one for one in found)
