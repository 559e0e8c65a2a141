"""P1-P6, R7: the power goes at any call, or any call fails, and what was acknowledged is there all the same.

The station's own code and SQLite run in a process whose file system calls are written down (rig/power_cut.c); the cuts
are then made on that record. Each series has a control with one safeguard taken away, which must lose.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rig import power_cut

TESTS = Path(__file__).parent
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs the Debian package gcc")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return power_cut.build(tmp_path_factory.mktemp("shim"))


def run(shim: Path, experiment: str, count: int, seed: int) -> dict[str, int]:
    command = [sys.executable, str(TESTS / "records_power_run.py"), experiment, str(count), str(seed)]
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, int] = json.loads(done.stdout)
    sys.stdout.write(f"{experiment} seed={seed}: {found}\n")
    return found


def assert_nothing_lost(found: dict[str, int], at_least: int) -> None:
    assert (found["lost"], found["corrupt"]) == (0, 0), found
    assert found["cuts"] >= at_least
    assert found["acknowledged"] > 0


@pytest.mark.parametrize(
    ("experiment", "count"),
    [
        ("cuts:chosen", 1000),
        ("cuts:wal-full", 150),
        ("cuts:delete-extra", 50),
        ("double", 50),
        ("photo-order", 10_000),
        ("set-up", 100),
        ("migration", 100),
    ],
)
def test_no_cut_loses_or_damages_what_was_acknowledged(shim: Path, seed: int, experiment: str, count: int) -> None:
    assert_nothing_lost(run(shim, experiment, count, seed), count)


@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.parametrize(
    ("experiment", "count"),
    [("cuts:chosen", 10_000), ("cuts:wal-full", 10_000), ("double", 1000), ("photo-order", 100_000)],
)
def test_no_cut_of_many_loses_or_damages(shim: Path, seed: int, experiment: str, count: int) -> None:
    assert_nothing_lost(run(shim, experiment, count, seed), count)


@pytest.mark.parametrize(
    ("control", "least"),
    [
        ("cuts:delete-off", 0.3),
        ("cuts:wal-normal", 0.3),
        ("cuts-without-folder-fsync", 0.1),
        ("photo-order:without-folder-fsync", 0.1),
        ("set-up:delete-off", 0.1),
        ("migration:delete-off", 0.1),
    ],
)
def test_control_without_a_safeguard_loses(shim: Path, seed: int, control: str, least: float) -> None:
    found = run(shim, control, 60, seed)
    assert found["lost"] + found["corrupt"] > least * found["cuts"], found


def test_save_whose_nth_call_fails_is_whole_or_nothing(shim: Path, seed: int) -> None:
    found = run(shim, "failing", 0, seed)
    # Five kinds of fault, and each of them at every call of a save.
    assert_nothing_lost(found, 5 * 30)
