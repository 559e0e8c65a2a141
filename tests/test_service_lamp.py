"""The light by the shot, over a pty to the simulator that ships: renewed, let go out, in pairs, and with its faults."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kiosk_station import RoleCamera, until

from appliance.camera.selection import CameraSet
from appliance.clock import SystemClock
from appliance.config import ShotsConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import DermstationError
from appliance.service.errors import LampError
from appliance.service.lamp import LEVELS
from appliance.service.station import Station
from appliance.types import CapturedImage, Frame
from firmware_bridge.client import Dermatoscope
from firmware_bridge.codes import BatteryState, IlluminationMode, Inputs
from firmware_bridge.faults import FaultRates, FaultyLine
from firmware_bridge.port import opener
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import PtyServer

FRAMES_PER_S = 50
SETTLE_S = 0.1
DARK = (0, 0)


class LitCamera(RoleCamera):
    """A dermatoscope's camera that runs: each frame says which light shone when it was exposed."""

    def __init__(self, device: SimulatedDevice, numbers: Iterator[int], on_press: Callable[[float], None]) -> None:
        super().__init__(SystemClock(), numbers, on_press)  # type: ignore[arg-type] # its time passes by itself
        self._device = device
        self.modality = "DMS"

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        time.sleep(1 / FRAMES_PER_S)
        light = self._device.state.light
        number = next(self._numbers)
        content = b"\xff\xd8\xff" + f"{light.mode.name} {number}".encode()
        captured_s = SystemClock().monotonic_s()
        return Frame(
            content=content, media_type="image/jpeg", sequence=number, captured_s=captured_s, modality=self.modality
        )


class Rig:
    """A station with the simulator on a pty, and a screen that may look at the live picture."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.lit: list[tuple[float, int, int]] = []
        self.device = SimulatedDevice(watch_light=self._watch)
        self.to_device, self.to_host = (FaultyLine(FaultRates(), random.Random(n)) for n in (0, 1))
        self.line = stack.enter_context(PtyServer(self.device, lines=(self.to_device, self.to_host)))
        numbers = iter(range(10**9))
        cameras = CameraSet({"dermatoscope": lambda press: LitCamera(self.device, numbers, press)})
        self.client = Dermatoscope(opener(self.line.path))
        engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
        shots = ShotsConfig(usual=("dermoscopic_polarized", "dermoscopic_non_polarized", "lateral"))
        self.station = stack.enter_context(
            Station(cameras, engine, microcontroller=self.client, shots=shots, light_settle_s=SETTLE_S)
        )
        self.looks = threading.Event()
        self.over = threading.Event()
        screen = threading.Thread(target=self._look, daemon=True)
        screen.start()
        stack.callback(screen.join, 5)
        stack.callback(self.over.set)
        until(lambda: self.client.snapshot.status is not None)
        self.encounter_id = self.station.open_encounter().encounter_id

    @property
    def shines(self) -> tuple[int, int]:
        light = self.device.state.light
        return int(light.mode), light.level_percent

    @property
    def now(self) -> str | None:
        assert self.station.shots is not None
        shot = self.station.shots.of(self.encounter_id).now
        return shot.kind if shot is not None else None

    def light_on_frames(self) -> list[tuple[str | None, str | None, str]]:
        """Return each photo's shot, its recorded light, and what shone when its frame was exposed."""
        images = self.station.captures.images(self.encounter_id)
        return [(image.shot, image.light, image.content[3:].split()[0].decode()) for image in images]

    def _watch(self, now_ms: int, mode: int, level: int) -> None:
        self.lit.append((time.monotonic(), mode, level))

    def _look(self) -> None:
        while not self.over.is_set():
            if self.looks.is_set():
                self.station.frame(-1, 0.1)
            else:
                time.sleep(0.01)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


POLARISED = int(IlluminationMode.POLARISED)
WHITE = int(IlluminationMode.WHITE)


def test_light_follows_the_shot_while_its_picture_is_looked_at_and_only_then(rig: Rig) -> None:
    time.sleep(0.4)
    assert rig.shines == DARK, "nobody looks"
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    # Renewed: it would be off after three seconds.
    time.sleep(3.3)
    assert rig.shines == (POLARISED, 60)
    assert [mode for _, mode, _ in rig.lit[1:]] == [POLARISED], "it did not flicker"
    rig.looks.clear()
    until(lambda: rig.shines == DARK)


