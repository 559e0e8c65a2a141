"""Chromium on both sides: the lead at the kiosk pairs a phone; the phone trusts, reads, is attacked, is shut out."""

import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from kiosk_browser import CHROMIUM, CHROMIUM_FLAGS, SIZES, WAIT_MS, Screen, launch, screen
from kiosk_station import picture
from lan_box import NAME, PINS, LanBox, lan_box
from playwright.sync_api import Browser, BrowserContext, Error, Page, Playwright, expect
from records_boxes import described

from appliance.host.certificates import Issued, key_pem, make_leaf, period_from
from appliance.records import devices
from appliance.records.content import AssessmentContent, EncounterContent, NurseImpressionContent, SubjectContent
from appliance.records.dating import RELEASED_AT
from appliance.records.store import new_id
from web.kiosk.access import COOKIE
from web.kiosk.app import MAX_BODY_BYTES, create_kiosk_app
from web.serve import THREADS, listen
from web.server import HttpServer

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
OTHER_SITE = "evil.example"


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanBox]:
    if not CHROMIUM.exists():
        pytest.skip("the Debian package chromium is not installed")
    with lan_box(tmp_path_factory.mktemp("lan")) as lan, lan.station:
        yield lan


@pytest.fixture(scope="module")
def kiosk_url(lan: LanBox) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    app = create_kiosk_app(lan.station, clinic=lan.clinic, lan=lan.face)
    server = HttpServer(app, listener, threads=THREADS, max_body_bytes=MAX_BODY_BYTES)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.stop()
    thread.join(10)
    server.close()


@pytest.fixture(scope="module")
def kiosk_browser(playwright_driver: Playwright) -> Iterator[Browser]:
    browser = launch(playwright_driver)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def playwright_driver() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@contextmanager
def phone_browser(driver: Playwright, home: Path, authority: Issued | None, *names: str) -> Iterator[BrowserContext]:
    """A phone's browser: a profile of its own, in whose store the box's authority is installed, or not."""
    if shutil.which("certutil") is None:
        pytest.skip("the Debian package libnss3-tools is not installed")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    place = f"sql:{store}"
    subprocess.run(["certutil", "-N", "-d", place, "--empty-password"], check=True)
    if authority is not None:
        path = home / "authority.pem"
        path.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        subprocess.run(["certutil", "-A", "-d", place, "-n", "box", "-t", "C,,", "-i", str(path)], check=True)
    rules = ",".join(f"MAP {name} 127.0.0.1" for name in (NAME, OTHER_SITE, *names))
    browser = driver.chromium.launch(
        executable_path=CHROMIUM,
        args=[*CHROMIUM_FLAGS, f"--host-resolver-rules={rules}"],
        env={**os.environ, "HOME": str(home)},
    )
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)  # type: ignore[arg-type]  # a plain dict
    context.set_default_timeout(WAIT_MS)
    try:
        yield context
    finally:
        browser.close()


@contextmanager
def lead_at(lan: LanBox, browser: Browser, url: str, size: str = "1280x800") -> Iterator[Screen]:
    """The kiosk with the lead signed in just now."""
    with screen(browser, url, SIZES[size]) as shown:
        token = lan.clinic.begin(lan.box.lead)
        shown.page.context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
        yield shown


def authority_of(lan: LanBox) -> Issued:
    made = lan.face._certificates
    assert made is not None
    return made.authority


def box_url(lan: LanBox) -> str:
    return f"https://{NAME}:{lan.face.port}"


def visit_with_a_picture(lan: LanBox) -> str:
    subject_id, encounter_id, capture_id = new_id(), new_id(), new_id()
    content = picture("sienna", (640, 480))
    subject = SubjectContent(pseudonym="lusab-babad", local_number="17", birth_year=1980, sex="female")
    lan.box.store.add_all(
        [
            (subject, subject_id, {}, None),
            (EncounterContent(reason="Grew since March"), encounter_id, {"subject_id": subject_id}, None),
            (described(content), capture_id, {"encounter_id": encounter_id}, content),
        ],
        lan.box.lead.user_id,
    )
    lan.box.store.add(NurseImpressionContent(urgency="routine"), lan.box.lead.user_id, encounter_id=encounter_id)
    statement = {"border": "irregular", "colours": ["black"], "description": "A single <b>dark</b> lesion."}
    said = AssessmentContent(statement=statement, raw_text=json.dumps(statement), model="demo")
    lan.box.store.add(said, None, encounter_id=encounter_id, capture_id=capture_id)
    return encounter_id


