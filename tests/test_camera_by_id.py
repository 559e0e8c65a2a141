"""D3: cameras are found by their lasting names, whatever numbers the kernel gives them; their buttons with them."""

import fcntl
import os
import select
import struct
from pathlib import Path

import pytest

from appliance.camera import button, by_id
from appliance.camera.button import ButtonWatch, SnapshotButton
from appliance.camera.by_id import button_of, finder, plugged_cameras
from appliance.errors import CameraError


class FakeTree:
    """A /dev and a /sys of a machine with USB cameras."""

    def __init__(self, root: Path) -> None:
        self.dev, self.sys = root / "dev", root / "sys"
        self.by_id = self.dev / "v4l/by-id"
        self.by_id.mkdir(parents=True)

    def plug(self, serial: str, number: int, *, event: int | None = None, name: str = "A camera") -> Path:
        node = self.dev / f"video{number}"
        node.touch()
        (self.dev / f"video{number + 1}").touch()
        interface = self.sys / f"devices/usb1/1-{number}:1.0"
        interface.mkdir(parents=True, exist_ok=True)
        entry = self.sys / f"class/video4linux/video{number}"
        entry.mkdir(parents=True, exist_ok=True)
        (entry / "name").write_text(name + "\n")
        (entry / "device").unlink(missing_ok=True)
        (entry / "device").symlink_to(interface)
        if event is not None:
            (interface / f"input/input{event}/event{event}").mkdir(parents=True)
        (self.by_id / f"usb-Rig_{serial}-video-index1").symlink_to(self.dev / f"video{number + 1}")
        link = self.by_id / f"usb-Rig_{serial}-video-index0"
        link.symlink_to(node)
        return link

    def unplug(self, serial: str) -> None:
        for index in (0, 1):
            (self.by_id / f"usb-Rig_{serial}-video-index{index}").unlink()


@pytest.fixture
def tree(tmp_path: Path) -> FakeTree:
    return FakeTree(tmp_path)


def test_cameras_are_listed_once_each_without_their_metadata(tree: FakeTree) -> None:
    tree.plug("SN2", 0, name="Dermatoscope\x1b[2J")
    tree.plug("SN1", 2)
    found = plugged_cameras(tree.by_id, tree.sys)
    assert [camera.path.name for camera in found] == ["usb-Rig_SN1-video-index0", "usb-Rig_SN2-video-index0"]
    assert found[1].name == "Dermatoscope[2J", "a device's name may not steer a terminal"
    assert plugged_cameras(tree.dev / "nowhere", tree.sys) == []


def test_swapped_numbers_do_not_swap_cameras(tree: FakeTree) -> None:
    link = tree.plug("SN1", 0)
    tree.plug("SN2", 2)
    find = finder(link, tree.dev / "dermstation/camera")
    assert find() == link
    tree.unplug("SN1")
    tree.unplug("SN2")
    assert find() is None
    tree.plug("SN2", 0)
    assert find() is None, "another camera has the number, not the name"
    tree.plug("SN1", 2)
    found = find()
    assert found is not None
    assert found.resolve().name == "video2"


def test_without_a_name_the_only_camera_is_taken_and_two_are_refused(
    tree: FakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_id, "BY_ID", tree.by_id)
    monkeypatch.setattr(by_id.plugged_cameras, "__defaults__", (tree.by_id, tree.sys))
    by_role = tree.dev / "dermstation/camera"
    find = finder(None, by_role)
    assert find() is None
    link = tree.plug("SN1", 0)
    assert find() == link
    other = tree.plug("SN2", 2)
    with pytest.raises(CameraError, match="name one in the settings"):
        find()
    assert finder(None, by_role, frozenset({other}))() == link
    by_role.parent.mkdir()
    by_role.symlink_to(tree.dev / "video2")
    assert find() == by_role, "our udev rule's name goes first"


def test_button_is_the_one_of_the_same_usb_interface(tree: FakeTree) -> None:
    tree.plug("SN1", 0, event=4)
    tree.plug("SN2", 2, event=7)
    tree.plug("SN3", 4)
    inputs = tree.dev / "input"
    assert button_of(tree.dev / "video0", tree.sys, inputs) == inputs / "event4"
    assert button_of(tree.dev / "video2", tree.sys, inputs) == inputs / "event7"
    assert button_of(tree.dev / "video4", tree.sys, inputs) is None


def test_only_presses_of_the_camera_key_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "event4"
    os.mkfifo(node)
    clocks = []
    monkeypatch.setattr(fcntl, "ioctl", lambda _fd, request, argument: clocks.append((request, argument)))
    writer = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    with SnapshotButton(node) as opened:
        assert opened.presses() == []
        for kind, code, value in ((1, 212, 1), (0, 0, 0), (1, 212, 2), (1, 212, 0), (1, 30, 1), (2, 212, 1)):
            os.write(writer, struct.pack("@llHHi", 12, 500_000, kind, code, value))
        assert opened.presses() == [12.5]
    os.close(writer)
    assert clocks == [(0x400445A0, struct.pack("i", 1))], "its events are not dated by CLOCK_MONOTONIC"


def test_button_that_comes_after_the_picture_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "event4"
    monkeypatch.setattr(fcntl, "ioctl", lambda _fd, _request, _argument: 0)
    monkeypatch.setattr(button, "LOOK_S", 0.0)
    poll = select.poll()
    with ButtonWatch(lambda: node if node.is_symlink() or node.exists() else None, poll) as watch:
        assert watch.presses() == []
        node.symlink_to(tmp_path / "nowhere")
        assert watch.presses() == [], "it cannot be opened yet"
        node.unlink()
        os.mkfifo(node)
        assert watch.presses() == []
        writer = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        os.write(writer, struct.pack("@llHHi", 12, 0, 1, 212, 1))
        assert poll.poll(1000), "a press does not end the wait for a frame"
        assert watch.presses() == [12.0]
        os.close(writer)
