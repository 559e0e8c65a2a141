"""Key fobs and the box PIN at the screen: offered, used, warned of, shut out; sticks that misbehave hold nobody up."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kiosk_door import Door
from records_boxes import LEAD_PIN
from software_tpm import needs_tpm, software_tpm
from sticks import Sticks, stick_folder

from appliance.host.sticks import mounted_sticks
from appliance.host.tpm import TRIES_MAX, Tpm
from appliance.records import audit
from appliance.records.errors import ForbiddenError, LockedError, MissingError, ThrottledError, WrongSecretError
from appliance.records.fob_file import FOB_NAME
from appliance.service.box_pin import BoxPin
from appliance.service.clinic import Clinic
from appliance.service.key_fobs import PUT_TO_USE, TAKE_OUT, KeyFobs
from appliance.service.unlocking import Unlocking

BOX_PIN = "907153"
LATER_S = 2.0


@dataclass(kw_only=True)
class Keys:
    """A box with its lead signed in, sticks, and the two services."""

    door: Door
    sticks: Sticks
    clinic: Clinic
    unlocking: Unlocking
    fobs: KeyFobs

    def make(self, stick: Path, name: str = "Asha's fob") -> None:
        self.fobs.make(self.door.box.made.sheets[0], str(stick), name)

    def later(self) -> None:
        """Time for the next look at the sticks."""
        self.door.box.clock.passed_s += LATER_S

    def lock(self) -> None:
        self.door.box.store.lock()

    @property
    def is_open(self) -> bool:
        return self.door.box.store.is_unlocked

    def last(self) -> tuple[str, str, str | None]:
        *_, entry = audit.entries(self.door.box.store.saver.connection)
        return entry.action, entry.detail, entry.operator_id


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with stick_folder() as folder:
        door = Door(tmp_path)
        sticks = Sticks(folder, tmp_path / "mountinfo")
        clinic = door.kiosk.clinic
        clinic.sign_in(door.lead_id, LEAD_PIN)
        unlocking = Unlocking(clinic)
        fobs = KeyFobs(clinic, unlocking, (str(folder),), mounts=sticks.mounts)
        yield Keys(door=door, sticks=sticks, clinic=clinic, unlocking=unlocking, fobs=fobs)
        door.box.store.close()


def test_fob_is_offered_opens_and_is_asked_to_be_taken_out(keys: Keys) -> None:
    stick = keys.sticks.put_in("SMALL")
    assert keys.fobs.in_box().state == "none"
    keys.make(stick)
    keys.lock()
    keys.later()
    assert (keys.fobs.in_box().state, keys.fobs.in_box().words) == ("ready", "Asha's fob")
    assert keys.clinic.words_of_fob() == PUT_TO_USE
    keys.fobs.unlock()
    assert keys.is_open
    action, detail, who = keys.last()
    assert (action, detail.split()[0], who) == ("unlocked", "fob", keys.door.lead_id)
    assert keys.clinic.words_of_fob() == TAKE_OUT
    keys.sticks.pull_out(stick)
    keys.later()
    assert keys.clinic.words_of_fob() == ""
    assert keys.is_open, "the day goes on without the fob"


def test_fob_that_was_pulled_out_opens_nothing_and_says_so(keys: Keys) -> None:
    stick = keys.sticks.put_in("SMALL")
    keys.make(stick)
    keys.lock()
    keys.later()
    assert keys.fobs.in_box().state == "ready"
    keys.sticks.pull_out(stick)
    with pytest.raises(MissingError, match="Put it into the box"):
        keys.fobs.unlock()
    assert not keys.is_open
    keys.sticks.put_back(stick)
    keys.fobs.unlock()
    assert keys.is_open


def test_own_fob_is_found_beside_foreign_and_damaged_ones(keys: Keys) -> None:
    (keys.sticks.put_in("AAA") / FOB_NAME).write_bytes(b"damaged")
    assert "damaged" in keys.fobs.in_box().words
    keys.make(keys.sticks.put_in("BBB"))
    (keys.sticks.put_in("CCC") / FOB_NAME).write_bytes(b"damaged")
    keys.lock()
    keys.later()
    assert keys.fobs.in_box().words == "Asha's fob"
    keys.fobs.unlock()
    assert keys.is_open


def test_revoked_fob_opens_nothing(keys: Keys) -> None:
    stick = keys.sticks.put_in("SMALL")
    keys.make(stick)
    (held,) = keys.fobs.listed()
    keys.fobs.revoke(held.slot.slot_id)
    assert keys.last() == ("fob-revoked", held.slot.slot_id, keys.door.lead_id)
    keys.lock()
    assert "not on this box's list" in keys.fobs.in_box().words
    with pytest.raises(WrongSecretError, match="not on this box's list"):
        keys.fobs.unlock()
    assert not keys.is_open
    with pytest.raises(MissingError):
        keys.fobs.revoke(held.slot.slot_id)


def test_only_a_lead_makes_and_shuts_out(keys: Keys, tmp_path: Path) -> None:
    stick = keys.sticks.put_in("SMALL")
    keys.make(stick)
    (held,) = keys.fobs.listed()
    keys.door.nurse_signs_in()
    pin = BoxPin(keys.clinic, keys.unlocking, Tpm())
    acts: list[Callable[[], None]] = [
        lambda: keys.make(keys.sticks.put_in("OTHER"), "another"),
        lambda: keys.fobs.revoke(held.slot.slot_id),
        lambda: pin.turn_on(keys.door.box.made.sheets[0], BOX_PIN),
        pin.turn_off,
    ]
    for act in acts:
        with pytest.raises(ForbiddenError):
            act()
    assert keys.fobs.listed() == (held,)
    keys.lock()
    keys.fobs.unlock()
    assert keys.last()[2] == keys.door.nurse_id


def test_guesses_at_the_phrase_for_a_fob_are_slowed_down(keys: Keys) -> None:
    stick = keys.sticks.put_in("SMALL")
    with pytest.raises(WrongSecretError):
        keys.fobs.make("babab-babab-babab-babab", str(stick), "fob")
    with pytest.raises(ThrottledError):
        keys.make(stick)
    assert list(stick.iterdir()) == []
    keys.later()
    keys.make(stick)
    with pytest.raises(MissingError, match="not in any more"):
        keys.fobs.make(keys.door.box.made.sheets[0], str(stick) + "x", "fob")


def test_stick_that_hangs_holds_no_page_up(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.make(keys.sticks.put_in("SMALL"))
    assert keys.clinic.words_of_fob() == TAKE_OUT
    let_go, looks = threading.Event(), []
    look = mounted_sticks

    def hanging(*args: object) -> object:
        looks.append(1)
        let_go.wait(60)
        return look(*args)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr("appliance.service.key_fobs.mounted_sticks", hanging)
    started_s = time.monotonic()
    for _ in range(5):
        keys.later()
        assert keys.clinic.words_of_fob() == TAKE_OUT
    assert time.monotonic() - started_s < 30
    assert len(looks) == 1, "one thread waits, however many pages are asked for"
    let_go.set()


class TestBoxPin:
    pytestmark = needs_tpm

    def test_chip_opens_for_the_box_pin_and_for_no_other(self, keys: Keys, tmp_path: Path) -> None:
        sheet = keys.door.box.made.sheets[0]
        with software_tpm(tmp_path / "chip") as chip:
            pin = BoxPin(keys.clinic, keys.unlocking, chip)
            assert (pin.trouble(), pin.slot()) == ("", None)
            for easy in ("123456", "12345", "words!"):
                with pytest.raises(WrongSecretError):
                    pin.turn_on(sheet, easy)
            pin.turn_on(sheet, BOX_PIN)
            assert keys.last()[0] == "chip-on"
            keys.lock()
            with pytest.raises(WrongSecretError, match="box PIN is wrong"):
                pin.unlock("482916")
            with pytest.raises(ThrottledError, match="try again in"):
                pin.unlock(BOX_PIN)
            keys.later()
            pin.unlock(BOX_PIN)
            assert keys.is_open
            assert keys.last()[1].startswith("tpm ")
            pin.turn_off()
            keys.lock()
            with pytest.raises(MissingError, match="off"):
                pin.unlock(BOX_PIN)
            with pytest.raises(MissingError):
                pin.turn_off()
        assert not keys.is_open

    def test_new_box_pin_takes_the_place_of_the_old_one(self, keys: Keys, tmp_path: Path) -> None:
        sheet = keys.door.box.made.sheets[0]
        with software_tpm(tmp_path / "chip") as chip:
            pin = BoxPin(keys.clinic, keys.unlocking, chip)
            pin.turn_on(sheet, BOX_PIN)
            pin.turn_on(sheet, "518274")
            assert len(keys.door.box.store.held_slots("tpm")) == 1
            keys.lock()
            with pytest.raises(WrongSecretError):
                pin.unlock(BOX_PIN)
            keys.later()
            pin.unlock("518274")
            assert keys.is_open

    def test_lock_out_of_the_chip_is_said_and_a_sheet_opens(self, keys: Keys, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            pin = BoxPin(keys.clinic, keys.unlocking, chip)
            pin.turn_on(keys.door.box.made.sheets[0], BOX_PIN)
            keys.lock()
            for _ in range(TRIES_MAX):
                with pytest.raises(WrongSecretError):
                    pin.unlock("482916")
                keys.door.box.clock.passed_s += 301
                keys.clinic.touch()
                keys.clinic.sign_in(keys.door.lead_id, LEAD_PIN)
            with pytest.raises(ThrottledError, match="Too many wrong box PINs") as waits:
                pin.unlock(BOX_PIN)
            assert waits.value.wait_s == 600
            keys.unlocking.unlock(keys.door.box.made.sheets[1])
            assert keys.is_open

    def test_disk_in_another_box_or_a_cleared_chip_opens_by_sheet_only(self, keys: Keys, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            BoxPin(keys.clinic, keys.unlocking, chip).turn_on(keys.door.box.made.sheets[0], BOX_PIN)
        keys.lock()
        with software_tpm(tmp_path / "other") as other:
            with pytest.raises(LockedError, match="another box"):
                BoxPin(keys.clinic, keys.unlocking, other).unlock(BOX_PIN)
            assert not keys.is_open
            keys.unlocking.unlock(keys.door.box.made.sheets[0])
            assert keys.is_open

    def test_box_whose_chip_is_gone_says_so(self, keys: Keys, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            pin = BoxPin(keys.clinic, keys.unlocking, chip)
            pin.turn_on(keys.door.box.made.sheets[0], BOX_PIN)
        keys.lock()
        sheet = keys.door.box.made.sheets[0]
        acts: list[Callable[[], None]] = [lambda: pin.unlock(BOX_PIN), lambda: pin.turn_on(sheet, BOX_PIN)]
        for act in acts:
            with pytest.raises(LockedError, match="does not answer"):
                act()
        assert len(keys.door.box.store.held_slots("tpm")) == 1
        pin.turn_off()
        assert keys.door.box.store.held_slots() == ()
