"""What machine this is and how it feels: processor, cores, memory, clock frequency, temperature, throttling.

It only reads /proc and /sys; what a machine does not show is left out, not guessed.
Source: proc_cpuinfo(5), proc_meminfo(5); kernel documentation, admin-guide/pm/cpufreq.rst and
driver-api/thermal/sysfs-api.rst.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.medgemma.sessions import available_cores

THERMAL_THROTTLE: Final = "cpu[0-9]*/thermal_throttle/core_throttle_count"
_KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """How warm and how fast the processor is at one moment; `None` where the machine does not say."""

    temperature_c: float | None
    """Of the hottest sensor."""
    frequency_mhz: float | None
    """Of the slowest core."""
    throttled: int | None
    """How often a core has slowed down because of heat since the machine was started."""


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return `processor`, `cores`, `memory_gb`, `architecture`, `kernel` and `python`."""
    return {
        "processor": _processor(root / "proc/cpuinfo"),
        "cores": available_cores(),
        "memory_gb": _memory_gb(root / "proc/meminfo"),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def read_climate(root: Path = Path("/")) -> Climate:
    """Read temperature, frequency and throttling now."""
    temperatures = _numbers(root / "sys/class/thermal", "thermal_zone*/temp")
    cpus = root / "sys/devices/system/cpu"
    frequencies = _numbers(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq")
    throttled = _numbers(cpus, THERMAL_THROTTLE)
    return Climate(
        temperature_c=max(temperatures) / 1000 if temperatures else None,  # the kernel counts thousandths
        frequency_mhz=min(frequencies) / 1000 if frequencies else None,  # and kHz
        throttled=int(sum(throttled)) if throttled else None,
    )


def load_average() -> float:
    """Return how many tasks wanted a core over the last minute."""
    return os.getloadavg()[0]


def peak_rss_bytes() -> int:
    """Return this process's largest resident set, mapped files included.

    Source: proc_pid_status(5), VmHWM; getrusage's figure would include a parent's memory from before exec.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError("/proc/self/status has no VmHWM")


def _processor(cpuinfo: Path) -> str:
    for line in _lines(cpuinfo):
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model", "Hardware"} and value.strip():
            return value.strip()
    return platform.machine()  # many ARM kernels name no model


def _memory_gb(meminfo: Path) -> float | None:
    for line in _lines(meminfo):
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * _KIB / 1e9, 1)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _numbers(folder: Path, pattern: str) -> list[float]:
    found = []
    for path in sorted(folder.glob(pattern)):
        try:
            found.append(float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # a sensor may be there and not answer
    return found
