"""`dermstation camera`: every sub-command against the kernel's side of a camera."""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from card_scenes import FRAME_PX, MISSING, PDFTOPPM, Scene, rendered
from click.testing import CliRunner, Result
from fake_v4l2 import FakeCamera, kernel_with
from kiosk_station import picture
from PIL import Image
from rig.uvc_sim import numbered_jpeg

from appliance.camera import configured
from appliance.commands import camera as commands
from appliance.commands.camera import camera
from appliance.errors import CameraError

SIZE = (96, 72)
TAN = picture("tan", SIZE)


def numbered(number: int) -> bytes:
    return numbered_jpeg(TAN, number, "somebody")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCamera]:
    device = FakeCamera(tmp_path, "Rig_Camera_SN1", {"MJPG": [SIZE]})
    monkeypatch.setattr(
        configured, "camera_finder", lambda _config, _role: lambda: device.link if device.link.exists() else None
    )
    with kernel_with([device], monkeypatch):
        yield device


@contextmanager
def sending(device: FakeCamera, content: bytes = TAN) -> Iterator[None]:
    """Have the camera send 50 frames/s."""
    stop, number = threading.Event(), 0

    def send() -> None:
        nonlocal number
        while not stop.wait(0.02):
            number += 1
            if device.is_plugged:
                device.send(numbered_jpeg(content, number, "somebody"))

    thread = threading.Thread(target=send)
    thread.start()
    yield
    stop.set()
    thread.join(5)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(camera, arguments, catch_exceptions=True)


def test_list_says_what_has_which_role(device: FakeCamera) -> None:
    done = run("list")
    assert done.exit_code == 0, done.output
    assert f"overview: {device.link}" in done.output


def test_capture_writes_the_cameras_own_bytes(device: FakeCamera, tmp_path: Path) -> None:
    output = tmp_path / "frame.jpg"
    with sending(device):
        done = run("capture", "-o", str(output))
    assert done.exit_code == 0, done.output
    number = int(re.search(rb"frame (\d+) of", output.read_bytes())[1])  # type: ignore[index] # a frame has one
    assert output.read_bytes() == numbered(number)
    assert "96 x 72 MJPG" in done.output


def test_preview_prints_figures_each_second(device: FakeCamera) -> None:
    with sending(device):
        done = run("preview", "--seconds", "1")
    assert done.exit_code == 0, done.output
    assert re.search(r"\d+\.\d frames/s  96 x 72 MJPG  \d+ kB  \d+ ms old  focus \d\.\d\d", done.output), done.output


def test_soak_finds_a_healthy_camera_sound(device: FakeCamera) -> None:
    with sending(device):
        done = run("soak", "--minutes", "0.05")
    assert done.exit_code == 0, done.output
    assert "given out twice: 0" in done.output
    assert "leaked: 0 descriptors, 0 threads" in done.output


def test_calibrate_without_the_card_says_what_to_do(device: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_WAIT_S", 0.5)
    with sending(device):
        done = run("calibrate")
    assert isinstance(done.exception, CameraError)
    assert "lay it flat" in str(done.exception)


@pytest.mark.skipif(PDFTOPPM is None, reason=MISSING)
def test_calibrate_measures_the_scale_by_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeCamera(tmp_path, "Rig_Camera_SN1", {"MJPG": [FRAME_PX]})
    monkeypatch.setattr(configured, "camera_finder", lambda _config, _role: lambda: device.link)
    frame = io.BytesIO()
    Image.fromarray(rendered(Scene(height_mm=90.0))).save(frame, "JPEG", quality=90)
    with kernel_with([device], monkeypatch), sending(device, frame.getvalue()):
        done = run("calibrate")
    assert done.exit_code == 0, (done.output, done.exception)
    scale = float(re.match(r"(\d+\.\d+) pixels per mm", done.output)[1])  # type: ignore[index] # the line above
    assert scale == pytest.approx(FRAME_PX[1] / 90.0, rel=0.05)


def test_no_camera_is_one_sentence(device: FakeCamera, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "_WAIT_S", 0.2)
    device.unplug()
    done = run("capture", "-o", str(tmp_path / "frame.jpg"))
    device.plug()
    assert str(done.exception) == "No camera is connected. Plug the camera in."
    assert not (tmp_path / "frame.jpg").exists()


def test_role_that_the_settings_do_not_name_is_refused() -> None:
    done = run("preview", "--role", "dermatoscope")
    assert "add [camera.dermatoscope]" in str(done.exception)
