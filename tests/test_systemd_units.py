"""The units, users, directories and device rules, put to systemd's own tools; each check has one that must fail."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rig import boot_files

from appliance import huge_pages
from appliance.config import load_config

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
needs_udev = pytest.mark.skipif(
    shutil.which("udevadm") is None or not Path("/sys/class/tty/tty7").exists(),
    reason="udev is not installed, or this kernel has no console",
)

EXPOSURE_LIMIT_TENTHS = 20
TTY = "tty/tty7"
"""A device that every kernel with a console has; a clinic's own rule gives it the microcontroller's role."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if not Path("/usr/lib/systemd/system").is_dir():
        pytest.skip("systemd is not installed")
    boot_files.install(tmp_path)
    return tmp_path


def unit_text(name: str) -> str:
    return (boot_files.SOURCE / "units" / name).read_text()


def settings_of(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit_text(name), re.MULTILINE)


@needs_analyze
def test_systemd_has_nothing_to_say_about_the_units(root: Path) -> None:
    assert boot_files.complaints(root) == ""


@needs_analyze
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("WatchdogSecs=30", "'WatchdogSecs'"),
        ("SystemCallFilter=@no-such-set", "@no-such-set"),
        ("ExecStartPre=/opt/no/such/program", "is not executable"),
    ],
)
def test_a_wrong_line_in_a_unit_is_seen(root: Path, line: str, complaint: str) -> None:
    unit = root / "etc/systemd/system/dermstation-engine.service"
    unit.write_text(unit.read_text().replace("[Service]\n", f"[Service]\n{line}\n"))
    assert complaint in boot_files.complaints(root)


@needs_analyze
@pytest.mark.parametrize("name", boot_files.SERVICES)
def test_every_service_is_shut_in_to_two_points_or_better(name: str) -> None:
    assert boot_files.passes_threshold(boot_files.SOURCE / "units" / name, EXPOSURE_LIMIT_TENTHS)


@needs_analyze
@pytest.mark.parametrize("name", boot_files.SERVICES)
def test_a_removed_sandbox_option_raises_the_exposure(tmp_path: Path, name: str) -> None:
    weaker = tmp_path / name
    weaker.write_text(
        re.sub(
            r"^(CapabilityBoundingSet|SystemCallFilter|NoNewPrivileges)=.*\n", "", unit_text(name), flags=re.MULTILINE
        )
    )
    assert not boot_files.passes_threshold(weaker, EXPOSURE_LIMIT_TENTHS)
    assert boot_files.exposure(weaker) > boot_files.exposure(boot_files.SOURCE / "units" / name)


def test_the_engine_cannot_take_the_station_down() -> None:
    strong = r"(Requires|Requisite|BindsTo|BoundBy|Upholds)"
    assert not any(settings_of(name, strong) for name in boot_files.UNITS)
    # Waiting for a model to load would keep the clinic from taking photos.
    assert settings_of("dermstation-station.service", "Wants") == ["dermstation-engine.service"]
    assert not any("dermstation-engine" in value for value in settings_of("dermstation-station.service", "After"))


@pytest.mark.parametrize("name", boot_files.SERVICES)
def test_every_service_has_its_own_user_and_comes_back(name: str) -> None:
    assert settings_of(name, "User") == [name.removesuffix(".service")]
    assert settings_of(name, "Restart") == ["always"]
    assert settings_of(name, "StartLimitIntervalSec") == ["0"]
    assert settings_of(name, "LimitCORE") == ["0"]


@pytest.mark.parametrize("name", ["dermstation-engine.service", "dermstation-station.service"])
def test_what_we_wrote_says_that_it_is_ready_and_alive(name: str) -> None:
    assert settings_of(name, "Type") == ["notify"]
    assert settings_of(name, "NotifyAccess") == ["main"]
    assert settings_of(name, "WatchdogSec")


