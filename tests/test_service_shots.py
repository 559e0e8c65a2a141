"""The shot list in the station: what a press keeps, with which camera, and what the nurse chooses in between."""

import dataclasses
from pathlib import Path

import pytest
from kiosk_station import ALL_ROLES, ManualClock, RoleCamera, camera_set

from appliance.camera.selection import CameraRole
from appliance.config import ShotsConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import CameraError
from appliance.service.errors import EncounterClosedError, NotFoundError, PoorQualityError
from appliance.service.shot_list import SHOTS
from appliance.service.shots import Shots
from appliance.service.shutter import Press
from appliance.service.station import Station


class Box:
    """A station with two cameras whose threads do not run: what they would do, a test does."""

    def __init__(self, folder: Path, config: ShotsConfig, *, has_clip_on_lens: bool = False) -> None:
        self.clock = ManualClock()
        roles: tuple[CameraRole, ...] = ("overview",) if has_clip_on_lens else ALL_ROLES
        cameras, self.by_role = camera_set(self.clock, roles, has_clip_on_lens=has_clip_on_lens)
        engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
        self.station = Station(cameras, engine, clock=self.clock, shots=config)
        self.encounter_id = self.station.open_encounter().encounter_id

    @property
    def now(self) -> str | None:
        assert self.station.shots is not None
        shot = self.station.shots.of(self.encounter_id).now
        return shot.kind if shot is not None else None

    def take(self) -> RoleCamera:
        """Have the camera on the screen take a frame, and the screen show it."""
        camera = self.by_role[self.station.selected_camera]
        camera.take()
        self.station.frame(-1, 0)
        return camera

    def press(self) -> list[str | None]:
        """Touch the shutter and return what was kept."""
        self.take()
        return [image.shot for image in self.station.press(self.encounter_id).images]

    def button(self, role: CameraRole | None = None) -> str | None:
        """Press a button on a body; return what the screen is told."""
        self.clock.passed_s += 1
        self.take()
        press = Press(source="camera", pressed_s=self.clock.passed_s, role=role)
        return self.station.shutter.handle(press).sentence


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path, ShotsConfig())


def test_presses_walk_the_list_and_each_shot_gets_its_camera(box: Box) -> None:
    seen = []
    while box.now is not None:
        role = box.station.selected_camera
        (kept,) = box.press()
        seen.append((kept, role))
    assert seen == [
        ("overview", "overview"),
        ("close_up", "overview"),
        ("dermoscopic_polarized", "dermatoscope"),
        ("dermoscopic_non_polarized", "dermatoscope"),
        ("lateral", "overview"),
    ]
    images = box.station.captures.images(box.encounter_id)
    assert [image.modality for image in images] == ["XC", "XC", "DMS", "DMS", "XC"]
    assert all(image.modality == SHOTS[image.shot].modality for image in images if image.shot is not None)
    # When all are taken, a photo belongs to no shot, and is kept all the same.
    assert box.press() == [None]


def test_lens_that_is_clipped_on_makes_dermoscopic_photos_of_the_only_camera(tmp_path: Path) -> None:
    box = Box(tmp_path, ShotsConfig(), has_clip_on_lens=True)
    seen = []
    while box.now is not None:
        (kept,) = box.press()
        seen.append((kept, box.station.selected_camera))
    assert [kept for kept, _ in seen] == [
        "overview",
        "close_up",
        "dermoscopic_polarized",
        "dermoscopic_non_polarized",
        "lateral",
    ]
    assert {role for _, role in seen} == {"overview"}
    images = box.station.captures.images(box.encounter_id)
    assert [image.modality for image in images] == ["XC", "XC", "DMS", "DMS", "XC"]


def test_retake_keeps_the_earlier_photo_and_remembers_why(box: Box) -> None:
    box.press()
    first = box.station.captures.images(box.encounter_id)[0]
    box.station.shooting.choose(box.encounter_id, "overview", "not_sharp")
    assert box.press() == ["overview"]
    images = box.station.captures.images(box.encounter_id)
    assert [image.retake_reason for image in images] == [None, "not_sharp"]
    assert images[0] == first
    assert box.now == "close_up"
    # The reason was that of one retake only.
    box.station.shooting.choose(box.encounter_id, "overview")
    box.press()
    assert box.station.captures.images(box.encounter_id)[-1].retake_reason is None


def test_reason_of_a_retake_that_was_called_off_is_forgotten(box: Box) -> None:
    box.press()
    box.station.shooting.choose(box.encounter_id, "overview", "bad_light")
    box.station.shooting.skip(box.encounter_id)
    box.station.shooting.choose(box.encounter_id, "overview")
    box.press()
    assert box.station.captures.images(box.encounter_id)[-1].retake_reason is None


def test_poor_photo_that_is_kept_for_a_reason_is_the_shot_and_the_list_goes_on(box: Box) -> None:
    box.station.shooting._judge = lambda _: "quality.blurred"
    with pytest.raises(PoorQualityError):
        box.press()
    assert box.now == "overview"
    held = box.station.captures.held
    assert held is not None
    image = box.station.keep_held(box.encounter_id, held.capture_id, "no_time")
    assert (image.shot, image.keep_reason) == ("overview", "no_time")
    assert box.now == "close_up"


