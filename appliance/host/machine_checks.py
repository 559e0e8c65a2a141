"""What this machine gives the station: Python, memory, disk, clock, cameras, serial ports, and the mDNS port.

Every check only looks: it opens no device, changes nothing and needs no network.
"""

import contextlib
import os
import shutil
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from serial.tools import list_ports

from appliance.host.check import Check, ok, problem, warning

GIB: Final = 1 << 30
PYTHON_MIN: Final = (3, 11)
DISK_WARNING_BYTES: Final = 2 * GIB
DISK_PROBLEM_BYTES: Final = GIB // 2
MEMORY_BASE_BYTES: Final = GIB
"""For the station, the browser's share and the system, beside the model."""
YEAR_MIN: Final = 2026
"""This version did not exist before."""
YEAR_MAX: Final = 2100
MDNS_PORT: Final = 5353
_MEMINFO_UNIT_BYTES: Final = 1024


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Compare with the oldest Python that this version runs on."""
    found = ".".join(map(str, version))
    if version < PYTHON_MIN:
        return problem("Python", found, f"Install Python {'.'.join(map(str, PYTHON_MIN))} or newer.")
    return ok("Python", found)


def check_memory(engine_bytes: int, meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Compare the machine's memory with what the model needs, by its plan, and the station beside it."""
    total = _total_memory_bytes(meminfo)
    if total is None:
        return warning("Memory", "unknown: /proc/meminfo does not say", "Compare it with the model's size yourself.")
    needed = engine_bytes + MEMORY_BASE_BYTES
    found = f"{total / GIB:.1f} GiB, of which this model and the station need about {needed / GIB:.1f} GiB"
    if total < needed:
        return problem("Memory", found, "Use a machine with more memory, or a smaller model.")
    return ok("Memory", found)


def check_cores(cores: int | None = None) -> Check:
    """Count the cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if cores is None else cores
    if count < 2:  # one for the model, one for the screen
        return warning("Cores", str(count), "Give it two or more: with one the screen waits while the model answers.")
    return ok("Cores", str(count))


def check_disk(folder: Path) -> Check:
    """Look at the free space where the station keeps its records."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free at {existing}"
    action = "Free some space: photos are only kept while there is room for them."
    if free < DISK_PROBLEM_BYTES:
        return problem("Disk", found, action)
    return warning("Disk", found, action) if free < DISK_WARNING_BYTES else ok("Disk", found)


def check_clock(now: datetime) -> Check:
    """Judge whether the clock can be right; without a network only a person knows whether it is."""
    found = f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if YEAR_MIN <= now.year < YEAR_MAX:
        return ok("Clock", found)
    return warning(
        "Clock", f"{found} cannot be right", "Set date and time, and see whether the clock's battery is empty."
    )


def check_cameras(devices: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> Check:
    """List the video devices that give pictures, and whether this user may open them."""
    names = {
        entry.name: _text(entry / "name")
        for entry in sorted(classes.glob("video*"))
        if _text(entry / "index") in {"", "0"}  # the others carry a camera's metadata
    }
    if not names:
        return warning("Cameras", "none", "Plug a USB camera or a dermatoscope in; only the replay camera works now.")
    found = ", ".join(f"{name} at {devices / node}" for node, name in names.items())
    closed = [node for node in names if not os.access(devices / node, os.R_OK | os.W_OK)]
    if closed:
        return warning(
            "Cameras", f"{found}; not open to this user: {', '.join(closed)}", "Add the user to group video."
        )
    return ok("Cameras", found)


def check_serial_ports() -> Check:
    """List the USB serial ports, one of which may be the microcontroller."""
    ports = sorted(port.device for port in list_ports.comports() if port.vid is not None)
    return ok("Serial ports", ", ".join(ports) or "none; the LED ring and the shutter button are optional")


def check_mdns_port(port: int = MDNS_PORT) -> Check:
    """Try whether the mDNS port can be shared with whoever else answers on it."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            found = f"port {port} cannot be shared: {error.strerror}"
            return warning("mDNS", found, "Stop the program that keeps it to itself, or the LAN does not find the box.")
    return ok("mDNS", f"port {port} can be used")


def _total_memory_bytes(meminfo: Path) -> int | None:
    for line in _text(meminfo).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * _MEMINFO_UNIT_BYTES
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
