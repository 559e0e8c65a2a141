"""The kiosk's browser for real: its own sandbox starts under the unit's filter, and it shows one address only."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rig import boot_files

UNIT = boot_files.SOURCE / "units/dermstation-kiosk.service"
POLICY = boot_files.SOURCE / "chromium/dermstation.json"
STATION = "http://127.0.0.1:8080/"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and another user need root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("chromium", "ip", "unshare", "systemd-analyze"))),
        reason="chromium, iproute2 or systemd is not installed",
    ),
]


def draw(url: str, policy: Path, unit: Path = UNIT) -> str:
    tests = Path(boot_files.__file__).parents[1]
    command = ["unshare", "--mount", "--net", "--propagation=private", sys.executable, "-m", "rig.kiosk_page"]
    return subprocess.run(
        [*command, str(unit), str(policy), url], cwd=tests, capture_output=True, text=True, timeout=180, check=False
    ).stdout


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The shipped policy, save that the developer tools work: `--dump-dom` asks through them."""
    rules = json.loads(POLICY.read_text())
    assert rules.pop("DeveloperToolsAvailability") == 2
    (tmp_path / POLICY.name).write_text(json.dumps(rules))
    return tmp_path / POLICY.name


def test_the_station_is_drawn_inside_the_units_filter_and_chromiums_own_sandbox(policy: Path) -> None:
    assert "<p>station</p>" in draw(STATION, policy)


@pytest.mark.parametrize("call", ["capset", "chroot"])
def test_without_the_calls_of_its_sandbox_chromium_draws_nothing(tmp_path: Path, policy: Path, call: str) -> None:
    weaker = tmp_path / "unit"
    wanted = "SystemCallFilter=capset chroot seccomp"
    assert wanted in UNIT.read_text()
    weaker.write_text(UNIT.read_text().replace(wanted, wanted.replace(call, "").replace("=  ", "=")))
    assert "<p>station</p>" not in draw(STATION, policy, weaker)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081/", "file:///etc/passwd", "chrome://version/"])
def test_another_address_is_blocked(policy: Path, url: str) -> None:
    drawn = draw(url, policy)
    assert "ERR_BLOCKED_BY_ADMINISTRATOR" in drawn
    assert "elsewhere" not in drawn
    assert "root:x:0" not in drawn


def test_without_the_policy_the_other_address_is_drawn(tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    assert "<p>elsewhere</p>" in draw("http://127.0.0.1:8081/", empty)
