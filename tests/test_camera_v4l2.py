"""D1, D3: the camera's thread against the kernel's side of a video device: plugs, faults, freshness, leaks."""

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_v4l2 import FakeCamera, kernel_with
from kiosk_station import WAIT_S, picture, until
from linuxpy.video.raw import IOC
from rig.uvc_sim import numbered_jpeg

from appliance.camera import reader, v4l2, video_device
from appliance.camera.frame_check import Buffer, FrameCheck
from appliance.camera.newest import NewestFrame
from appliance.camera.protocol import Camera
from appliance.camera.reader import CameraOptions
from appliance.camera.selection import CameraSet
from appliance.camera.v4l2 import V4l2Camera
from appliance.camera.video_device import VideoDevice
from appliance.clock import SystemClock
from appliance.errors import CameraError
from appliance.types import Frame

SIZE = (64, 48)
SIZES = {"MJPG": [SIZE], "YUYV": [SIZE]}
WANTED = CameraOptions(wanted=SIZE)


def numbered(number: int) -> bytes:
    """Return a JPEG that no other number has."""
    return numbered_jpeg(picture("tan", SIZE), number, "somebody")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stall but where a test is about it: a busy machine may be slow to send the next frame."""
    monkeypatch.setattr(reader, "STALLED_S", 60.0)
    monkeypatch.setattr(reader, "FIRST_FRAME_S", 60.0)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCamera]:
    device = FakeCamera(tmp_path, "Rig_Camera_SN1", SIZES)
    with kernel_with([device], monkeypatch):
        yield device


@pytest.fixture
def camera(device: FakeCamera) -> Iterator[V4l2Camera]:
    with V4l2Camera(lambda: device.link if device.link.exists() else None, WANTED) as camera:
        yield camera


def sends(device: FakeCamera, *contents: bytes) -> None:
    until(lambda: device.is_streaming)
    for content in contents:
        assert device.send(content)
        time.sleep(0.001)


def wait_for(camera: Camera, after: int = -1) -> Frame:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        try:
            frame = camera.frame(after, 0.5)
        except CameraError:
            time.sleep(0.002)
            continue
        if frame is not None:
            return frame
    raise AssertionError("no frame came")


def sentence(camera: V4l2Camera) -> str:
    try:
        camera.frame(-1, 0)
    except CameraError as error:
        return str(error)
    return ""


def test_jpeg_is_kept_as_it_came_with_the_time_it_was_taken(device: FakeCamera, camera: V4l2Camera) -> None:
    before_s = SystemClock().monotonic_s()
    sends(device, numbered(1))
    frame = wait_for(camera)
    assert frame.content == numbered(1)
    assert frame.media_type == "image/jpeg"
    assert before_s <= frame.captured_s <= SystemClock().monotonic_s()


def test_frame_that_waited_in_the_driver_is_as_old_as_it_is(device: FakeCamera, camera: V4l2Camera) -> None:
    until(lambda: device.is_streaming)
    device.send(numbered(1), age_s=30.0)
    age_s = SystemClock().monotonic_s() - wait_for(camera).captured_s
    assert age_s >= 30.0


def test_late_reader_gets_the_newest_frame_only(device: FakeCamera, camera: V4l2Camera) -> None:
    sends(device, *(numbered(number) for number in range(1, 4)))
    until(lambda: camera.counters.frames == 3)
    frame = wait_for(camera)
    assert frame.content == numbered(3)
    assert camera.frame(frame.sequence, 0.01) is None


def test_yuyv_camera_gives_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeCamera(tmp_path, "Raw", {"YUYV": [SIZE]})
    with kernel_with([device], monkeypatch), V4l2Camera(lambda: device.link, WANTED) as camera:
        sends(device, b"\x80" * (SIZE[0] * SIZE[1] * 2))
        assert wait_for(camera).media_type == "image/png"


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (numbered(2)[:-40], "torn"),
        (picture("tan", (32, 24)), "wrong_size"),
        (numbered(1), "repeated"),
        (b"", "torn"),
    ],
)
def test_spoilt_picture_never_becomes_a_frame(
    device: FakeCamera, camera: V4l2Camera, spoilt: bytes, reason: str
) -> None:
    sends(device, numbered(1))
    first = wait_for(camera)
    sends(device, spoilt)
    until(lambda: camera.counters.refused[reason] == 1)
    assert camera.frame(first.sequence, 0.01) is None
    sends(device, numbered(3))
    assert wait_for(camera, first.sequence).content == numbered(3)


def test_buffer_that_the_driver_calls_damaged_is_no_frame(device: FakeCamera, camera: V4l2Camera) -> None:
    until(lambda: device.is_streaming)
    device.send(numbered(1), is_damaged=True)
    sends(device, numbered(2))
    assert wait_for(camera).content == numbered(2)
    assert camera.counters.refused["damaged"] == 1


def test_unplugged_camera_gives_nothing_at_all_and_says_so(device: FakeCamera, camera: V4l2Camera) -> None:
    sends(device, numbered(1))
    wait_for(camera)
    device.unplug()
    until(lambda: sentence(camera) == "No camera is connected. Plug the camera in.")
    device.plug()
    sends(device, numbered(2))
    assert wait_for(camera).content == numbered(2)


def test_frozen_camera_is_opened_again(device: FakeCamera, camera: V4l2Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STALLED_S", 0.2)
    sends(device, numbered(1))
    wait_for(camera)
    for _ in range(3):
        device.send(numbered(1))
    until(lambda: "no new picture" in sentence(camera))
    until(lambda: camera.counters.opened == 2)
    sends(device, numbered(2))
    assert wait_for(camera).content == numbered(2)


def test_camera_of_no_known_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeCamera(tmp_path, "Odd", {"H264": [SIZE]})
    with kernel_with([device], monkeypatch), V4l2Camera(lambda: device.link, WANTED) as camera:
        until(lambda: "sends no kind of picture" in sentence(camera))


@pytest.mark.parametrize(
    ("call", "number", "said"),
    [
        (IOC.STREAMON, errno.EBUSY, "Another program is using the camera"),
        (IOC.REQBUFS, errno.EBUSY, "Another program is using the camera"),
        (IOC.STREAMON, errno.ENOSPC, "too many for one USB socket"),
        (IOC.S_FMT, errno.EACCES, "a technician has to allow it"),
        (IOC.DQBUF, errno.EIO, "was unplugged or has failed"),
        (IOC.QBUF, errno.ENODEV, "was unplugged or has failed"),
    ],
)
def test_call_that_fails_is_one_sentence_and_tried_again(
    device: FakeCamera, camera: V4l2Camera, call: int, number: int, said: str
) -> None:
    sends(device, numbered(1))
    wait_for(camera)
    device.failures[call] = number
    device.unplug()
    device.plug()

    def is_said() -> bool:
        device.send(numbered(2))
        return said in sentence(camera)

    until(is_said)
    device.failures.clear()
    until(lambda: device.is_streaming)
    sends(device, numbered(3))
    assert wait_for(camera).content == numbered(3)


def test_controls_without_the_checks_the_same_faults_would_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a reader without our checks gives out a torn picture, and the last one of a gone camera."""
    monkeypatch.setattr(FrameCheck, "refuse", lambda _self, _buffer: None)
    monkeypatch.setattr(NewestFrame, "drop", lambda _self, _sentence: None)
    device = FakeCamera(tmp_path, "Careless", SIZES)
    with kernel_with([device], monkeypatch), V4l2Camera(lambda: device.link, WANTED) as camera:
        sends(device, numbered(2)[:-40])
        assert wait_for(camera).content == numbered(2)[:-40]
        device.unplug()
        until(lambda: camera.format is None)
        assert wait_for(camera).content == numbered(2)[:-40], "F7: the last picture of a camera that is gone"
        device.plug()


