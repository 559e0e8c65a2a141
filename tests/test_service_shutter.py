"""Every button ends in the call that a touch makes, for the visit that it was pressed in, or in one sentence."""

import threading
import time
from pathlib import Path

import pytest
from kiosk_station import WAIT_S, ManualClock, ObedientCamera, camera_set, until

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.shooting import Taken
from appliance.service.shutter import PRESS_MAX_AGE_S, ButtonListener, Press, Shutter
from appliance.service.station import Station
from firmware_bridge.client import Dermatoscope
from firmware_bridge.codes import Inputs
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import SimulatedPort


def no_engine(folder: Path) -> EngineClient:
    return EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def camera(clock: ManualClock) -> ObedientCamera:
    return ObedientCamera(clock)


@pytest.fixture
def station(camera: ObedientCamera, clock: ManualClock, tmp_path: Path) -> Station:
    """A station that is not started: what its threads would do, a test does."""
    return Station(camera, no_engine(tmp_path), clock=clock)


def pressed(clock: ManualClock, age_s: float = 0.0) -> Press:
    return Press(source="foot", pressed_s=clock.passed_s - age_s)


def test_press_keeps_a_photo_for_the_visit_on_the_screen(
    station: Station, camera: ObedientCamera, clock: ManualClock
) -> None:
    encounter = station.open_encounter()
    frame = camera.take()
    station.frame(-1, 0)
    outcome = station.shutter.handle(pressed(clock))
    assert outcome.image is not None
    assert outcome.image.content == frame.content
    assert station.captures.images(encounter.encounter_id) == (outcome.image,)


def test_press_from_before_the_visit_keeps_nothing(
    station: Station, camera: ObedientCamera, clock: ManualClock
) -> None:
    press = pressed(clock)
    clock.passed_s += 0.1
    encounter = station.open_encounter()
    camera.take()
    outcome = station.shutter.handle(press)
    assert outcome.sentence == "The button was pressed before this visit was opened; no photo was kept."
    assert station.captures.images(encounter.encounter_id) == ()


def test_press_without_a_visit_or_on_a_locked_screen_says_so(
    station: Station, camera: ObedientCamera, clock: ManualClock
) -> None:
    assert "No visit is open" in str(station.shutter.handle(pressed(clock)).sentence)
    encounter = station.open_encounter()
    camera.take()
    station.captures.lock_screen()
    assert "locked" in str(station.shutter.handle(pressed(clock)).sentence)
    clock.passed_s += 0.1
    station.captures.unlock_screen()
    assert "before this visit" in str(station.shutter.handle(pressed(clock, age_s=0.05)).sentence)
    assert station.captures.images(encounter.encounter_id) == ()


def test_old_press_is_nobodys(station: Station, camera: ObedientCamera, clock: ManualClock) -> None:
    station.open_encounter()
    clock.passed_s += 1
    camera.take()
    station.frame(-1, 0)
    assert station.shutter.handle(pressed(clock, PRESS_MAX_AGE_S + 0.01)).number == 0
    assert station.shutter.handle(pressed(clock, PRESS_MAX_AGE_S - 0.01)).image is not None


def test_nothing_is_kept_while_the_live_picture_is_not_shown(
    station: Station, camera: ObedientCamera, clock: ManualClock
) -> None:
    encounter = station.open_encounter()
    camera.take()
    station.frame(-1, 0)
    clock.passed_s += 1.1
    camera.take()
    assert "live picture is not on the screen" in str(station.shutter.handle(pressed(clock)).sentence)
    assert station.captures.images(encounter.encounter_id) == ()


def test_button_of_a_camera_that_is_not_shown_shows_it_first(clock: ManualClock, tmp_path: Path) -> None:
    cameras, by_role = camera_set(clock)
    station = Station(cameras, no_engine(tmp_path), clock=clock)
    station.open_encounter()
    for camera in by_role.values():
        camera.take()
    station.frame(-1, 0)
    press = Press(source="camera", pressed_s=clock.passed_s, role="dermatoscope")
    shown = station.shutter.handle(press)
    assert shown.sentence == "The dermatoscope is shown now. Press again to take the photo."
    kept = station.shutter.handle(press)
    assert kept.image is not None
    assert by_role["dermatoscope"].is_held
    assert not by_role["overview"].is_held
    station.close_encounter(kept.image.encounter_id)
    assert not by_role["dermatoscope"].is_held


def test_grip_foot_and_body_reach_a_running_station(tmp_path: Path) -> None:
    clock = ManualClock()
    cameras, by_role = camera_set(clock)
    device = SimulatedDevice()
    microcontroller = Dermatoscope(lambda: SimulatedPort(device))
    with Station(cameras, no_engine(tmp_path), clock=clock, microcontroller=microcontroller) as station:
        station.open_encounter()
        clock.passed_s += 0.4  # a press is as old as the microcontroller says, and must not be older than the visit
        for number, switch in enumerate((Inputs.SHUTTER, Inputs.FOOT_SWITCH), 1):
            by_role["overview"].take()
            station.frame(-1, 0)
            device.inputs.buttons = switch
            until(lambda number=number: station.shutter.outcome.number == number)  # type: ignore[misc] # bound now
            device.inputs.buttons = Inputs(0)
            assert station.shutter.outcome.image is not None, station.shutter.outcome
        by_role["overview"].take()
        by_role["overview"].press(clock.passed_s)
        until(lambda: station.shutter.outcome.number == 3)
        assert station.shutter.outcome.image is not None, station.shutter.outcome


def test_flood_of_presses_is_bounded_and_a_failure_does_not_end_the_thread() -> None:
    clock, begun, go = ManualClock(), threading.Event(), threading.Event()
    fired = []

    def fire(press: Press) -> Taken:
        fired.append(press)
        begun.set()
        go.wait(WAIT_S)
        raise RuntimeError("unheard of")

    with Shutter(fire, clock) as shutter:
        shutter.press(pressed(clock))
        assert begun.wait(WAIT_S)
        for _ in range(1000):
            shutter.press(pressed(clock))
        go.set()
        until(lambda: len(fired) == 9)
    assert len(fired) == 9


def test_events_that_are_no_press_fire_nothing() -> None:
    device = SimulatedDevice()
    presses: list[Press] = []
    with (
        Dermatoscope(lambda: SimulatedPort(device)) as microcontroller,
        ButtonListener(microcontroller, presses.append, ManualClock(), time.monotonic),
    ):
        device.inputs.buttons = Inputs.LENS_CONTACT
        until(lambda: bool(microcontroller.snapshot.status and microcontroller.snapshot.status.inputs))
        device.inputs.buttons = Inputs.LENS_CONTACT | Inputs.SHUTTER
        until(lambda: len(presses) == 1)
        device.inputs.buttons = Inputs(0)
        until(lambda: bool(microcontroller.snapshot.status and not microcontroller.snapshot.status.inputs))
    assert [press.source for press in presses] == ["grip"]
