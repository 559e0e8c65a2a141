"""Sticks are found where they are mounted, by the kernel's own list."""

from pathlib import Path

import pytest

from appliance.host.sticks import mounted_sticks

LINE = "36 35 8:17 / {path} {options} shared:1 - vfat /dev/sdb1 rw\n"


def listed(folder: Path, *lines: str) -> Path:
    mounts = folder / "mountinfo"
    mounts.write_text("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" + "".join(lines))
    return mounts


def test_stick_below_its_folder_is_found_with_its_label_and_room(tmp_path: Path) -> None:
    stick = tmp_path / "media" / "nurse" / "STICK B"
    stick.mkdir(parents=True)
    mounts = listed(tmp_path, LINE.format(path=str(stick).replace(" ", "\\040"), options="rw,nosuid"))
    (found,) = mounted_sticks((str(tmp_path / "media"),), mounts)
    assert (found.path, found.label, found.is_writable) == (stick, "STICK B", True)
    assert 0 < found.free_bytes <= found.size_bytes


@pytest.mark.parametrize("options", ["ro", "ro,nosuid,nodev"])
def test_stick_that_takes_no_writes_is_shown_as_that(tmp_path: Path, options: str) -> None:
    stick = tmp_path / "media" / "A"
    stick.mkdir(parents=True)
    (found,) = mounted_sticks((str(tmp_path / "media"),), listed(tmp_path, LINE.format(path=stick, options=options)))
    assert not found.is_writable


def test_nothing_else_is_a_stick(tmp_path: Path) -> None:
    beside = tmp_path / "mediathek"
    beside.mkdir()
    mounts = listed(
        tmp_path,
        LINE.format(path=beside, options="rw"),
        LINE.format(path=tmp_path / "media", options="rw"),
        LINE.format(path=tmp_path / "media" / "gone", options="rw"),
        "short line\n",
    )
    assert mounted_sticks((str(tmp_path / "media"),), mounts) == ()