def test_the_engine_has_no_network_no_devices_and_no_records() -> None:
    name = "dermstation-engine.service"
    assert settings_of(name, "PrivateNetwork") == ["yes"]
    assert settings_of(name, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert settings_of(name, "PrivateDevices") == ["yes"]
    assert settings_of(name, "InaccessiblePaths") == ["-/var/lib/dermstation"]
    assert settings_of(name, "MemoryMax")


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.skipif(not HUGE_PAGES.exists() or "[madvise]" not in HUGE_PAGES.read_text(), reason="no huge pages here")
def test_the_engines_environment_puts_large_memory_into_huge_pages() -> None:
    script = """
import ctypes, re
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ctypes.memset(libc.malloc(ctypes.c_size_t(64 << 20)), 1, 64 << 20)
print(re.search(r"AnonHugePages: +([0-9]+)", open("/proc/self/smaps_rollup").read())[1])
"""
    asked_for = dict(line.split("=", 1) for line in settings_of("dermstation-engine.service", "Environment"))
    assert asked_for == huge_pages.ENVIRONMENT
    found = []
    for more in ({}, asked_for):
        environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | more
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        found.append(int(done.stdout) >> 10)
    without, with_it = found
    assert without < 8
    assert with_it >= 48


def test_the_front_has_no_network_no_devices_no_records_and_a_lower_priority() -> None:
    name = "dermstation-front.service"
    assert settings_of(name, "PrivateNetwork") == ["yes"]
    assert settings_of(name, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert settings_of(name, "PrivateDevices") == ["yes"]
    (hidden,) = settings_of(name, "InaccessiblePaths")
    assert {"-/var/lib/dermstation", "-/run/dermstation"} <= set(hidden.split())
    assert settings_of(name, "Nice") == ["10"]
    # In no group that opens something of the others.
    assert settings_of(name, "SupplementaryGroups") == []
    assert "dermstation-front" not in {
        line.split()[1]
        for line in (boot_files.SOURCE / "sysusers.d/dermstation.conf").read_text().splitlines()
        if line.startswith("m ")
    }


@needs_root
@needs_analyze
def test_users_and_directories_come_out_as_the_units_need_them(root: Path) -> None:
    boot_files.make_users_and_directories(root)
    accounts = (line.split(":") for line in (root / "etc/passwd").read_text().splitlines())
    shells = {name: (int(uid), shell) for name, _, uid, _, _, _, shell in accounts}
    groups = {
        name: (int(gid), set(members.split(",")) - {""})
        for name, _, gid, members in (line.split(":") for line in (root / "etc/group").read_text().splitlines())
    }
    assert {settings_of(name, "User")[0] for name in boot_files.SERVICES} <= shells.keys()
    assert all(shell.endswith("nologin") for _, shell in shells.values())
    assert groups["dermstation-socket"][1] == {"dermstation-engine", "dermstation-station"}
    assert groups["dermstation-devices"][1] == {"dermstation-station"}
    for path, owner, group, mode in (
        ("run/dermstation", shells["dermstation-engine"][0], groups["dermstation-socket"][0], 0o750),
        ("var/lib/dermstation", shells["dermstation-station"][0], groups["dermstation-station"][0], 0o700),
        ("run/dermstation-lan", shells["dermstation-station"][0], groups["dermstation-front"][0], 0o2750),
        ("opt/dermstation/bundle", 0, 0, 0o755),
        ("etc/dermstation", 0, 0, 0o755),
    ):
        found = (root / path).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (owner, group, mode), path


@needs_root
@needs_udev
def test_udev_understands_every_rule(root: Path) -> None:
    boot_files.make_users_and_directories(root)
    output = boot_files.udev_add(root, TTY)
    assert f"Reading rules file: /etc/udev/rules.d/{boot_files.RULES}" in output
    assert f"{boot_files.RULES}:" not in output


@needs_root
@needs_udev
@pytest.mark.parametrize(
    "line", ['KERNEL=="a", FILTER="video"', 'KERNEL=="a", GROUP="no-such-group"', 'GOTO="nowhere"']
)
def test_a_wrong_rule_is_seen(root: Path, line: str) -> None:
    boot_files.make_users_and_directories(root)
    rules = root / "etc/udev/rules.d" / boot_files.RULES
    rules.write_text(f"{rules.read_text()}{line}\n")
    assert f"{boot_files.RULES}:" in boot_files.udev_add(root, TTY)


@needs_root
@needs_udev
def test_a_device_that_the_clinic_names_gets_its_link_and_group(root: Path) -> None:
    boot_files.make_users_and_directories(root)
    own_rule = 'SUBSYSTEM=="tty", KERNEL=="tty7", ENV{DERMSTATION_ROLE}="microcontroller"\n'
    (root / "etc/udev/rules.d/65-clinic.rules").write_text(own_rule)
    output = boot_files.udev_add(root, TTY)
    assert "dermstation/microcontroller -> ../tty7" in output
    assert re.search(r"^dermstation-devices 660 tty7 ", output, re.MULTILINE)
    assert "ID_MM_DEVICE_IGNORE=1" in output


def test_the_example_settings_are_accepted_and_fit_units_and_browser() -> None:
    config = load_config(boot_files.SOURCE / "dermstation.toml")
    kiosk = unit_text("dermstation-kiosk.service")
    policy = json.loads((boot_files.SOURCE / "chromium/dermstation.json").read_text())
    origin = f"http://{config.station.host}:{config.station.port}"
    assert f"    {origin}/\n" in kiosk
    assert policy["URLAllowlist"] == [origin]
    assert policy["URLBlocklist"] == ["*"]
    assert Path(config.engine.socket or "").parent == Path("/run/dermstation")
    (front,) = settings_of("dermstation-front.service", "ExecStart")
    assert front.endswith(f" {config.lan.front}")
    assert Path(config.lan.front or "").parent == Path("/run/dermstation-lan")
    for service in ("engine", "station"):
        (command,) = settings_of(f"dermstation-{service}.service", "ExecStart")
        assert command.endswith("--config /etc/dermstation/dermstation.toml")
