"""Every screen in a real Chromium at both sizes: that it fits, that fingers can hit it, what it says when refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_browser import CHROMIUM, SIZES, Screen, screen, served
from kiosk_station import picture_folder, running_station
from playwright.sync_api import Browser, expect
from scripted_engine import ASSESSMENT, RunningEngine, ScriptedModel

from appliance.assessment import COLOURS, DESCRIPTION_MAX_LENGTH
from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.errors import CameraError
from appliance.service.station import Station
from appliance.types import Frame

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
]

TOUCH_PX = 48
PRIMARY_PX = 64
PHOTOS = 6
"""More than the list of kept photos shows at a time."""
_SENTENCE = "The edge fades on the upper left and is sharp on the right. "
LONGEST_ASSESSMENT = {
    **ASSESSMENT,
    "colours": list(COLOURS[:4]),
    "description": (_SENTENCE * 9)[:DESCRIPTION_MAX_LENGTH].strip(),
}
LONG_ANSWER = "The longest side is judged by eye, as there is no scale. Put a scale beside it and take another photo."
MISFITS = """(sizes) => {
  const [touch, primary] = sizes;
  const misfits = [];
  const page = document.scrollingElement;
  if (page.scrollWidth > innerWidth || page.scrollHeight > innerHeight) misfits.push("the page scrolls");
  for (const target of document.querySelectorAll("a, button, input:not([type=hidden])")) {
    if (!target.checkVisibility()) continue;
    const box = target.getBoundingClientRect();
    const name = target.textContent.trim() || target.id;
    if (box.width < touch - 0.1 || box.height < touch - 0.1) misfits.push(`${name}: ${box.width}x${box.height}`);
    if (target.classList.contains("is-primary") && box.height < primary - 0.1) misfits.push(`${name}: low`);
    if (box.left < -0.1 || box.top < -0.1 || box.right > innerWidth + 0.1 || box.bottom > innerHeight + 0.1)
      misfits.push(`${name}: cut off`);
    if (target.scrollWidth > target.clientWidth + 1 && target.tagName !== "INPUT") misfits.push(`${name}: too long`);
  }
  for (const part of document.querySelectorAll("main *, dialog[open] *")) {
    if (!part.checkVisibility() || part.closest(".unseen") !== null || part.id === "answers") continue;
    if (part.clientWidth > 0 && part.scrollWidth > part.clientWidth + 1) misfits.push(`${part.className}: too wide`);
    if (part.clientHeight > 0 && part.scrollHeight > part.clientHeight + 1) misfits.push(`${part.className}: too high`);
  }
  return misfits;
}"""


class PullableCamera:
    """A replay camera whose cable can be pulled."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.is_plugged = True

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        if not self.is_plugged:
            raise CameraError("The camera is not connected. Plug it in.")
        return self._camera.frame(after, timeout_s)

    def close(self) -> None:
        self._camera.close()


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def camera(tmp_path: Path) -> Camera | None:
    return None


@pytest.fixture
def station(model: ScriptedModel, camera: Camera | None, tmp_path: Path) -> Iterator[Station]:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with (
        RunningEngine(model, socket=tmp_path / "engine.sock") as engine,
        running_station(engine.client, picture_folder(pictures), camera) as station,
    ):
        assert station.watch.wait_ready(10)
        yield station


@pytest.fixture
def wide(browser: Browser, station: Station) -> Iterator[Screen]:
    with served(station) as url, screen(browser, url, SIZES["1280x800"]) as shown:
        yield shown


def assert_fits(shown: Screen, name: str) -> None:
    width = shown.page.viewport_size["width"] if shown.page.viewport_size else 0
    shown.keep_picture(f"fits-{name}-{width}")
    assert (name, shown.page.evaluate(MISFITS, [TOUCH_PX, PRIMARY_PX])) == (name, [])


def open_visit(shown: Screen) -> None:
    shown.open()
    shown.page.get_by_role("button", name="New photo").tap()
    shown.page.locator("#shutter:not([disabled])").wait_for()


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_fits_with_the_longest_words(
    browser: Browser, station: Station, model: ScriptedModel, size: str
) -> None:
    model.answer = json.dumps(LONGEST_ASSESSMENT)
    with served(station) as url, screen(browser, url, SIZES[size]) as shown:
        page = shown.page
        shown.open()
        assert_fits(shown, "home")
        open_visit(shown)
        assert_fits(shown, "capture")
        page.locator("#shutter").tap()
        expect(page.locator("#progress")).to_have_text("Done.")
        assert_fits(shown, "assessment")
        if size == "1280x800":
            assert page.evaluate("answers.scrollHeight <= answers.clientHeight"), "the nurse must scroll"
        for view in ("photo", "ask"):
            shown.show(view)
            assert_fits(shown, view)
        model.answer = LONG_ANSWER
        page.get_by_role("button", name="How large").tap()
        answer = page.locator(".answer").nth(1).locator(".text")
        expect(answer).to_have_text(LONG_ANSWER)
        expect(answer).to_be_in_viewport(ratio=1)
        assert_fits(shown, "follow-up")
        shown.show("ask")
        page.get_by_role("button", name="Other question").tap()
        assert_fits(shown, "keyboard")
        page.locator("#asking [data-closes]").tap()
        encounter = station.captures.current
        assert encounter is not None
        for _ in range(PHOTOS - 1):
            station.capture(encounter.encounter_id)
        page.get_by_role("link", name="Photos").tap()
        expect(page.locator(".photo:visible")).to_have_count(4)
        assert_fits(shown, "kept")
        page.get_by_role("button", name="Older").tap()
        expect(page.locator(".photo:visible")).to_have_count(PHOTOS - 4)
        page.get_by_role("button", name="Close visit").tap()
        assert_fits(shown, "closing")
        page.locator("#close-visit [data-closes]").tap()
        page.get_by_role("link", name="Home").tap()
        expect(page.get_by_role("link", name="Continue")).to_be_visible()
        assert_fits(shown, "home-open")
        shown.expected = ("404",)
        shown.open("/encounters/none")
        assert_fits(shown, "error")
        shown.assert_clean()


