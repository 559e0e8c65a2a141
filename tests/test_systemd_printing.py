"""The drop-in for CUPS: systemd understands it, and a real CUPS works with its queue in memory."""

import ctypes.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cups_rig import missing, network_printer, running_cups

from appliance.host.printing import cancel, submit

DROP_IN = Path(__file__).parent.parent / "systemd" / "cups.service.d" / "dermstation.conf"
SERVICE = Path("/lib/systemd/system/cups.service")


def complaints(folder: Path, text: str) -> str:
    units = folder / "units"
    (units / "cups.service.d").mkdir(parents=True)
    shutil.copy(SERVICE, units / "cups.service")
    (units / "cups.service.d" / "dermstation.conf").write_text(text)
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system"}
    command = ["systemd-analyze", "verify", "--man=no", str(units / "cups.service")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True).stderr
    return "".join(line for line in told.splitlines(keepends=True) if str(folder) in line)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or not SERVICE.exists(), reason="systemd or cups-daemon is not installed"
)
def test_systemd_has_nothing_to_say_about_the_drop_in(tmp_path: Path) -> None:
    text = DROP_IN.read_text()
    assert complaints(tmp_path / "right", text) == ""
    assert "Unknown key" in complaints(tmp_path / "wrong", text.replace("TemporaryFileSystem", "TemporaryFiles"))


@pytest.mark.skipif(missing() != "", reason=missing())
def test_queue_in_memory_takes_a_page_and_gives_it_up() -> None:
    """With the options of the drop-in, on the place where CUPS keeps its queue."""
    line = next(line for line in DROP_IN.read_text().splitlines() if line.startswith("TemporaryFileSystem="))
    options = line.partition(":")[2]
    folder = Path("/tmp") / f"cups-memory-{os.getpid()}"
    (folder / "spool").mkdir(parents=True, mode=0o755)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder / "spool"], capture_output=True)
    try:
        if mounted.returncode:
            pytest.skip("needs root to mount")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUPS_SERVER", f"{folder}/cups.sock")
            with running_cups(folder) as cups:
                cups.add_jammed("media-jam-error")
                job = submit("jammed", b"%PDF in memory", "page")
                assert cups.spooled() == ["d00001-001"]
                cancel(job)
                assert cups.spooled() == []
    finally:
        subprocess.run(["umount", "-l", folder / "spool"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


PRINT = """
from appliance.service.printing import Printing
printing = Printing(trouble_s=1)
printing.start(b"%PDF under the unit's rules", "page")
printing.wait(60)
print(printing.printer, printing.state.words)
"""


def under_rules(unit: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[bytes]]:
    """Print under a unit's rules for system calls and memory."""
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is not installed")
    with tempfile.TemporaryDirectory(prefix="cups-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("CUPS_SERVER", f"{name}/cups.sock")
        with running_cups(Path(name)) as cups, network_printer() as paper:
            cups.add("desk", f"socket://127.0.0.1:{paper.port}/?waiteof=false")
            command = [sys.executable, "-m", "rig.seccomp", str(unit), sys.executable, "-c", PRINT]
            done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120)
            return done.stdout.strip() or done.stderr[-500:], paper.pages


@pytest.mark.skipif(missing() != "", reason=missing())
def test_the_station_prints_under_its_units_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unit = DROP_IN.parents[1] / "units" / "dermstation-station.service"
    assert under_rules(unit, monkeypatch) == ("desk Printed on desk.", [b"%PDF under the unit's rules"])
    # Control: without sockets there is no printer.
    shut = tmp_path / "shut.service"
    shut.write_text(f"{unit.read_text()}SystemCallFilter=~connect\n")
    told, pages = under_rules(shut, monkeypatch)
    assert pages == []
    assert "Printed on" not in told