def keep_picture(page: Page, name: str) -> None:
    if folder := os.environ.get("DERMSTATION_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def sign_in(page: Page) -> None:
    page.get_by_label("Clinician").check()
    page.get_by_label("Your PIN").fill(PINS["clinician"])
    page.get_by_role("button", name="Sign in").tap()
    expect(page.get_by_role("heading", name=re.compile("Visits of today|The newest visits"))).to_be_visible()


def give_phone(lan: LanBox, context: BrowserContext) -> None:
    """Pair and sign in without the screens, for what comes afterwards."""
    paired = lan.signed_in()
    context.add_cookies(
        [
            {"name": name, "value": value, "url": box_url(lan), "secure": True, "httpOnly": True, "sameSite": "Strict"}
            for name, value in paired.cookies.items()
        ]
    )


def test_a_phone_is_paired_reads_a_visit_and_is_shut_out(
    lan: LanBox, kiosk_url: str, kiosk_browser: Browser, playwright_driver: Playwright, tmp_path: Path
) -> None:
    visit_with_a_picture(lan)
    with ExitStack() as stack:
        kiosk = stack.enter_context(lead_at(lan, kiosk_browser, kiosk_url))
        phone = stack.enter_context(phone_browser(playwright_driver, tmp_path, authority_of(lan))).new_page()
        kiosk.open("/devices")
        kiosk.page.get_by_role("button", name="Pair a phone").tap()
        expect(kiosk.page.get_by_role("img", name="Code for pairing")).to_be_visible()
        kiosk.keep_picture("kiosk-phone-codes")
        assert lan.face.pairing is not None
        offer = lan.face.pairing.offer
        assert offer is not None
        phone.goto(f"{box_url(lan)}/pair#{offer.token}")
        assert "#" not in phone.evaluate("location.href")
        phone.get_by_label("What is this phone called?").fill("Dr. Banda's phone")
        keep_picture(phone, "phone-pair")
        phone.get_by_role("button", name="Ask to be paired").tap()
        digits = phone.locator(".digits").inner_text()
        expect(kiosk.page.locator(".digits")).to_have_text(digits)
        kiosk.keep_picture("kiosk-phone-asks")
        kiosk.page.get_by_role("button", name="The same: pair it").tap()
        expect(kiosk.page.get_by_text("Dr. Banda's phone")).to_be_visible()
        expect(phone.get_by_role("heading", name="Sign in")).to_be_visible()
        keep_picture(phone, "phone-sign-in")
        sign_in(phone)
        keep_picture(phone, "phone-day")
        phone.get_by_text("No. 17").first.tap()
        expect(phone.get_by_text("A single <b>dark</b> lesion.")).to_be_visible()
        shown = phone.locator("article img")
        expect(shown).to_have_js_property("complete", value=True)
        assert shown.evaluate("image => image.naturalWidth") == 640
        keep_picture(phone, "phone-visit")
        kiosk.page.get_by_text("Dr. Banda's phone").tap()
        kiosk.keep_picture("kiosk-phone")
        kiosk.page.get_by_role("button", name="Shut this phone out").tap()
        expect(kiosk.page.get_by_role("heading", name="Phones")).to_be_visible()
        expect(kiosk.page.get_by_text("Dr. Banda's phone")).to_have_count(0)
        phone.reload()
        expect(phone.get_by_text("not paired with the box, or not any more")).to_be_visible()
        kiosk.assert_clean()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["day", "dim"])
def test_the_kiosks_screens_of_phones_fit(
    lan: LanBox, kiosk_url: str, kiosk_browser: Browser, size: str, theme: str
) -> None:
    assert lan.face.pairing is not None
    for number in range(3):
        devices.pair(lan.box.store, f"Phone {number}", lan.box.lead)
    with lead_at(lan, kiosk_browser, kiosk_url, size) as kiosk:
        kiosk.page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
        pages = {"phones": "/devices", "phone-codes": "/devices/pairing", "phone-asks": "/devices/pairing"}
        for name, path in pages.items():
            if name == "phone-codes":
                offer = lan.face.pairing.make_offer(lan.box.lead)
            if name == "phone-asks":
                lan.face.pairing.redeem(offer.token, "A phone with quite a long name, really", size + theme)
            kiosk.open(path)
            if theme == "dim":
                kiosk.page.evaluate("document.documentElement.dataset.theme = 'dim'")
            kiosk.keep_picture(f"kiosk-{name}-{size}-{theme}")
            for place in ("document.documentElement", "document.querySelector('main')"):
                fits = kiosk.page.evaluate(
                    f"(() => {{ const e = {place}; "
                    "return e.scrollHeight <= e.clientHeight + 1 && e.scrollWidth <= e.clientWidth + 1 })()"
                )
                assert fits, (name, place)
        lan.face.pairing.withdraw()
        kiosk.assert_clean()