def test_refused_shutter_says_why_and_keeps_nothing(wide: Screen, station: Station) -> None:
    open_visit(wide)
    encounter = station.captures.current
    assert encounter is not None
    station.close_encounter(encounter.encounter_id)
    wide.expected = ("409", "404")
    wide.page.locator("#shutter").tap()
    expect(wide.page.locator("#trouble")).to_contain_text("visit")
    expect(wide.page.locator("#trouble")).to_be_in_viewport(ratio=1)
    expect(wide.page).to_have_url(f"{wide.url}/encounters/{encounter.encounter_id}")
    wide.keep_picture("refused-shutter")
    wide.assert_clean()


class TestWithAPullableCamera:
    @pytest.fixture
    def camera(self, tmp_path: Path) -> PullableCamera:
        folder = tmp_path / "replay"
        folder.mkdir()
        return PullableCamera(ReplayCamera(picture_folder(folder), frames_per_s=50, picture_s=60))

    def test_pulled_camera_is_said_in_words_and_comes_back_by_itself(
        self, wide: Screen, camera: PullableCamera
    ) -> None:
        wide.expected = ("503",)
        open_visit(wide)
        expect(wide.page.get_by_text("Sample pictures")).to_have_count(0)
        camera.is_plugged = False
        expect(wide.page.locator("#say")).to_have_text("The camera is not connected. Plug it in.")
        expect(wide.page.locator("#shutter")).to_be_disabled()
        expect(wide.page.locator('[data-part="camera"]')).to_have_attribute("data-state", "off")
        expect(wide.page.locator("#preview")).to_be_hidden()
        assert_fits(wide, "camera-pulled")
        camera.is_plugged = True
        expect(wide.page.locator("#shutter")).to_be_enabled()
        expect(wide.page.locator('[data-part="camera"]')).to_have_attribute("data-state", "ready")
        wide.assert_clean()


def test_key_is_the_shutter_even_after_a_touch_elsewhere(wide: Screen) -> None:
    open_visit(wide)
    with wide.page.expect_response("**/api/camera/next"):
        wide.page.get_by_role("button", name="Next picture").tap()
    wide.page.keyboard.press("Space")
    wide.page.wait_for_url("**/captures/*")
    wide.assert_clean()


def test_key_on_a_focused_button_presses_that_button(wide: Screen) -> None:
    open_visit(wide)
    wide.page.get_by_role("button", name="Close visit").focus()
    wide.page.keyboard.press("Enter")
    expect(wide.page.locator("#close-visit")).to_be_visible()
    wide.page.keyboard.press("Escape")
    expect(wide.page.locator("#close-visit")).to_be_hidden()
    assert "/captures/" not in wide.page.url


def test_hidden_live_picture_is_shown_before_anything_is_kept(browser: Browser, station: Station) -> None:
    with served(station) as url, screen(browser, url, SIZES["800x480"]) as shown:
        open_visit(shown)
        shown.show("kept")
        expect(shown.page.locator("#live")).to_be_hidden()
        shown.page.locator("#shutter").tap()
        expect(shown.page.locator("#live")).to_be_visible()
        assert "/captures/" not in shown.page.url
        shown.page.locator("#shutter").tap()
        shown.page.wait_for_url("**/captures/*")


def test_theme_is_changed_by_touch_and_remembered(wide: Screen) -> None:
    wide.open()
    expect(wide.page.locator("html")).to_have_attribute("data-theme", "day")
    wide.page.locator("#theme").tap()
    wide.page.reload()
    expect(wide.page.locator("html")).to_have_attribute("data-theme", "glare")
    assert wide.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [1, 0, ""]


def test_sentences_are_announced_whole(wide: Screen, model: ScriptedModel) -> None:
    wide.page.add_init_script(
        "window.heard = []; addEventListener('DOMContentLoaded', () => new MutationObserver(() =>"
        " heard.push(announcer.textContent)).observe(announcer, {childList: true, characterData: true}))"
    )
    model.answer = json.dumps({**ASSESSMENT, "description": "It is dark. It is raised."})
    wide.photograph()
    expect(wide.page.locator("#progress")).to_have_text("Done.")
    heard = wide.page.evaluate("heard")
    assert "Shape: asymmetric in two axes" in heard
    assert "It is raised." in heard
    assert "It" not in heard
