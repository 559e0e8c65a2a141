"""The live sentence and the gate in a real Chromium: what the nurse reads, touches, and what is kept then."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from degraded_photos import blurred, jpeg, photo
from kiosk_browser import CHROMIUM, SIZES, Screen, screen, served
from playwright.sync_api import Browser, expect
from scripted_engine import RunningEngine, ScriptedModel
from test_web_browser_screens import assert_fits

from appliance.camera.replay import ReplayCamera
from appliance.config import QualityConfig
from appliance.service.live_quality import LiveQuality
from appliance.service.station import Station

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
]


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """Show a blurred picture first, and a sharp one after "Next picture"."""
    sharp = photo().crop((300, 300, 1260, 840))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "0.jpg").write_bytes(jpeg(blurred(12)(sharp, np.random.default_rng(1))))
    (pictures / "1.jpg").write_bytes(jpeg(sharp))
    camera = ReplayCamera(pictures, frames_per_s=20, picture_s=600)
    with (
        RunningEngine(ScriptedModel(), socket=tmp_path / "engine.sock") as engine,
        Station(camera, engine.client, quality=LiveQuality(QualityConfig())) as station,
    ):
        assert station.watch.wait_ready(10)
        yield station


def open_visit(shown: Screen) -> None:
    shown.open()
    shown.page.get_by_role("button", name="New photo").tap()
    shown.page.locator("#shutter:not([disabled])").wait_for()


@pytest.mark.parametrize("size", SIZES)
def test_sentence_follows_the_picture_and_a_poor_photo_is_kept_for_a_reason(
    browser: Browser, station: Station, size: str
) -> None:
    with served(station) as url, screen(browser, url, SIZES[size]) as shown:
        shown.expected = ("409",)
        open_visit(shown)
        say = shown.page.locator("#say")
        expect(say).to_have_text("Not sharp: move a little closer or away.")
        assert_fits(shown, "quality-poor")
        shown.page.locator("#shutter").tap()
        dialog = shown.page.locator("#keep-anyway")
        expect(dialog).to_be_visible()
        expect(dialog).to_contain_text("Not sharp")
        assert_fits(shown, "keep-anyway")
        current = station.captures.current
        assert current is not None
        assert station.captures.images(current.encounter_id) == ()
        # Taken again: the live picture goes on, and nothing was kept.
        dialog.get_by_role("button", name="Take it again").tap()
        expect(dialog).to_be_hidden()
        shown.page.locator("#shutter:not([disabled])").tap()
        expect(dialog).to_be_visible()
        dialog.get_by_role("button", name="The patient cannot hold still").tap()
        shown.page.wait_for_selector("#model")
        (image,) = station.captures.images(current.encounter_id)
        assert (image.quality, image.keep_reason) == ("quality.blurred", "patient_moves")
        shown.assert_clean()


def test_good_picture_is_praised_and_kept_at_the_first_press(browser: Browser, station: Station) -> None:
    with served(station) as url, screen(browser, url, SIZES["1280x800"]) as shown:
        open_visit(shown)
        shown.page.get_by_role("button", name="Next picture").tap()
        expect(shown.page.locator("#say")).to_have_text("Good. Take the photo.")
        shown.keep_picture("quality-good-1280")
        shown.page.keyboard.press(" ")
        shown.page.wait_for_selector("#model")
        current = station.captures.current
        assert current is not None
        (image,) = station.captures.images(current.encounter_id)
        assert (image.quality, image.keep_reason) == ("quality.good", None)
        shown.assert_clean()


def test_escape_means_another_photo(browser: Browser, station: Station) -> None:
    with served(station) as url, screen(browser, url, SIZES["1280x800"]) as shown:
        shown.expected = ("409",)
        open_visit(shown)
        shown.page.keyboard.press("Enter")
        expect(shown.page.locator("#keep-anyway")).to_be_visible()
        shown.page.keyboard.press("Escape")
        expect(shown.page.locator("#keep-anyway")).to_be_hidden()
        shown.page.locator("#shutter:not([disabled])").wait_for()
        shown.assert_clean()
