"""D2: whatever happens in whatever order, a photo lands in the encounter it was taken for, or nowhere."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import seed as hypothesis_seed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from kiosk_station import ManualClock, ObedientCamera
from records_boxes import new_box

from appliance.errors import CameraError
from appliance.records.content import CapturedImageContent
from appliance.service.capture_store import CaptureStore, MemoryCaptureStore
from appliance.service.captures import FRAME_MAX_AGE_S, Captures
from appliance.service.errors import EncounterClosedError, LimitError, NotFoundError, StaleFrameError
from appliance.service.record_captures import RecordCaptureStore
from appliance.types import CapturedImage, Frame


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def camera(clock: ManualClock) -> ObedientCamera:
    return ObedientCamera(clock)


@pytest.fixture(params=["memory", "records"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CaptureStore]:
    """Both stores keep the same promises."""
    if request.param == "memory":
        yield MemoryCaptureStore()
        return
    box = new_box(tmp_path / "records")
    yield RecordCaptureStore(lambda: box.store, lambda: box.lead.user_id)
    box.store.close()


@pytest.fixture
def captures(camera: ObedientCamera, clock: ManualClock, store: CaptureStore) -> Captures:
    return Captures(camera, store, clock)


def test_kept_photo_has_the_frames_bytes_and_their_digest(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    frame = camera.take()
    image = captures.capture(encounter.encounter_id)
    assert image.content == frame.content
    assert image.sha256 == hashlib.sha256(frame.content).hexdigest()
    assert captures.images(encounter.encounter_id) == (image,)


def test_frame_of_half_a_second_is_kept_and_an_older_one_is_not(
    captures: Captures, camera: ObedientCamera, clock: ManualClock
) -> None:
    encounter = captures.open_encounter()
    camera.take()
    clock.passed_s += FRAME_MAX_AGE_S
    captures.capture(encounter.encounter_id)
    camera.take()
    clock.passed_s += FRAME_MAX_AGE_S + 0.001
    with pytest.raises(StaleFrameError, match="nothing was kept"):
        captures.capture(encounter.encounter_id)
    assert len(captures.images(encounter.encounter_id)) == 1


def test_same_frame_is_not_kept_twice(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    camera.take()
    captures.capture(encounter.encounter_id)
    with pytest.raises(StaleFrameError):
        captures.capture(encounter.encounter_id)


def test_frame_from_before_the_visit_is_not_kept_for_it(captures: Captures, camera: ObedientCamera) -> None:
    captures.open_encounter()
    camera.subject = "the one before"
    camera.take()
    encounter = captures.open_encounter()
    with pytest.raises(StaleFrameError, match="nothing was kept"):
        captures.capture(encounter.encounter_id)
    assert captures.images(encounter.encounter_id) == ()


def test_unplugged_camera_keeps_nothing(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    camera.take()
    camera.is_plugged = False
    with pytest.raises(CameraError, match="not connected"):
        captures.capture(encounter.encounter_id)
    assert captures.images(encounter.encounter_id) == ()


def test_closed_visit_keeps_nothing_and_forgets_its_photos(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    camera.take()
    image = captures.capture(encounter.encounter_id)
    captures.close_encounter(encounter.encounter_id)
    camera.take()
    with pytest.raises(EncounterClosedError, match="no photo was kept"):
        captures.capture(encounter.encounter_id)
    with pytest.raises(NotFoundError):
        captures.image(image.capture_id)


@pytest.mark.parametrize("kind", ["memory", "records"])
def test_full_store_refuses_and_keeps_what_it_has(
    camera: ObedientCamera, clock: ManualClock, tmp_path: Path, kind: str
) -> None:
    store: CaptureStore = MemoryCaptureStore(max_bytes=20)
    if kind == "records":
        box = new_box(tmp_path / "records")
        store = RecordCaptureStore(lambda: box.store, lambda: None, max_bytes=20)
    captures = Captures(camera, store, clock)
    encounter = captures.open_encounter()
    camera.take()
    captures.capture(encounter.encounter_id)
    camera.take()
    with pytest.raises(LimitError, match="no room"):
        captures.capture(encounter.encounter_id)
    assert len(captures.images(encounter.encounter_id)) == 1


def test_captured_image_refuses_a_digest_of_other_bytes(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    camera.take()
    image = captures.capture(encounter.encounter_id)
    with pytest.raises(ValueError, match="digest"):
        replace(image, content=b"\xff\xd8\xffother")


def test_photos_of_a_closed_visit_are_still_in_the_records(
    camera: ObedientCamera, clock: ManualClock, tmp_path: Path
) -> None:
    box = new_box(tmp_path / "records").reopen(is_unlocked=False)
    captures = Captures(camera, RecordCaptureStore(lambda: box.store, lambda: None), clock)
    encounter = captures.open_encounter()
    camera.take()
    image = captures.capture(encounter.encounter_id)
    captures.close_encounter(encounter.encounter_id)
    again = box.reopen()
    (record,) = again.store.of(CapturedImageContent, encounter_id=encounter.encounter_id)
    assert again.store.photo(record) == image.content
    ((visit,),) = [hit.visits for hit in again.store.find()]
    assert visit.encounter_id == encounter.encounter_id


class InterruptedCamera(ObedientCamera):
    """While the shutter waits for its frame, somebody else presses a button."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.meanwhile: list[str] = []
        self.press: Callable[[str], None] = lambda _: None

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        while self.meanwhile:
            self.press(self.meanwhile.pop(0))
        return super().frame(after, timeout_s)


