"""The nurse's whole series in a real Chromium: two cameras, firmware on a pty; by touch, by keyboard and by button."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from card_scenes import MISSING, PDFTOPPM
from kiosk_browser import CHROMIUM, SIZES, Screen, screen, served
from kiosk_station import until
from nurse_rig import NurseRig, card_picture, no_engine, nurse_rig
from playwright.sync_api import Browser, Locator, expect
from test_web_browser_screens import assert_fits

from appliance.config import ShotsConfig
from appliance.service.earlier import EarlierPhoto
from appliance.types import ShotKind

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
    pytest.mark.skipif(PDFTOPPM is None, reason=MISSING),
]
WIDE = SIZES["1280x800"]
ALL = [
    ("overview", "XC", None),
    ("close_up", "XC", None),
    ("dermoscopic_polarized", "DMS", "polarized"),
    ("dermoscopic_non_polarized", "DMS", "white"),
    ("lateral", "XC", None),
]


class VisitBefore:
    """The close-up of a visit half a year ago, when the lesion had 6 mm."""

    def newest(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
        if shot != "close_up":
            return None
        return EarlierPhoto(
            capture_id="e" * 32,
            content=card_picture(6.0, 3.0),
            media_type="image/jpeg",
            captured_at=datetime(2026, 5, 3, tzinfo=UTC),
            shot=shot,
        )


@contextmanager
def visit(
    browser: Browser, folder: Path, size: tuple[int, int] = WIDE, **options: object
) -> Iterator[tuple[NurseRig, Screen]]:
    with (
        nurse_rig(no_engine(folder), **options) as rig,  # type: ignore[arg-type] # as they are
        served(rig.station) as url,
        screen(browser, url, size) as shown,
    ):
        shown.open()
        shown.page.get_by_role("button", name="New photo").tap()
        ready(shown)
        yield rig, shown
        shown.assert_clean()


def ready(shown: Screen) -> Locator:
    shutter = shown.page.locator("#shutter:not([disabled])")
    shutter.wait_for(state="attached")
    return shutter


def wait_for_shot(shown: Screen, kind: ShotKind) -> None:
    shown.page.locator(f'[data-shot="{kind}"][aria-current="step"]').wait_for(state="attached")
    ready(shown)


def touch(shown: Screen, then: ShotKind | None) -> None:
    ready(shown).tap()
    if then is None:
        shown.page.locator("#assess.is-primary").wait_for()
    else:
        wait_for_shot(shown, then)


def shot(shown: Screen, kind: ShotKind) -> Locator:
    shown.show("shots")
    return shown.page.locator(f'[data-shot="{kind}"]')


@pytest.mark.parametrize("size", SIZES)
def test_series_by_touch(browser: Browser, tmp_path: Path, size: str) -> None:
    with visit(browser, tmp_path, SIZES[size]) as (rig, shown):
        page = shown.page
        expect(page.locator("#now")).to_have_text("Overview · 1 of 5")
        assert_fits(shown, "series-overview")
        touch(shown, "close_up")
        expect(page.locator('[data-meter="card"]')).to_have_attribute("data-state", "good")
        expect(page.locator("#say")).to_have_text("Good. Take the photo.")
        assert_fits(shown, "series-close-up")
        touch(shown, "dermoscopic_polarized")
        expect(page.locator("#lamp")).to_have_text("Polarised light, 60 %")
        expect(page.locator('[data-meter="contact"]')).to_have_attribute("data-state", "poor")
        rig.touch_skin()
        expect(page.locator('[data-meter="contact"]')).to_have_attribute("data-state", "good")
        expect(shown.page.locator('[data-part="camera"] [data-words]')).to_have_text("Dermatoscope ready")
        assert_fits(shown, "series-dermatoscope")
        touch(shown, "lateral")  # both in one press
        expect(shot(shown, "close_up")).to_contain_text("kept · 7.0 mm")
        assert_fits(shown, "series-list")
        page.locator("#skip").tap()
        page.locator("#assess.is-primary").wait_for()
        assert rig.kept() == ALL[:4]
        # One of them again, with the reason; the earlier one stays.
        shot(shown, "overview").tap()
        expect(page.locator("#shot-dialog")).to_be_visible()
        assert_fits(shown, "series-one-photo")
        page.get_by_role("button", name="It is not sharp").tap()
        wait_for_shot(shown, "overview")
        touch(shown, None)
        current = rig.station.captures.current
        assert current is not None
        again = rig.station.captures.images(current.encounter_id)[-1]
        assert (again.shot, again.retake_reason) == ("overview", "not_sharp")
        shown.show("live")
        expect(page.locator("#say")).to_have_text("All photos are taken: go on to Assess.")
        assert_fits(shown, "series-done")
        shown.show("shots")
        page.get_by_role("button", name="All: 5").tap()
        expect(page.locator("#photo-grid [data-capture]")).to_have_count(5)
        assert_fits(shown, "series-all-photos")
        page.locator("#photo-grid [data-capture]").last.tap()
        expect(page.locator("#shot-title")).to_have_text("Overview")
        page.keyboard.press("Escape")
        page.locator("#assess").tap()
        page.wait_for_selector("#model")
        images = rig.station.captures.images(current.encounter_id)
        assert [image.shot for image in images if image.capture_id in page.url] == ["close_up"]


def test_series_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    with visit(browser, tmp_path, has_quality=False) as (rig, shown):
        page = shown.page
        for key, then in ((" ", "close_up"), ("Enter", "dermoscopic_polarized"), (" ", "lateral")):
            page.keyboard.press(key)
            wait_for_shot(shown, then)  # type: ignore[arg-type] # of these
        page.keyboard.press("Enter")
        page.locator("#assess.is-primary").wait_for()
        assert rig.kept() == ALL
        # The list, the dialog and back without a finger.
        page.locator('[data-shot="lateral"]').focus()
        page.keyboard.press("Enter")
        expect(page.locator("#shot-dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#shot-dialog")).to_be_hidden()
        assert len(rig.kept()) == len(ALL), "a key in a dialog is no shutter"
        page.locator("#assess").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#model")


def test_series_by_the_buttons_in_the_hand(browser: Browser, tmp_path: Path) -> None:
    with visit(browser, tmp_path, has_quality=False) as (rig, shown):
        rig.press_grip()
        wait_for_shot(shown, "close_up")
        # Two presses of one movement of the hand are one photo.
        page = shown.page
        rig.press_body(rig.overview)
        rig.press_body(rig.overview)
        wait_for_shot(shown, "dermoscopic_polarized")
        rig.press_body(rig.dermatoscope)
        wait_for_shot(shown, "lateral")
        assert rig.kept() == ALL[:4]
        # Its button brings the dermatoscope's picture first; nothing of its is open, so the list stays where it is.
        until(lambda: rig.station.selected_camera == "overview")
        page.wait_for_timeout(800)
        rig.press_body(rig.dermatoscope)
        expect(page.locator("#trouble")).to_have_text("The dermatoscope is shown now. Press again to take the photo.")
        assert rig.kept() == ALL[:4]


def test_light_is_chosen_by_touch_and_its_loss_is_said_while_photos_go_on(browser: Browser, tmp_path: Path) -> None:
    shots = ShotsConfig(usual=("dermoscopic_polarized", "dermoscopic_non_polarized", "lateral"))
    with visit(browser, tmp_path, shots=shots, has_quality=False) as (rig, shown):
        page = shown.page
        expect(page.locator("#lamp")).to_have_text("Polarised light, 60 %")
        page.get_by_role("button", name="White", exact=True).tap()
        expect(page.locator("#lamp")).to_have_text("White light, 60 %")
        page.get_by_role("button", name="Darker").tap()
        expect(page.locator("#lamp")).to_have_text("White light, 40 %")
        expect(page.locator('[data-light="white"]')).to_have_attribute("aria-pressed", "true")
        rig.to_host.is_silent = rig.to_device.is_silent = True
        expect(page.locator("#lamp")).to_have_text("Light is starting")
        touch(shown, "dermoscopic_non_polarized")
        touch(shown, "lateral")
        assert [(kind, light) for kind, _, light in rig.kept()] == [
            ("dermoscopic_polarized", None),
            ("dermoscopic_non_polarized", None),
        ]


def test_earlier_photo_lies_over_the_live_one_and_the_change_is_shown(browser: Browser, tmp_path: Path) -> None:
    shots = ShotsConfig(usual=("close_up", "lateral"))
    rigged = visit(browser, tmp_path, shots=shots, earlier=VisitBefore(), has_lamp=False, has_quality=False)
    with rigged as (rig, shown):
        page = shown.page
        ghost, switch = page.locator("#ghost"), page.get_by_role("button", name="Earlier photo")
        expect(ghost).to_be_hidden()
        switch.tap()
        expect(ghost).to_be_visible()
        expect(switch).to_have_attribute("aria-pressed", "true")
        assert_fits(shown, "series-ghost")
        touch(shown, "lateral")
        expect(ghost).to_be_hidden()
        expect(switch).to_be_hidden()
        page.locator('[data-shot="close_up"][data-change]').tap()
        page.get_by_role("link", name="Compare").tap()
        expect(page.locator("#placing")).to_be_visible()
        expect(page.locator("#rows")).to_contain_text("6.0 mm then, 7.0 mm now: larger by 1.0 mm")
        expect(page.locator("#placed")).to_be_visible()
        assert_fits(shown, "series-change")
        page.get_by_role("button", name="Show it as taken").tap()
        expect(page.locator("#later")).to_be_visible()
        page.get_by_role("link", name="Photos").tap()
        ready(shown)
        page.locator('[data-shot="close_up"][data-card]').tap()
        page.get_by_role("link", name="Size and colour").tap()
        expect(page.locator(".told")).to_contain_text("7.0 mm, give or take 0.4 mm")
        assert (
            page.locator(".photo img").nth(1).evaluate("image => image.decode().then(() => image.naturalWidth)") == 960
        )
        assert_fits(shown, "series-card")
        current = rig.station.captures.current
        assert current is not None
        (image,) = rig.station.captures.images(current.encounter_id)
        assert b"frame " in image.content[:40], "the photo is the camera's"
