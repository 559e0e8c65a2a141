"""Who is at the screen: idleness by a clock that obeys, a lock while a photo is on its way, another nurse, nobody."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_station import ObedientCamera, until
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, Box, new_box

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.errors import ForbiddenError, ThrottledError, WrongSecretError
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.sessions import LONGEST_S
from appliance.service.clinic import EMERGENCY, Clinic
from appliance.service.errors import EncounterClosedError, SignedOutError
from appliance.service.station import Station
from appliance.service.unlocking import Unlocking
from appliance.service.visits import Visits

PIN = "730164"


class Desk:
    """A clinic with a nurse, its station, and an obedient camera."""

    def __init__(self, folder: Path) -> None:
        self.box: Box = new_box(folder / "records")
        self.clock: ManualClock = self.box.clock
        self.nurse_id = People(self.box.store, clock=self.clock).add("Nurse", "nurse", PIN, self.box.lead).user_id
        self.lead_id = self.box.lead.user_id
        self.clinic = Clinic(Opening(state="ready", found="", store=self.box.store), clock=self.clock)
        self.camera = ObedientCamera(self.clock)
        engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
        visits = Visits(self.clinic.records, self.clinic.operator)
        self.station = Station(self.camera, engine, visits=visits, clock=self.clock)
        self.clinic.attach(self.station)

    def nurse_signs_in(self) -> str:
        return self.clinic.sign_in(self.nurse_id, PIN)

    def lead_signs_in(self) -> str:
        return self.clinic.sign_in(self.lead_id, LEAD_PIN)

    def open_visit(self) -> str:
        encounter_id = self.station.open_encounter().encounter_id
        self.camera.take()
        return encounter_id

    def is_open(self) -> bool:
        return self.clinic.user is not None

    def state(self) -> str:
        return self.clinic.state

    def photos(self) -> int:
        return len(self.box.store.photo_ids())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.box.store.close()


def test_before_anybody_signed_in_no_photo_is_taken(desk: Desk) -> None:
    encounter_id = desk.open_visit()
    with pytest.raises(EncounterClosedError, match="locked"):
        desk.station.capture(encounter_id)
    assert (desk.clinic.state, desk.clinic.user, desk.photos()) == ("signed-out", None, 0)
    with pytest.raises(SignedOutError):
        desk.clinic.operator()


def test_a_photo_carries_who_took_it(desk: Desk) -> None:
    desk.nurse_signs_in()
    desk.station.capture(desk.open_visit())
    connection = desk.box.store.saver.connection
    last = connection.execute("SELECT operator_id FROM audit WHERE action = 'added' ORDER BY sequence DESC").fetchone()
    assert last[0] == desk.nurse_id
    assert (desk.clinic.state, desk.photos()) == ("open", 1)


def test_the_screen_locks_after_three_minutes_without_a_touch(desk: Desk) -> None:
    desk.nurse_signs_in()
    encounter_id = desk.open_visit()
    for _ in range(5):
        desk.clock.passed_s += 179
        desk.clinic.touch()
    assert desk.is_open()
    desk.clock.passed_s += 180
    # Nobody has told the station yet, and still no photo is kept in anybody's name.
    desk.camera.take()
    assert not desk.is_open()
    with pytest.raises(SignedOutError):
        desk.station.capture(encounter_id)
    desk.clinic.tick()
    with pytest.raises(EncounterClosedError, match="locked"):
        desk.station.capture(encounter_id)
    assert desk.photos() == 0


def test_touching_a_locked_screen_does_not_unlock_it(desk: Desk) -> None:
    desk.nurse_signs_in()
    desk.clinic.lock()
    desk.clinic.touch()
    assert not desk.is_open()


def test_a_clock_that_goes_back_prolongs_nothing(desk: Desk) -> None:
    desk.nurse_signs_in()
    desk.clock.passed_s -= 1
    assert not desk.is_open()


def test_a_session_ends_after_twelve_hours_however_busy(desk: Desk) -> None:
    desk.nurse_signs_in()
    for _ in range(round(LONGEST_S / 170)):
        desk.clock.passed_s += 170
        desk.clinic.touch()
    assert desk.is_open()
    desk.clock.passed_s += 170
    assert not desk.is_open()


def test_the_same_nurse_goes_on_where_she_was(desk: Desk) -> None:
    desk.nurse_signs_in()
    encounter_id = desk.open_visit()
    desk.clinic.page = f"/encounters/{encounter_id}"
    desk.clinic.lock()
    desk.nurse_signs_in()
    current = desk.station.captures.current
    assert (desk.clinic.page, current and current.encounter_id) == (f"/encounters/{encounter_id}", encounter_id)
    desk.camera.take()
    desk.station.capture(encounter_id)
    assert desk.photos() == 1


def test_what_the_camera_saw_while_it_was_locked_is_not_kept(desk: Desk) -> None:
    desk.nurse_signs_in()
    encounter_id = desk.open_visit()
    desk.clinic.lock()
    desk.camera.take()
    desk.nurse_signs_in()
    with pytest.raises(Exception, match="kept"):
        desk.station.capture(encounter_id)
    assert desk.photos() == 0


@pytest.mark.parametrize("is_locked_first", [True, False])
def test_another_nurse_never_sees_the_visit_of_the_one_before(desk: Desk, is_locked_first: bool) -> None:
    mine = desk.nurse_signs_in()
    encounter_id = desk.open_visit()
    desk.station.capture(encounter_id)
    desk.clinic.page = f"/encounters/{encounter_id}"
    if is_locked_first:
        desk.clinic.lock()
        assert desk.clinic.owner_of_visit == "Nurse"
    desk.lead_signs_in()
    assert (desk.station.captures.current, desk.clinic.page) == (None, "/")
    assert not desk.clinic.is_token(mine)
    assert desk.photos() == 1


def test_without_a_pin_photos_are_taken_and_nothing_else(desk: Desk) -> None:
    desk.nurse_signs_in()
    desk.open_visit()
    desk.clinic.lock()
    desk.clinic.begin_emergency()
    assert desk.station.captures.current is None
    assert (desk.clinic.user, desk.clinic.operator(), desk.clinic.session.user_id) == (None, None, EMERGENCY)
    assert desk.clinic.may("capture")
    assert [one for one in ("read", "assess", "people", "backup") if desk.clinic.may(one)] == []
    with pytest.raises(SignedOutError):
        desk.clinic.require("capture")
    desk.station.capture(desk.open_visit())
    assert desk.photos() == 1
    desk.nurse_signs_in()
    assert desk.station.captures.current is None


def test_whoever_comes_without_a_pin_sees_nothing_of_the_one_who_did_before(desk: Desk) -> None:
    desk.clinic.begin_emergency()
    encounter_id = desk.open_visit()
    desk.clinic.page = f"/encounters/{encounter_id}"
    desk.clock.passed_s += 181
    desk.clinic.begin_emergency()
    assert (desk.station.captures.current, desk.clinic.page) == (None, "/")


def test_a_lock_while_a_photo_is_on_its_way_discards_it(desk: Desk) -> None:
    """The camera is asked, then the screen locks, then the frame comes."""
    desk.nurse_signs_in()
    encounter_id = desk.open_visit()
    asked, locked = threading.Event(), threading.Event()
    newest = desk.camera.frame

    def slow(after: int, timeout_s: float) -> object:
        asked.set()
        locked.wait(10)
        return newest(after, timeout_s)

    desk.camera.frame = slow  # type: ignore[method-assign,assignment]  # the camera's own delay
    refused: list[Exception] = []

    def press() -> None:
        try:
            desk.station.capture(encounter_id)
        except (EncounterClosedError, SignedOutError) as error:
            refused.append(error)

    thread = threading.Thread(target=press)
    thread.start()
    assert asked.wait(10)
    desk.clinic.lock()
    locked.set()
    thread.join(10)
    assert (len(refused), desk.photos()) == (1, 0)


def test_locks_and_shutters_in_any_order_keep_nothing_while_locked(desk: Desk, seed: int) -> None:
    """Randomised: a photo is kept exactly when its shutter fired at an open screen with its visit."""
    rng, kept = random.Random(seed), 0
    desk.nurse_signs_in()
    encounter_id, is_mine = desk.open_visit(), True
    for _ in range(150):
        match rng.randrange(5):
            case 0:
                desk.clinic.lock()
            case 1:
                desk.clock.passed_s += 181
            case 2:
                desk.nurse_signs_in()
                if not is_mine:
                    encounter_id, is_mine = desk.open_visit(), True
            case 3 if rng.random() < 0.3:
                desk.lead_signs_in()
                is_mine = False
            case _:
                desk.camera.take()
                is_open = desk.is_open() and is_mine
                try:
                    desk.station.capture(encounter_id)
                except (EncounterClosedError, SignedOutError):
                    assert not is_open
                else:
                    assert is_open
                    kept += 1
    assert desk.photos() == kept > 0


def test_the_watch_locks_by_itself(desk: Desk) -> None:
    with desk.clinic:
        desk.nurse_signs_in()
        encounter_id = desk.open_visit()
        desk.clock.passed_s += 181
        until(lambda: desk.station.captures._is_locked)
        with pytest.raises(EncounterClosedError):
            desk.station.capture(encounter_id)


def test_the_phrase_is_guessed_slowly(desk: Desk) -> None:
    unlocking = Unlocking(desk.clinic)
    desk.box.store.lock()
    desk.nurse_signs_in()
    assert desk.state() == "locked"
    for wrong in range(4):
        with pytest.raises(WrongSecretError):
            unlocking.unlock("babab babab babab babab")
        with pytest.raises(ThrottledError):
            unlocking.unlock(desk.box.made.phrase)
        desk.clock.passed_s += 2.0**wrong
    unlocking.unlock(desk.box.made.phrase.replace("-", " "))
    assert desk.state() == "open"
    unlocking.lock_everything()
    assert (desk.state(), desk.box.store.is_unlocked) == ("signed-out", False)


def test_guesses_at_the_sign_in_screen_do_not_keep_the_nurse_waiting(desk: Desk) -> None:
    unlocking = Unlocking(desk.clinic)
    desk.box.store.lock()
    for wrong in range(6):
        with pytest.raises(WrongSecretError):
            unlocking.reset_lead_pin(desk.lead_id, "babab babab babab babab", "918273")
        desk.clock.passed_s += 2.0**wrong
    with pytest.raises(WrongSecretError):
        unlocking.reset_lead_pin(desk.lead_id, "babab babab babab babab", "918273")
    with pytest.raises(ThrottledError):
        unlocking.reset_lead_pin(desk.lead_id, desk.box.made.phrase, "918273")
    desk.nurse_signs_in()
    unlocking.unlock(desk.box.made.phrase)
    assert desk.state() == "open"


def test_a_lead_who_is_closed_out_comes_back_by_a_sheet(desk: Desk) -> None:
    unlocking, people = Unlocking(desk.clinic), desk.clinic.people
    assert people is not None
    for _ in range(20):
        desk.clock.passed_s += 301
        with pytest.raises(WrongSecretError):
            people.sign_in(desk.lead_id, "000111")
    assert people.wait_s(desk.lead_id) is None
    with pytest.raises(ForbiddenError):
        unlocking.reset_lead_pin(desk.nurse_id, desk.box.made.sheets[1], "918273")
    unlocking.reset_lead_pin(desk.lead_id, desk.box.made.sheets[1], "918273")
    desk.clinic.sign_in(desk.lead_id, "918273")
    assert desk.is_open()