MEANWHILE = st.lists(st.sampled_from(["close", "open", "frame", "late", "unplug"]), max_size=3)


class WrongPatient(RuleBasedStateMachine):
    """Shutter, visits, frames and faults in any order, also during an exposure.

    The subject before the lens is always the one of the visit on the screen, and every frame carries its name.
    """

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.camera = InterruptedCamera(self.clock)
        self.camera.press = self.press
        self.captures = Captures(self.camera, MemoryCaptureStore(), self.clock)
        self.kept: list[CapturedImage] = []
        self.frames: dict[bytes, float] = {}
        self.opened = ["f" * 32]

    def press(self, button: str) -> None:
        match button:
            case "open":
                self.opened.append(self.captures.open_encounter().encounter_id)
                self.camera.subject = self.opened[-1]
            case "close":
                self.captures.close_encounter(self.opened[-1])
            case "frame":
                self.frames[self.camera.take().content] = self.clock.passed_s
            case "late":
                self.clock.passed_s += 0.6
            case "unplug":
                self.camera.is_plugged = False

    @rule(button=st.sampled_from(["open", "open", "close", "frame", "frame", "frame"]))
    def one_button(self, button: str) -> None:
        self.press(button)

    @rule(seconds=st.floats(0, 0.7))
    def time_passes(self, seconds: float) -> None:
        self.clock.passed_s += seconds

    @rule()
    def plug(self) -> None:
        self.camera.is_plugged = True

    @rule(which=st.integers(0, 2), meanwhile=MEANWHILE)
    def shutter(self, which: int, meanwhile: list[str]) -> None:
        asked = self.opened[-1 - which % len(self.opened)]
        on_screen = self.captures.current
        self.camera.meanwhile = list(meanwhile)
        try:
            image = self.captures.capture(asked)
        except (CameraError, EncounterClosedError, StaleFrameError):
            return
        finally:
            self.camera.meanwhile = []
        assert on_screen is not None
        assert on_screen.encounter_id == asked == image.encounter_id
        assert image.content[3:].split()[0] == asked.encode(), "the frame shows another subject"
        assert self.clock.passed_s - self.frames[image.content] <= FRAME_MAX_AGE_S
        assert image.content not in {kept.content for kept in self.kept}, "a frame was kept twice"
        self.kept.append(image)

    @invariant()
    def only_the_visit_on_the_screen_has_photos(self) -> None:
        current = self.captures.current
        for encounter_id in self.opened:
            if current is not None and encounter_id == current.encounter_id:
                expected = tuple(image for image in self.kept if image.encounter_id == encounter_id)
                assert self.captures.images(encounter_id) == expected
            else:
                with pytest.raises(EncounterClosedError):
                    self.captures.images(encounter_id)


def test_no_interleaving_puts_a_photo_into_the_wrong_visit(seed: int) -> None:
    machine = hypothesis_seed(seed)(WrongPatient)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=1000, stateful_step_count=20, deadline=None, database=None)
    )