def waits_of_opening(device: FakeCamera) -> list[float]:
    """Open it, which must fail; return how long it was waited, each time with the device still open."""
    waits: list[float] = []

    def pause(seconds: float) -> None:
        os.fstat(video.fileno())
        waits.append(seconds)

    video = VideoDevice(device.link, SIZE, 30.0, pause=pause)
    with pytest.raises((OSError, CameraError)), video:
        raise AssertionError("it was opened")
    assert video.fileno() < 0, "it was not let go of"
    return waits


OPENING_CALLS = [
    IOC.ENUM_FMT,
    IOC.ENUM_FRAMESIZES,
    IOC.S_FMT,
    IOC.G_FMT,
    IOC.S_PARM,
    IOC.REQBUFS,
    IOC.QUERYBUF,
    IOC.QBUF,
    IOC.STREAMON,
]


@pytest.mark.parametrize("call", OPENING_CALLS, ids=lambda call: call.name)
def test_camera_unplugged_while_it_is_opened_is_let_go_of_later(device: FakeCamera, call: IOC) -> None:
    device.unplugged_at = call
    assert waits_of_opening(device) == [video_device.LET_GO_S]


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO, errno.EPROTO, errno.ESHUTDOWN])
def test_every_word_of_the_kernel_for_an_unplugged_camera_is_waited_for(device: FakeCamera, number: int) -> None:
    device.failures[IOC.STREAMON] = number
    assert waits_of_opening(device) == [video_device.LET_GO_S]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.EPERM, errno.ENOSPC])
def test_camera_that_is_there_and_refuses_is_let_go_of_at_once(device: FakeCamera, number: int) -> None:
    device.failures[IOC.STREAMON] = number
    assert waits_of_opening(device) == []


def test_camera_of_no_known_format_is_let_go_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeCamera(tmp_path, "Odd", {"H264": [SIZE]})
    with kernel_with([device], monkeypatch):
        assert waits_of_opening(device) == []


def test_control_opening_that_takes_no_error_for_an_unplugged_camera_closes_it_at_once(
    device: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_device, "may_be_gone", lambda _error: False)
    device.unplugged_at = IOC.STREAMON
    assert waits_of_opening(device) == [], "the wait that the tests above ask for is not the product's"