def test_frame_that_was_kept_for_a_reason_is_not_kept_once_more(box: Box) -> None:
    box.station.shooting._judge = lambda _: "quality.blurred"
    with pytest.raises(PoorQualityError):
        box.press()
    held = box.station.captures.held
    assert held is not None
    box.station.keep_held(box.encounter_id, held.capture_id, "no_time")
    box.station.shooting._judge = None
    with pytest.raises(Exception, match="no new picture"):
        box.station.press(box.encounter_id)


def test_skipped_shots_open_the_way_and_the_visit_is_never_stuck(box: Box) -> None:
    for _ in range(5):
        box.station.shooting.skip(box.encounter_id)
    assert box.now is None
    assert box.press() == [None]


def test_dermatoscopes_button_shows_its_picture_and_goes_to_its_shot(box: Box) -> None:
    assert "Press again" in (box.button("dermatoscope") or "")
    assert box.now == "dermoscopic_polarized"
    assert box.button("dermatoscope") is None
    assert [image.shot for image in box.station.captures.images(box.encounter_id)] == ["dermoscopic_polarized"]
    assert box.now == "overview", "the list goes on where a shot is open"
    assert box.station.selected_camera == "overview"


def test_second_press_of_the_same_movement_is_no_second_shot(box: Box) -> None:
    assert box.button() is None
    box.take()
    again = Press(source="grip", pressed_s=box.clock.passed_s + 0.3)
    box.clock.passed_s += 0.3
    number = box.station.shutter.outcome.number
    assert box.station.shutter.handle(again).number == number
    assert len(box.station.captures.images(box.encounter_id)) == 1
    assert box.button() is None
    assert len(box.station.captures.images(box.encounter_id)) == 2


def test_dead_camera_of_a_shot_leaves_the_other_on_the_screen(box: Box) -> None:
    box.station.shooting.choose(box.encounter_id, "dermoscopic_polarized")
    box.by_role["overview"].is_plugged = False
    box.station.shooting.choose(box.encounter_id, "overview")
    assert box.station.selected_camera == "dermatoscope"
    (kept,) = box.press()
    image = box.station.captures.images(box.encounter_id)[-1]
    assert (kept, image.modality) == ("overview", "DMS"), "the shot is what the nurse says, the modality the camera's"


def test_unplugged_camera_keeps_nothing_and_the_shot_stays(box: Box) -> None:
    box.by_role["overview"].is_plugged = False
    with pytest.raises(CameraError):
        box.station.press(box.encounter_id)
    assert box.now == "overview"


def test_box_without_dermatoscope_asks_for_no_dermoscopic_image() -> None:
    listed = Shots(ShotsConfig(), has_dermatoscope=False).begin("a" * 32)
    assert listed.kinds == ("overview", "close_up", "lateral")


def test_list_of_another_lesion_starts_anew_with_the_photos_it_has(box: Box) -> None:
    box.press()
    box.press()
    assert box.station.shots is not None
    images = box.station.captures.images(box.encounter_id)
    box.station.begin_shots("mouth")
    assert box.now == "overview"
    assert box.station.shots.of(box.encounter_id).kinds == ("overview", "close_up")
    box.station.begin_shots(None, images)
    assert box.now == "dermoscopic_polarized"
    assert box.station.selected_camera == "dermatoscope"


def test_list_belongs_to_the_visit_on_the_screen_only(box: Box) -> None:
    box.press()
    before = box.encounter_id
    box.encounter_id = box.station.open_encounter().encounter_id
    assert box.now == "overview"
    with pytest.raises(EncounterClosedError):
        box.station.shooting.choose(before, "lateral")
    with pytest.raises(EncounterClosedError):
        box.station.press(before)
    box.station.close_encounter(box.encounter_id)
    with pytest.raises(EncounterClosedError):
        box.station.press(box.encounter_id)


def test_foreign_shot_cannot_be_chosen(tmp_path: Path) -> None:
    box = Box(tmp_path, ShotsConfig(usual=("close_up",)))
    with pytest.raises(NotFoundError):
        box.station.shooting.choose(box.encounter_id, "lateral")


def test_every_change_is_another_version_for_the_screens(box: Box) -> None:
    shots = box.station.shots
    assert shots is not None
    seen = [shots.version]
    for act in (
        box.press,
        lambda: box.station.shooting.skip(box.encounter_id),
        lambda: box.station.shooting.choose(box.encounter_id, "overview", "other"),
        lambda: box.station.close_encounter(box.encounter_id),
    ):
        act()
        seen.append(shots.version)
    assert len(set(seen)) == len(seen)


def test_photo_says_its_shot_only_if_the_list_has_it(box: Box) -> None:
    assert box.station.shots is not None
    image = box.station.captures
    box.press()
    (kept,) = image.images(box.encounter_id)
    box.station.begin_shots("mouth", (dataclasses.replace(kept, shot="lateral"),))
    assert box.station.shots.of(box.encounter_id).taken == ()
