"""The replay camera behaves as a camera does, its faults included."""

import threading
from pathlib import Path

import pytest
from kiosk_station import picture, picture_folder

from appliance.camera.replay import ReplayCamera
from appliance.errors import CameraError


class FlowingClock:
    """Time that passes by a little whenever somebody looks at it."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic_s(self) -> float:
        self.passed_s += 0.001
        return self.passed_s

    def now_at(self) -> None:
        raise NotImplementedError


def camera_of(folder: Path, **options: float) -> tuple[ReplayCamera, FlowingClock]:
    clock = FlowingClock()
    return ReplayCamera(folder, clock=clock, **options), clock  # type: ignore[arg-type] # it is asked for no date


def test_frames_are_the_files_own_bytes(tmp_path: Path) -> None:
    camera, _ = camera_of(picture_folder(tmp_path, "tan"))
    frame = camera.frame(-1, 1.0)
    assert frame is not None
    assert frame.content == picture("tan")
    assert frame.media_type == "image/jpeg"


def test_sequence_and_time_grow_together(tmp_path: Path) -> None:
    camera, clock = camera_of(picture_folder(tmp_path), frames_per_s=10.0)
    first = camera.frame(-1, 1.0)
    clock.passed_s += 1.0
    second = camera.frame(first.sequence if first else 0, 1.0)
    assert first is not None
    assert second is not None
    assert second.sequence == first.sequence + 10
    assert second.captured_s - first.captured_s == pytest.approx(1.0)
    assert clock.passed_s - second.captured_s < 0.11


def test_no_frame_before_its_time(tmp_path: Path) -> None:
    camera, _ = camera_of(picture_folder(tmp_path), frames_per_s=0.1)
    first = camera.frame(-1, 1.0)
    assert first is not None
    assert camera.frame(first.sequence, 0.01) is None


def test_pictures_turn_in_order_of_names_and_begin_again(tmp_path: Path) -> None:
    camera, clock = camera_of(picture_folder(tmp_path, "tan", "sienna"), frames_per_s=10.0, picture_s=5.0)
    seen = []
    for _ in range(3):
        frame = camera.frame(-1, 1.0)
        assert frame is not None
        seen.append(frame.content)
        clock.passed_s += 5.0
    assert seen == [picture("tan"), picture("sienna"), picture("tan")]


def test_next_picture_comes_at_once_and_stays_its_whole_time(tmp_path: Path) -> None:
    camera, clock = camera_of(picture_folder(tmp_path, "tan", "sienna", "peru"), picture_s=5.0)
    clock.passed_s += 4.9
    camera.next_picture()
    clock.passed_s += 4.9
    frame = camera.frame(-1, 1.0)
    assert frame is not None
    assert frame.content == picture("sienna")


def test_frozen_camera_repeats_one_frame_with_its_old_time(tmp_path: Path) -> None:
    camera, clock = camera_of(picture_folder(tmp_path))
    camera.fault = "frozen"
    frozen = camera.frame(-1, 1.0)
    clock.passed_s += 3.0
    assert frozen is not None
    assert camera.frame(-1, 1.0) == frozen
    assert camera.frame(frozen.sequence, 0.01) is None
    camera.fault = None
    thawed = camera.frame(frozen.sequence, 1.0)
    assert thawed is not None
    assert thawed.sequence > frozen.sequence


def test_unplugged_camera_says_so_and_comes_back(tmp_path: Path) -> None:
    camera, _ = camera_of(picture_folder(tmp_path))
    camera.fault = "unplugged"
    with pytest.raises(CameraError, match="not connected"):
        camera.frame(-1, 1.0)
    camera.fault = None
    assert camera.frame(-1, 1.0) is not None


def test_close_ends_a_wait(tmp_path: Path) -> None:
    camera = ReplayCamera(picture_folder(tmp_path), frames_per_s=0.001)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            camera.frame(10, 60)
        except CameraError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    camera.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_missing_empty_and_foreign_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be read: No such file"):
        ReplayCamera(tmp_path / "nowhere")
    with pytest.raises(CameraError, match="holds no JPEG or PNG"):
        ReplayCamera(tmp_path)
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(CameraError, match="is neither JPEG nor PNG"):
        ReplayCamera(tmp_path)
