"""A TPM 2.0 in software, Debian's `swtpm`, behind a Unix socket: one chip a folder, which keeps its state there."""

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.host.tpm import Tpm

START_S = 20.0
needs_tpm = [
    pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs Debian's swtpm"),
    pytest.mark.skipif(importlib.util.find_spec("tpm2_pytss") is None, reason="needs the extra [tpm]: make tpm"),
]


@contextmanager
def software_tpm(folder: Path) -> Iterator[Tpm]:
    """Switch a chip on; it forgets nothing from one time to the next, as a real one."""
    folder.mkdir(exist_ok=True)
    socket = folder / "tpm.sock"
    socket.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--server", f"type=unixio,path={socket}",
            "--ctrl", f"type=unixio,path={socket}.ctrl", "--flags", "not-need-init,startup-clear",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until_s = time.monotonic() + START_S
        while not (socket.exists() and Path(f"{socket}.ctrl").exists()):
            assert process.poll() is None, "swtpm ended"
            assert time.monotonic() < until_s, "swtpm does not start"
            time.sleep(0.02)
        yield Tpm(f"swtpm:path={socket}")
    finally:
        process.terminate()
        process.wait(START_S)