def test_a_phone_with_the_authority_trusts_the_box_and_one_without_does_not(
    lan: LanBox, playwright_driver: Playwright, tmp_path: Path
) -> None:
    for has_authority in (True, False):
        home = tmp_path / str(has_authority)
        with phone_browser(playwright_driver, home, authority_of(lan) if has_authority else None) as context:
            page = context.new_page()
            if has_authority:
                page.goto(box_url(lan))
                expect(page.get_by_text("not paired")).to_be_visible()
            else:
                with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
                    page.goto(box_url(lan))


@contextmanager
def impostor(authority: Issued, names: tuple[str, ...], folder: Path) -> Iterator[int]:
    """A site of somebody who stole the authority's key."""
    leaf = make_leaf(authority, names, (), period_from(None, RELEASED_AT))
    (folder / "impostor.pem").write_bytes(key_pem(leaf.key) + leaf.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "impostor.pem")
    with site("<p>gotcha</p>", context) as port:
        yield port


@contextmanager
def site(page: str, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Another web site, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # browsers break off
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.05))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_a_stolen_authority_poses_as_no_other_site(lan: LanBox, playwright_driver: Playwright, tmp_path: Path) -> None:
    authority = authority_of(lan)
    with (
        phone_browser(playwright_driver, tmp_path / "home", authority, "bank.example") as context,
        impostor(authority, ("bank.example",), tmp_path) as port,
    ):
        page = context.new_page()
        with pytest.raises(Error, match="ERR_CERT"):
            page.goto(f"https://bank.example:{port}/")


def test_another_site_presses_no_button_and_sees_no_picture(
    lan: LanBox, playwright_driver: Playwright, tmp_path: Path
) -> None:
    encounter_id = visit_with_a_picture(lan)
    with phone_browser(playwright_driver, tmp_path, authority_of(lan)) as context:
        give_phone(lan, context)
        phone = context.new_page()
        phone.goto(f"{box_url(lan)}/visits/{encounter_id}")
        source = phone.locator("article img").get_attribute("src")
        attack = f"""<iframe name=inside src="{box_url(lan)}/"></iframe>
            <form id=f method=post action="{box_url(lan)}/sign-out" target=inside><input name=csrf_token value=x></form>
            <img src="{box_url(lan)}{source}" onload="document.title='seen'" onerror="document.title='nothing'">
            <script>fetch("{box_url(lan)}/sign-out", {{method: "POST", credentials: "include", mode: "no-cors"}});
            document.getElementById("f").submit();</script>"""
        with site(attack) as port:
            other = context.new_page()
            with other.expect_response(lambda answer: answer.request.method == "POST") as pressed:
                other.goto(f"http://{OTHER_SITE}:{port}/")
            assert pressed.value.status == 403
            expect(other).to_have_title("nothing")
            other.wait_for_load_state("networkidle")
            assert "No. 17" not in "".join(frame.content() for frame in other.frames if frame.url.startswith("https"))
        phone.reload()
        expect(phone.get_by_role("heading", name="No. 17")).to_be_visible()


def test_a_name_that_was_turned_to_the_box_shows_nothing(
    lan: LanBox, kiosk_url: str, playwright_driver: Playwright, tmp_path: Path
) -> None:
    """DNS rebinding: another site's name suddenly leads to the box."""
    with phone_browser(playwright_driver, tmp_path, authority_of(lan)) as context:
        give_phone(lan, context)
        with pytest.raises(Error, match="ERR_CERT_COMMON_NAME_INVALID"):
            context.new_page().goto(f"https://{OTHER_SITE}:{lan.face.port}/")
        page = context.new_page()
        answer = page.goto(f"http://{OTHER_SITE}:{lan.face.port}/")
        assert answer is not None
        assert (answer.status, "not encrypted" in answer.text()) == (200, True)
        at_kiosk = page.goto(f"http://{OTHER_SITE}:{kiosk_url.rpartition(':')[2]}/")
        assert at_kiosk is not None
        assert at_kiosk.status == 421


def test_the_box_is_the_only_one_a_phones_pages_speak_to(
    lan: LanBox, playwright_driver: Playwright, tmp_path: Path
) -> None:
    encounter_id, asked = visit_with_a_picture(lan), set()
    with phone_browser(playwright_driver, tmp_path, authority_of(lan)) as context:
        give_phone(lan, context)
        page = context.new_page()
        complaints: list[str] = []
        page.on("request", lambda request: asked.add(request.url.split("/")[2]))
        page.on("console", lambda message: complaints.append(message.text))
        for path in ("/", f"/visits/{encounter_id}", "/pair", "/sign-in"):
            page.goto(box_url(lan) + path)
        assert asked == {f"{NAME}:{lan.face.port}"}
        assert complaints == []
