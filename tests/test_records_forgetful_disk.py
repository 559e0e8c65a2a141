"""P4: the real station is killed and its disk forgets what was not fsynced; every acknowledged photo is there.

The records lie on a file system of the rig's (`rig/forgetful_fs.py`). The oracle is what was answered with 201.
`--slow` does it 2,000 times.
"""

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from records_boxes import open_box, set_up
from records_power_run import ForgetfulDoor
from rig import netns
from test_web_records_process import Clinic, make_clinic, shoot_until_killed

from appliance.records.content import CapturedImageContent
from appliance.records.errors import MissingError, TamperedError
from appliance.records.opening import open_records
from appliance.records.setup import prepare

logger = logging.getLogger(__name__)

CYCLES, CYCLES_SLOW = 3, 2000
FORGETFUL = str(Path(netns.__file__).with_name("forgetful_fs.py"))
FORGET = "user.forget"
MOUNT_S = 20.0
WITHOUT_FSYNC = "import os; os.fsync = lambda descriptor: None"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="mounting a file system of our own needs root and FUSE"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk that forgets."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with subprocess.Popen([sys.executable, FORGETFUL, str(folder)]) as process:
        try:
            deadline_s = time.monotonic() + MOUNT_S
            while not os.path.ismount(folder):
                assert process.poll() is None, "it could not be mounted"
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)
            process.terminate()


def forget(disk: Path) -> None:
    os.setxattr(disk, FORGET, b"1")


@pytest.fixture
def clinic(tmp_path: Path, disk: Path) -> Clinic:
    """A box that was set up on it, whose power went right afterwards."""
    made = prepare()
    set_up(disk / "clinic" / "records", made).close()
    forget(disk)
    box = open_box(disk / "clinic" / "records", made)
    box.store.close()
    return make_clinic(tmp_path, box)


def lost(clinic: Clinic) -> list[str]:
    box = open_box(clinic.box.folder, clinic.box.made)
    missing = []
    for capture_id in clinic.acknowledged:
        try:
            box.store.photo(box.store.get(CapturedImageContent, capture_id))
        except (MissingError, TamperedError):  # no row, or no file
            missing.append(capture_id)
    box.store.close()
    return missing


@pytest.mark.parametrize(
    "cycles", [CYCLES, pytest.param(CYCLES_SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(14_400)])]
)
def test_photo_that_was_acknowledged_survives_a_disk_that_forgets(
    clinic: Clinic, disk: Path, seed: int, cycles: int
) -> None:
    rng = random.Random(seed)
    for number in range(cycles):
        shoot_until_killed(clinic, rng, waits=number % 2 == 0)
        forget(disk)
        if number % 50 == 49:
            assert clinic.missing() == []
            logger.info("cycles=%d acknowledged=%d lost=0", number + 1, len(clinic.acknowledged))
    assert len(clinic.acknowledged) >= cycles
    assert clinic.missing() == []


def test_control_a_set_up_whose_folders_have_no_durable_names_is_lost(disk: Path) -> None:
    made = prepare()
    set_up(disk / "records", made, door=ForgetfulDoor()).close()
    forget(disk)
    assert open_records(disk / "records", ballast_bytes=0).state == "first-run"


def test_control_without_fsync_photos_are_lost(clinic: Clinic, disk: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2):
        shoot_until_killed(clinic, rng, before=WITHOUT_FSYNC)
        forget(disk)
    assert lost(clinic) != []


def test_control_the_disk_keeps_what_was_synced_and_nothing_else(disk: Path) -> None:
    for name, content in (("content", b"first"), ("name", b"first")):
        with (disk / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if name == "content":
            folder = os.open(disk, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    with (disk / "content").open("ab") as file:
        file.write(b", second")
    assert (disk / "content").read_bytes() == b"first, second"
    forget(disk)
    assert [path.name for path in disk.iterdir()] == ["content"]
    assert (disk / "content").read_bytes() == b"first"
