"""D2 with everything that can press and everything that can happen: no photo lands in the wrong visit.

The subject before the lenses is always the one of the visit on the screen, every frame carries its name and the moment
when it was taken, and things happen in any order, also while a shutter waits for its frame or a press for its turn.
"""

import contextlib
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from kiosk_station import ManualClock, camera_set

from appliance.camera.selection import CameraRole
from appliance.config import ShotsConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import DermstationError
from appliance.service.capture_store import MemoryCaptureStore
from appliance.service.captures import FRAME_MAX_AGE_S, Captures
from appliance.service.shutter import PRESS_MAX_AGE_S, ButtonSource, Press
from appliance.service.station import Station
from appliance.types import CapturedImage, Frame

INTERLEAVINGS = 10_000
STEPS = 14
ROLES: tuple[CameraRole, ...] = ("overview", "dermatoscope")
SOURCES: tuple[ButtonSource, ...] = ("camera", "grip", "foot")


class WatchedStore(MemoryCaptureStore):
    """Keeps photos, and judges each at the moment when it is kept."""

    def __init__(self, judge: Callable[[CapturedImage], None]) -> None:
        super().__init__()
        self._judge = judge

    def keep(self, image: CapturedImage) -> None:
        self._judge(image)
        super().keep(image)


class Clinic:
    """One station that is not started, its two cameras, and a generator that decides what happens."""

    def __init__(self, chance: random.Random, engine: EngineClient) -> None:
        self.chance = chance
        self.clock = ManualClock()
        cameras, self.by_role = camera_set(self.clock)
        for camera in self.by_role.values():
            camera.meanwhile = self.meanwhile
        self.store = WatchedStore(self.judge)
        shots = ShotsConfig() if chance.random() < 0.5 else None
        self.station = Station(cameras, engine, store=self.store, clock=self.clock, shots=shots)
        self.opened = ["f" * 32]
        self.is_locked = False
        self.waiting: list[Press] = []
        self.taken_s: dict[bytes, float] = {}
        self.kept: set[bytes] = set()
        self.happened: Counter[str] = Counter()
        self._depth = 0
        self._open()

    def judge(self, image: CapturedImage) -> None:
        """Hold a photo that is being kept to the rule."""
        current = self.station.captures.current
        assert current is not None, "kept without a visit"
        assert not self.is_locked, "kept on a locked screen"
        assert image.encounter_id == current.encounter_id == self.opened[-1]
        assert image.content[3:].split()[0] == image.encounter_id.encode(), "the frame shows another subject"
        assert self.clock.passed_s - self.taken_s[image.content] <= FRAME_MAX_AGE_S, "the frame is old"
        assert image.content not in self.kept, "a frame was kept twice"
        assert (image.shot is None) or self.station.shots is not None, "a shot without a list"
        self.happened["shot"] += image.shot is not None
        self.kept.add(image.content)
        self.happened["kept"] += 1

    def step(self) -> None:
        """Let one thing happen."""
        self._do(
            self.chance.choice(
                ("open", "close", "lock", "plug", "unplug", "late", "select", "choose", *["press"] * 4, *["fire"] * 4)
            )
        )

    def meanwhile(self) -> None:
        """Let something happen while a shutter waits for its frame."""
        if self._depth < 2 and self.chance.random() < 0.4:
            self._depth += 1
            self._do(
                self.chance.choice(("open", "close", "lock", "unplug", "late", "select", "choose", "frame", "frame"))
            )
            self._depth -= 1

    def _do(self, what: str) -> None:
        self.happened[what] += 1
        getattr(self, f"_{what}")()

    def _open(self) -> None:
        self._unlock()
        self._depth += 2  # one visit is opened after the other: who looks at a camera meanwhile opens no third
        self.opened.append(self.station.open_encounter().encounter_id)
        self._depth -= 2
        for camera in self.by_role.values():
            camera.subject = self.opened[-1]
        self._frame()

    def _close(self) -> None:
        self.station.close_encounter(self.opened[-1])

    def _lock(self) -> None:
        if self.is_locked:
            self._unlock()
        else:
            self.is_locked = True
            self.station.captures.lock_screen()

    def _unlock(self) -> None:
        self.is_locked = False
        self.station.captures.unlock_screen()

    def _plug(self) -> None:
        for camera in self.by_role.values():
            camera.is_plugged = True
        self._frame()

    def _unplug(self) -> None:
        self.by_role[self.chance.choice(ROLES)].is_plugged = False

    def _late(self) -> None:
        self.clock.passed_s += self.chance.choice((0.01, 0.1, 0.3, 0.6))

    def _select(self) -> None:
        self.station.select_camera(self.chance.choice(ROLES))

    def _choose(self) -> None:
        """Touch the shot list of a page, which may be an old one."""
        asked = self.chance.choice(self.opened[-2:])
        with contextlib.suppress(DermstationError):
            if self.chance.random() < 0.3:
                self.station.shooting.skip(asked)
            else:
                self.station.shooting.choose(asked, self.chance.choice(ShotsConfig().usual), "other")

    def _frame(self) -> None:
        for camera in self.by_role.values():
            self.taken_s[camera.take().content] = self.clock.passed_s

    def _press(self) -> None:
        """Press a button; it is dealt with now or later."""
        self._frame()
        if self.chance.random() < 0.9:
            with contextlib.suppress(DermstationError):
                self.station.frame(-1, 0)
        source = self.chance.choice(SOURCES)
        role = self.chance.choice(ROLES) if source == "camera" else None
        self.waiting.append(Press(source=source, pressed_s=self.clock.passed_s, role=role))
        if self.chance.random() < 0.6:
            self._deal()

    def _deal(self) -> None:
        press, opened = self.waiting.pop(0), len(self.opened)
        age_s = self.clock.passed_s - press.pressed_s
        before = self.station.shutter.outcome.number
        outcome = self.station.shutter.handle(press)
        if age_s > PRESS_MAX_AGE_S:
            assert outcome.number == before, "an old press fired"
        if outcome.number > before and outcome.image is not None:
            assert outcome.image.encounter_id in self.opened[:opened], "a press fired for a later visit"

    def _fire(self) -> None:
        """Touch the shutter of a page, which may be an old one."""
        if self.chance.random() < 0.8:
            self._frame()
        asked = self.opened[-1 if self.chance.random() < 0.8 else -2 % len(self.opened)]
        on_screen = self.station.captures.current
        try:
            image = self.station.capture(asked)
        except DermstationError:
            return
        assert on_screen is not None
        assert image.encounter_id == asked == on_screen.encounter_id


