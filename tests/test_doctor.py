"""`dermstation doctor` as a technician runs it, and its looks at the machine."""

import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any

import pytest
from test_doctor_runtime import install

from appliance.host import machine_checks
from appliance.host.check import Check, ok, problem, warning, worst
from appliance.host.machine_checks import GIB
from appliance.host.storage_checks import check_records


def doctor(*arguments: str, python_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **({"PYTHONPATH": str(python_path)} if python_path else {})}
    command = [str(Path(sys.executable).with_name("dermstation")), "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environ, check=False)


def check_of(done: subprocess.CompletedProcess[str], name: str) -> dict[str, Any]:
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    return next(check for check in checks if check["name"] == name)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "dermstation.toml"
    path.write_text(f'[engine]\nbundle = "{tmp_path / "bundle"}"\n')
    return path


def test_json_lists_every_check_and_the_worst_decides(settings: Path) -> None:
    done = doctor("--json", "--config", str(settings))
    report = json.loads(done.stdout)
    assert [check["name"] for check in report["checks"]] == [
        "Python",
        "Settings",
        "ONNX Runtime packages",
        "ONNX Runtime providers",
        "Photos",
        "Model",
        "Memory",
        "Cores",
        "Disk",
        "Records",
        "Clock",
        "Cameras",
        "Serial ports",
        "mDNS",
        "Phones",
    ]
    # There is no bundle in that folder.
    assert check_of(done, "Model")["verdict"] == report["verdict"] == "problem"
    assert done.returncode == 1
    assert all(check["action"] for check in report["checks"] if check["verdict"] != "ok")


def test_the_plain_page_says_what_to_do(settings: Path) -> None:
    done = doctor("--config", str(settings))
    assert "PROBLEM  Model: There is no model bundle at" in done.stdout
    assert "         -> Export or copy the bundle again" in done.stdout
    assert done.stderr == ""


def test_a_second_runtime_on_the_path_is_found_by_the_command(tmp_path: Path, settings: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "onnxruntime-gpu")
    found = check_of(doctor("--json", "--config", str(settings), python_path=site), "ONNX Runtime packages")
    assert found["verdict"] == "problem"
    assert "are installed together" in found["found"]


def test_wrong_settings_are_a_problem_and_the_other_checks_still_run(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[station]\nprot = 8080\n")
    done = doctor("--json", "--config", str(path))
    assert "prot" in check_of(done, "Settings")["found"]
    assert check_of(done, "Python")["verdict"] == "ok"
    assert done.returncode == 1


def test_worst_of_checks() -> None:
    assert worst([]) == worst([ok("a", "")]) == "ok"
    assert worst([ok("a", ""), warning("b", "", "x")]) == "warning"
    assert worst([problem("a", "", "x"), warning("b", "", "x")]) == "problem"


def verdict(check: Check) -> str:
    assert check.verdict == "ok" or check.action
    return check.verdict


def test_an_old_python_is_a_problem() -> None:
    assert verdict(machine_checks.check_python((3, 10, 9))) == "problem"
    assert verdict(machine_checks.check_python((3, 11, 0))) == "ok"


@pytest.mark.parametrize(
    ("meminfo", "engine_bytes", "expected"),
    [
        ("MemTotal:        8000000 kB\n", 4 * GIB, "ok"),
        ("MemTotal:        4000000 kB\n", 4 * GIB, "problem"),
        ("MemTotal:        4000000 kB\n", 0, "ok"),
        ("", 0, "warning"),
    ],
)
def test_memory_is_compared_with_the_model(tmp_path: Path, meminfo: str, engine_bytes: int, expected: str) -> None:
    path = tmp_path / "meminfo"
    path.write_text(meminfo)
    assert verdict(machine_checks.check_memory(engine_bytes, path)) == expected


def test_one_core_is_few() -> None:
    assert [verdict(machine_checks.check_cores(count)) for count in (1, 2)] == ["warning", "ok"]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "warning"),
        (datetime(2026, 11, 22, tzinfo=UTC), "ok"),
        (datetime(2106, 2, 7, tzinfo=UTC), "warning"),
    ],
)
def test_a_clock_before_this_version_or_long_after_is_doubted(moment: datetime, expected: str) -> None:
    assert verdict(machine_checks.check_clock(moment)) == expected


def test_a_folder_that_is_not_there_yet_is_measured_where_it_will_be(tmp_path: Path) -> None:
    assert str(tmp_path) in machine_checks.check_disk(tmp_path / "not" / "yet").found


def test_a_machine_that_cannot_store_is_told() -> None:
    assert verdict(check_records("persist")) == "ok"
    assert "rollback journal" in check_records("persist").found
    absent = check_records("wal", {"no_such_module": "argon2-cffi"})
    assert (verdict(absent), "kept in memory only" in absent.found) == ("warning", True)


def test_cameras_are_listed_without_their_metadata_nodes(tmp_path: Path) -> None:
    for node, name, index in (("video0", "USB camera", "0"), ("video1", "USB camera", "1")):
        folder = tmp_path / "class" / node
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        (folder / "index").write_text(index + "\n")
    (tmp_path / "dev").mkdir()
    assert verdict(machine_checks.check_cameras(tmp_path / "dev", tmp_path / "class")) == "warning"  # not to be opened
    (tmp_path / "dev/video0").touch()
    check = machine_checks.check_cameras(tmp_path / "dev", tmp_path / "class")
    assert (check.verdict, check.found) == ("ok", f"USB camera at {tmp_path}/dev/video0")


def test_no_camera_is_told(tmp_path: Path) -> None:
    assert verdict(machine_checks.check_cameras(tmp_path, tmp_path)) == "warning"


def test_an_mdns_port_held_by_another_program_is_told() -> None:
    with closing(socket(AF_INET, SOCK_DGRAM)) as other:
        other.bind(("", 0))
        assert verdict(machine_checks.check_mdns_port(other.getsockname()[1])) == "warning"
    with closing(socket(AF_INET, SOCK_DGRAM)) as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    assert verdict(machine_checks.check_mdns_port(port)) == "ok"
