"""The drop-in for CUPS: systemd understands it, and a real CUPS works with its queue in memory."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cups_rig import missing, running_cups

from appliance.host.printing import cancel, submit

DROP_IN = Path(__file__).parent.parent / "systemd" / "cups.service.d" / "dermstation.conf"
SERVICE = Path("/lib/systemd/system/cups.service")


def complaints(folder: Path, text: str) -> str:
    units = folder / "units"
    (units / "cups.service.d").mkdir(parents=True)
    shutil.copy(SERVICE, units / "cups.service")
    (units / "cups.service.d" / "dermstation.conf").write_text(text)
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system"}
    command = ["systemd-analyze", "verify", "--man=no", units / "cups.service"]
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