@pytest.fixture
def engine(tmp_path: Path) -> EngineClient:
    return EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))


def run(count: int, seed: int, engine: EngineClient) -> Counter[str]:
    happened: Counter[str] = Counter()
    for number in range(count):
        clinic = Clinic(random.Random(f"{seed} {number}"), engine)
        try:
            for _ in range(STEPS):
                clinic.step()
            while clinic.waiting:
                clinic._deal()
        except AssertionError as error:
            raise AssertionError(f"interleaving {number} of seed {seed}: {error}") from error
        happened += clinic.happened
    return happened


def test_no_interleaving_puts_a_photo_into_the_wrong_visit(seed: int, engine: EngineClient) -> None:
    happened = run(INTERLEAVINGS, seed, engine)
    assert happened["kept"] > INTERLEAVINGS / 2, happened
    assert (
        min(happened[what] for what in ("open", "close", "lock", "unplug", "select", "choose", "press", "fire", "shot"))
        > 1000
    ), happened


def test_control_without_the_second_look_is_caught(
    seed: int, engine: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a station that looks at the visit only when the shutter fires."""

    def careless(self: Captures, encounter_id: str, *_: object) -> CapturedImage:
        self._require_shutter(encounter_id)
        frame = self._camera.frame(-1, 0)
        if frame is None:
            raise DermstationError("there is no frame")
        image = _image_of(encounter_id, frame, self)
        self._store.keep(image)
        return image

    monkeypatch.setattr(Captures, "capture", careless)
    with pytest.raises(AssertionError, match="interleaving"):
        run(1000, seed, engine)


def _image_of(encounter_id: str, frame: Frame, captures: Captures) -> CapturedImage:
    return CapturedImage(
        capture_id=f"{random.getrandbits(128):032x}",
        encounter_id=encounter_id,
        content=frame.content,
        media_type=frame.media_type,
        sha256=hashlib.sha256(frame.content).hexdigest(),
        captured_at=captures._clock.now_at(),
    )


class Bustle(Clinic):
    """The same clinic with a thread for everybody, each as fast as it can."""

    def __init__(self, chance: random.Random, engine: EngineClient) -> None:
        super().__init__(chance, engine)
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._scene = threading.Lock()  # who sits before the lens changes with the visit, not between two frames
        for camera in self.by_role.values():
            camera.meanwhile = lambda: time.sleep(0)

    def judge(self, image: CapturedImage) -> None:
        current = self.station.captures.current
        self.happened["kept"] += 1
        if image.content[3:].split()[0] != image.encounter_id.encode():
            self.wrong.append("another subject")
        if current is None or current.encounter_id != image.encounter_id:
            self.wrong.append("not on the screen")

    def run(self, kept: int, longest_s: float) -> None:
        """Let everybody act until so many photos are kept."""
        acts = (self._next_visit, self._next_frame, self._touch, self._touch, self._button, self._screen)
        pauses_s = (0.01, 0.0, 0.0, 0.0, 0.0, 0.001)
        rare = ((self._close, 0.03), (self._lock, 0.02), (self._unplug, 0.05), (self._replug, 0.01))
        threads = [
            threading.Thread(target=self._repeat, args=act) for act in (*zip(acts, pauses_s, strict=True), *rare)
        ]
        for thread in threads:
            thread.start()
        deadline_s = time.monotonic() + longest_s
        while self.happened["kept"] < kept and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._stop.set()
        for thread in threads:
            thread.join(10)

    def _repeat(self, act: Callable[[], None], pause_s: float) -> None:
        while not self._stop.wait(pause_s):
            with contextlib.suppress(DermstationError):
                act()

    def _next_visit(self) -> None:
        with self._scene:
            self._open()

    def _next_frame(self) -> None:
        with self._scene:
            self._frame()

    def _touch(self) -> None:
        if (current := self.station.captures.current) is not None:
            self.station.capture(current.encounter_id)

    def _button(self) -> None:
        self.station.shutter.handle(Press(source="grip", pressed_s=self.clock.passed_s))

    def _screen(self) -> None:
        self.station.frame(-1, 0)

    def _replug(self) -> None:
        for camera in self.by_role.values():
            camera.is_plugged = True


def test_threads_that_do_all_of_it_at_once_put_no_photo_into_the_wrong_visit(seed: int, engine: EngineClient) -> None:
    bustle = Bustle(random.Random(seed), engine)
    bustle.run(kept=60, longest_s=20.0)
    assert bustle.wrong == []
    assert bustle.happened["kept"] >= 60, bustle.happened