def test_exposure_focus_and_white_balance_are_held_and_let_go(device: FakeCamera, camera: V4l2Camera) -> None:
    automatic = dict(device.controls)
    sends(device, numbered(1))
    wait_for(camera)
    camera.hold_series(is_held=True)
    until(lambda: device.controls != automatic)
    sends(device, numbered(2))
    until(lambda: [value for key, value in sorted(device.controls.items()) if key in _AUTOMATIC_IDS] == [0, 1, 0])
    camera.hold_series(is_held=False)
    until(lambda: device.controls == automatic)


_AUTOMATIC_IDS = {0x98090C, 0x9A0901, 0x9A090C}
"""White balance, exposure, focus: manual is 0, 1, 0."""


def test_many_plugs_leak_neither_descriptor_nor_thread(device: FakeCamera, camera: V4l2Camera) -> None:
    def plug_and_see(number: int) -> None:
        sends(device, numbered(number))
        assert wait_for(camera).content == numbered(number)
        device.unplug()
        until(lambda: "connected" in sentence(camera))
        device.plug()

    plug_and_see(0)
    until(lambda: device.is_streaming)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208 - counted, not read
    for number in range(1, 11):
        plug_and_see(number)
    until(lambda: device.is_streaming)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208 - likewise


def test_two_cameras_never_share_a_number_and_only_the_shown_one_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [FakeCamera(tmp_path, name, SIZES) for name in ("Overview", "Dermatoscope")]
    numbers = itertools.count()

    def maker(device: FakeCamera) -> Callable[[Callable[[float], None]], V4l2Camera]:
        return lambda on_press: V4l2Camera(lambda: device.link, WANTED, on_press=on_press, numbers=numbers)

    makers = {"overview": maker(devices[0]), "dermatoscope": maker(devices[1])}
    with kernel_with(devices, monkeypatch), CameraSet(makers) as cameras:  # type: ignore[arg-type] # keys are roles
        sends(devices[0], numbered(1))
        overview = wait_for(cameras)
        sends(devices[1], numbered(2))
        assert cameras.frame(overview.sequence, 0.05) is None
        assert cameras.select("dermatoscope")
        dermoscopic = wait_for(cameras, overview.sequence)
        assert dermoscopic.content == numbered(2)
        assert dermoscopic.sequence > overview.sequence
        devices[1].unplug()
        assert cameras.select("overview")
        sends(devices[0], numbered(3))
        assert wait_for(cameras, overview.sequence).content == numbered(3)


class HangingDriver:
    """Keeps every thread that reads from one of the first `count` devices it meets; from `let_go` on, none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self._count = count
        self._kept: set[VideoDevice] = set()
        self._let_go = threading.Event()
        self._read = VideoDevice.read
        # A bound method would not be given the device.
        monkeypatch.setattr(VideoDevice, "read", lambda device: self.read(device))  # noqa: PLW0108

    def read(self, device: VideoDevice) -> Buffer | None:
        """Take a buffer, but not before the driver lets go."""
        buffer = self._read(device)
        if buffer is not None and len(self._kept | {device}) <= self._count:
            self._kept.add(device)
            self._let_go.wait(WAIT_S)
        return buffer

    def let_go(self) -> None:
        self._let_go.set()


def test_thread_that_the_driver_keeps_is_given_up_and_its_picture_never_shown(
    device: FakeCamera, camera: V4l2Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = HangingDriver(monkeypatch, 1)
    monkeypatch.setattr(v4l2, "HUNG_S", 0.5)
    sends(device, numbered(1))
    until(lambda: camera.counters.frames == 0 and camera.format is not None)
    device.unplug()
    device.plug()
    until(lambda: "No camera is connected" in sentence(camera) or camera.counters.hung == 1)
    sends(device, numbered(2))
    seen = wait_for(camera)
    driver.let_go()
    until(lambda: not [one for one in camera._given_up if one.is_running])
    sends(device, numbered(3))

    assert seen.content == numbered(2)
    assert wait_for(camera, seen.sequence).content == numbered(3), "the picture of before came after all"
    assert camera.counters.hung == 1


def test_driver_that_keeps_every_thread_is_said_and_the_threads_stay_few(
    device: FakeCamera, camera: V4l2Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = HangingDriver(monkeypatch, 99)
    monkeypatch.setattr(v4l2, "HUNG_S", 0.5)

    def send_and_look() -> bool:
        device.send(numbered(1))
        return "Turn the box off and on again" in sentence(camera)

    until(send_and_look)
    assert len([thread for thread in threading.enumerate() if thread.name == "camera-camera"]) == 5
    driver.let_go()
    numbers = itertools.count(2)

    def send_and_see() -> bool:
        device.send(numbered(next(numbers)))
        return sentence(camera) == "" and camera.frame(-1, 0.05) is not None

    until(send_and_see)


def test_closing_ends_a_wait_and_gives_the_device_back(device: FakeCamera) -> None:
    camera = V4l2Camera(lambda: device.link, WANTED)
    with camera:
        sends(device, numbered(1))
        wait_for(camera)
    assert not device.is_streaming
    with pytest.raises(CameraError):
        camera.frame(-1, 60)