@pytest.mark.parametrize("how", ["lock", "captures", "close", "shot"])
def test_light_goes_out_with_the_screen(rig: Rig, how: str) -> None:
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    began_s = time.monotonic()
    if how == "lock":
        rig.station.lock_screen()
    elif how == "captures":
        rig.station.captures.lock_screen()
    elif how == "close":
        rig.station.close_encounter(rig.encounter_id)
    else:
        rig.station.shooting.choose(rig.encounter_id, "lateral")
    until(lambda: rig.shines == DARK)
    assert time.monotonic() - began_s < 2
    if how == "lock":
        rig.station.unlock_screen()
        until(lambda: rig.shines == (POLARISED, 60))


def test_one_press_keeps_the_pair_each_in_its_own_light(rig: Rig) -> None:
    rig.looks.set()
    taken = rig.station.press(rig.encounter_id)
    assert taken.sentence is None
    assert len(taken.images) == 2
    assert rig.light_on_frames() == [
        ("dermoscopic_polarized", "polarized", "POLARISED"),
        ("dermoscopic_non_polarized", "white", "WHITE"),
    ]
    assert rig.now == "lateral"
    until(lambda: rig.shines == DARK)


def test_frame_from_before_the_switch_would_have_been_kept_without_the_rule(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same press, with a camera that is one frame late and nobody who waits for the light."""
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    stale = rig.station.camera.frame(-1, 1)
    assert stale is not None

    def no_wait(after: int, timeout_s: float) -> Frame | None:
        return stale if stale.sequence > after else None

    monkeypatch.setattr(rig.station.camera, "frame", no_wait)
    monkeypatch.setattr(rig.station.shooting, "_settle_s", -10.0)
    rig.station.shooting.choose(rig.encounter_id, "dermoscopic_non_polarized")
    (image,) = rig.station.press(rig.encounter_id).images
    assert (image.light, b"POLARISED" in image.content) == ("white", True), "the control is no control"
    monkeypatch.setattr(rig.station.shooting, "_settle_s", SETTLE_S)
    rig.station.shooting.choose(rig.encounter_id, "dermoscopic_polarized")
    with pytest.raises(DermstationError, match="nothing was kept"):
        rig.station.press(rig.encounter_id)


def test_reset_between_two_photos_is_said_and_the_first_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    keep = rig.station.captures._store.keep

    def keep_then_reset(image: CapturedImage) -> None:
        keep(image)
        rig.to_host.is_silent = True
        rig.device.reset()

    monkeypatch.setattr(rig.station.captures._store, "keep", keep_then_reset)
    taken = rig.station.press(rig.encounter_id)
    assert [image.shot for image in taken.images] == ["dermoscopic_polarized"]
    assert "Dermatoscope, polarised is kept." in str(taken.sentence)
    assert "was not taken" in str(taken.sentence)
    assert rig.now == "dermoscopic_non_polarized"
    monkeypatch.setattr(rig.station.captures._store, "keep", keep)
    rig.to_host.is_silent = False
    until(lambda: rig.station.lamp is not None and rig.station.lamp.is_ready)
    until(lambda: rig.shines == (WHITE, 60))
    rig.station.press(rig.encounter_id)
    assert rig.light_on_frames()[-1] == ("dermoscopic_non_polarized", "white", "WHITE")


def test_light_that_goes_out_during_the_exposure_keeps_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    judged: list[bytes] = []

    def judge_and_reset(content: bytes) -> None:
        judged.append(content)
        rig.device.reset()

    monkeypatch.setattr(rig.station.shooting, "_judge", judge_and_reset)
    with pytest.raises(LampError, match=r"Nothing was kept\. Press again\.$"):
        rig.station.press(rig.encounter_id)
    assert len(judged) == 1
    assert rig.station.captures.images(rig.encounter_id) == ()


@pytest.mark.parametrize("fault", ["silence", "unplugged"])
def test_microcontroller_that_is_gone_holds_no_photo_up(rig: Rig, fault: str) -> None:
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    if fault == "silence":
        rig.to_host.is_silent = True
        rig.to_device.is_silent = True
    else:
        rig.client.__exit__(None, None, None)
    began_s = time.monotonic()
    taken = rig.station.press(rig.encounter_id)
    assert time.monotonic() - began_s < 3
    assert [(image.shot, image.light) for image in taken.images] == [("dermoscopic_polarized", None)]
    # From then on nothing is even tried.
    until(lambda: rig.station.lamp is not None and not rig.station.lamp.is_ready)
    began_s = time.monotonic()
    taken = rig.station.press(rig.encounter_id)
    assert time.monotonic() - began_s < 0.5
    assert [(image.shot, image.light) for image in taken.images] == [("dermoscopic_non_polarized", None)]
    assert taken.sentence is None
    until(lambda: rig.shines == DARK)


def test_noisy_line_still_gives_the_pair(rig: Rig) -> None:
    rig.to_device._rates = rig.to_host._rates = FaultRates(noise=0.1, drop=0.1, duplicate=0.1)
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    for _ in range(5):
        rig.station.begin_shots()
        until(lambda: rig.station.lamp is not None and rig.station.lamp.is_ready)
        rig.station.press(rig.encounter_id)
    for shot, light, shone in rig.light_on_frames():
        expected = {"polarized": "POLARISED", "white": "WHITE"}.get(light or "", shone)
        assert shone == expected, (shot, light, shone)
    assert sum(rig.to_device.injected.values()) > 0


@pytest.mark.parametrize(("cause", "words"), [("hot", "too hot"), ("battery", "battery is empty")])
def test_refused_light_takes_the_photo_and_says_why(rig: Rig, cause: str, words: str) -> None:
    if cause == "hot":
        rig.device.inputs.temperature_centidegrees_c = 5000
    else:
        rig.device.inputs.battery_mv = 3000
        rig.device.inputs.charger = BatteryState.DISCHARGING
    rig.looks.set()
    lamp = rig.station.lamp
    assert lamp is not None
    until(lambda: lamp.state.words in {"Light too hot, cooling", "Battery empty: charge it"})
    taken = rig.station.press(rig.encounter_id)
    assert [(image.shot, image.light) for image in taken.images] == [("dermoscopic_polarized", None)]
    assert words in str(taken.sentence)


def test_words_come_from_numbers(rig: Rig) -> None:
    rig.looks.set()
    lamp = rig.station.lamp
    assert lamp is not None
    until(lambda: lamp.state.words == "Polarised light, 60 %")
    until(lambda: lamp.state.is_touching is False)
    rig.device.inputs.buttons = Inputs.LENS_CONTACT
    before = lamp.version
    until(lambda: lamp.state.is_touching is True)
    assert lamp.version != before
    assert lamp.version == lamp.version, "nothing happened, so nothing is drawn"
    lamp.choose("white")
    until(lambda: lamp.state.words == "White light, 60 %")
    for level in LEVELS[LEVELS.index(60) + 1 :]:
        lamp.change_level(1)
        until(lambda level=level: rig.shines == (WHITE, level))  # type: ignore[misc] # bound now
    lamp.change_level(1)
    assert lamp.state.level_percent == LEVELS[-1]
    lamp.choose(None)
    until(lambda: lamp.state.words == "Light off")


def test_off_by_hand_is_respected_until_the_next_shot(rig: Rig) -> None:
    """A dermatoscope with a light of its own needs none of ours."""
    rig.looks.set()
    until(lambda: rig.shines == (POLARISED, 60))
    assert rig.station.lamp is not None
    rig.station.lamp.choose(None)
    until(lambda: rig.shines == DARK)
    taken = rig.station.press(rig.encounter_id)
    assert [(image.shot, image.light) for image in taken.images] == [("dermoscopic_polarized", None)]
    assert rig.now == "dermoscopic_non_polarized"
    until(lambda: rig.shines == (WHITE, 60))


def test_station_that_ends_leaves_no_light(tmp_path: Path) -> None:
    with ExitStack() as stack:
        rig = Rig(tmp_path, stack)
        rig.looks.set()
        until(lambda: rig.shines == (POLARISED, 60))
        device = rig.device
        rig.over.set()
        rig.station.__exit__()
        until(lambda: device.state.light.mode is IlluminationMode.OFF)
