"""Erasing in a real Chromium, by touch: the plan, the lead's PIN, the second person's wrong and right one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_browser import CHROMIUM, Screen
from kiosk_records import LEAD_PIN, NURSE_PIN, KeptKiosk, add_user, kept_kiosk, sign_in
from playwright.sync_api import expect
from records_boxes import assess, visit
from scripted_engine import RunningEngine, ScriptedModel
from test_web_browser_visits import fits, shown

from appliance.records.backup import make_backup
from appliance.records.content import SubjectContent
from appliance.records.drafts import Drafts
from appliance.records.errors import ErasedError

__all__ = ["shown"]  # a fixture, with this file's kiosk
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Debian's chromium"),
]


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[KeptKiosk]:
    with RunningEngine(ScriptedModel()) as engine, kept_kiosk(engine.client, tmp_path) as found:
        yield found
        found.box.store.close()


def digits(shown: Screen, pin: str) -> None:
    for digit in pin:
        shown.page.locator(f'[data-digit="{digit}"]:visible').first.tap()


def test_two_people_erase_a_patient_by_touch(shown: Screen, kiosk: KeptKiosk, tmp_path: Path) -> None:
    """With everything that can stand on the page at once."""
    page, box = shown.page, kiosk.box
    shown.expected = ("403", "404")  # a wrong PIN, and a drawn photo that cannot be made small
    add_user(box, "Sister Ruth", "lead", "620814")
    gone = visit(box, "gone")
    assess(box, gone.encounter_id, "a mole")
    Drafts(box.store).save(gone.encounter_id, "visit", {}, kiosk.nurse.user_id)
    (tmp_path / "stick").mkdir()
    make_backup(box.store, tmp_path / "stick", label="stick B")
    (tmp_path / "records.before-120-1").mkdir()
    sign_in(shown, "Sister Asha", LEAD_PIN)
    shown.open(f"/patients/{gone.subject_id}")
    fits(shown, "erase-patient")
    page.get_by_role("link", name="Erase").tap()
    expect(page.get_by_text("1 visit, 22 Nov 2026")).to_be_visible()
    fits(shown, "erase-plan")
    page.get_by_text("Made by mistake").tap()
    page.get_by_role("button", name="Propose to erase").tap()
    page.wait_for_url("**/confirm")
    fits(shown, "erase-confirm")
    page.locator("[data-user]", has_text="Nurse Thandi").tap()
    digits(shown, "000001")
    expect(page.locator("[data-say]")).to_contain_text("Wait")
    assert box.store.get(SubjectContent, gone.subject_id).revision == 1
    page.locator("[data-user]", has_text="Sister Ruth").tap()
    digits(shown, "620814")
    page.wait_for_url("**/erased")
    fits(shown, "erase-done")
    with pytest.raises(ErasedError):
        box.store.get(SubjectContent, gone.subject_id)
    ((detail,),) = box.store.saver.connection.execute("SELECT detail FROM audit WHERE action = 'erased'").fetchall()
    assert detail.startswith("by-mistake, witness ")


@pytest.mark.parametrize("shown", ["800x480"], indirect=True)
def test_what_came_between_is_said_on_the_page(shown: Screen, kiosk: KeptKiosk) -> None:
    page, gone = shown.page, visit(kiosk.box, "gone")
    sign_in(shown, "Sister Asha", LEAD_PIN)
    shown.open(f"/patients/{gone.subject_id}/erase")
    page.get_by_role("button", name="Propose to erase").tap()
    page.wait_for_url("**/confirm")
    shown.expected = ("507",)
    with kiosk.box.store.backing_up:
        digits(shown, NURSE_PIN)  # the only one who may is chosen already
        expect(page.locator("#trouble")).to_have_text("A backup is being written; erase when it is done.")
        fits(shown, "erase-refused")
    page.get_by_role("button", name="Do not erase").tap()
    expect(page.get_by_text("born 1980 for good?")).to_be_visible()
    assert kiosk.box.store.get(SubjectContent, gone.subject_id).revision == 1
