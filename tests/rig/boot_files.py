"""The files of `systemd/` installed below a folder as a package would put them, and systemd's own tools run on them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "systemd"
UNITS = sorted(path.name for path in (SOURCE / "units").iterdir())
SERVICES = [name for name in UNITS if name.endswith(".service")]
RULES = "70-dermstation.rules"
_STUBS = ("opt/dermstation/venv/bin/dermstation", "opt/dermstation/venv/bin/python", "usr/bin/cage")
_TOOL_S = 120


def install(root: Path) -> None:
    """Put units, users, directories and rules where Debian has them, with stand-ins for what they start."""
    units = root / "etc/systemd/system"
    shutil.copytree(SOURCE / "units", units)
    for folder in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(SOURCE / folder, root / "usr/lib" / folder)
    shutil.copytree(SOURCE / "udev", root / "etc/udev/rules.d")
    # The targets and slices that every unit stands on.
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for name in _STUBS:
        stub = root / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text("#!/bin/sh\n")
        stub.chmod(0o755)


def complaints(root: Path) -> str:
    """Return all that `systemd-analyze verify` says; its exit status is 0 even for an unknown key."""
    return _tool("systemd-analyze", "verify", f"--root={root}", "--man=no", *UNITS)


def exposure(unit: Path) -> float:
    """Return the overall exposure level of a unit, 0.0 (best) to 10.0."""
    output = _tool("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
    return float(output.rpartition("Overall exposure level for ")[2].split()[1])


def passes_threshold(unit: Path, tenths: int) -> bool:
    """Tell whether systemd-analyze accepts a unit at a threshold in tenths of a point."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}", str(unit)]
    return subprocess.run(command, capture_output=True, timeout=_TOOL_S, check=False).returncode == 0


def make_users_and_directories(root: Path) -> None:
    """Run systemd-sysusers and systemd-tmpfiles for real below a folder; needs root."""
    (root / "etc").mkdir(exist_ok=True)
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        subprocess.run([*command, f"--root={root}"], check=True, capture_output=True, timeout=_TOOL_S)


def udev_add(root: Path, device: str) -> str:
    """Let udev handle a device's arrival with the rules and groups below `root`, in a private /dev and /run.

    Returns udev's log and then `group mode path -> target` for all that is in /dev afterwards.
    """
    major, _, minor = Path(f"/sys/class/{device}/dev").read_text().strip().partition(":")
    script = """set -e
        mount --bind "$ROOT/etc/udev/rules.d" /etc/udev/rules.d
        mount --bind "$ROOT/etc/group" /etc/group
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /dev
        mknod /dev/null c 1 3
        mknod "/dev/$NAME" c "$MAJOR" "$MINOR"
        udevadm test --action=add "/sys/class/$DEVICE" 2>&1
        find /dev -mindepth 1 -printf '%g %m %P -> %l\\n'
    """
    variables = {"ROOT": str(root), "DEVICE": device, "NAME": Path(device).name, "MAJOR": major, "MINOR": minor}
    return _tool("unshare", "--mount", "--propagation=private", "sh", "-c", script, environ=variables)


def _tool(*command: str, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TOOL_S,
        env={**os.environ, **(environ or {}), "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
        check=False,
    )
    return done.stdout
