"""A real CUPS of a test's own, on a socket in its folder, and printers that a test can break."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CUPSD = "/usr/sbin/cupsd"
_SHARED = Path("/usr/lib/cups")
_APP_SOCKET = _SHARED / "backend" / "socket"
_BACKEND = """#!/bin/sh
# A printer that complains and waits, as one does in which the paper is jammed.
[ $# = 0 ] && { echo 'direct jam "Unknown" "Jam"'; exit 0; }
echo "STATE: +$(cat %s)" >&2
exec sleep 60
"""


def missing() -> str:
    """Say why there is no CUPS here; empty when there is."""
    programs = (CUPSD, str(_APP_SOCKET), "lp", "lpstat", "lpoptions", "lpadmin", "cancel")
    if absent := [name for name in programs if shutil.which(name) is None]:
        return f"{', '.join(absent)} is missing: install Debian's cups and cups-client"
    return "" if os.geteuid() == 0 else "needs root to start its own cupsd"


@dataclass(kw_only=True)
class Paper:
    """A printer on the network: what came out of it."""

    pages: list[bytes] = field(default_factory=list)
    port: int = 0

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                self.pages.append(file.read())


@contextmanager
def network_printer() -> Iterator[Paper]:
    """Listen as a printer does that takes a page as it is (AppSocket, port 9100)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        paper = Paper(port=server.getsockname()[1])
        threading.Thread(target=paper.serve, args=(server,), daemon=True).start()
        yield paper


@dataclass(frozen=True, kw_only=True)
class Cups:
    """The running server."""

    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "etc" / "cupsd.conf"

    def add(self, name: str, uri: str, *, is_default: bool = True) -> None:
        subprocess.run(["lpadmin", "-p", name, "-E", "-v", uri, "-m", "raw"], check=True, capture_output=True)
        if is_default:
            subprocess.run(["lpadmin", "-d", name], check=True, capture_output=True)

    def add_jammed(self, reason: str) -> None:
        """Add a printer that complains of one thing and prints nothing."""
        (self.folder / "reason").write_text(reason)
        (self.folder / "reason").chmod(0o644)
        self.add("jammed", "jam:/here")

    def spooled(self) -> list[str]:
        """The pages that lie in the queue."""
        return sorted(path.name for path in (self.folder / "spool").glob("d*"))


@contextmanager
def running_cups(folder: Path, *, keeps_files: bool = False) -> Iterator[Cups]:
    """Run it; the caller has pointed CUPS_SERVER at `folder / "cups.sock"`."""
    for name in ("etc", "spool", "cache", "state", "log", "tmp", "bin/backend"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for shared in _SHARED.iterdir():
        if shared.name != "backend":
            (folder / "bin" / shared.name).symlink_to(shared)
    shutil.copy(_APP_SOCKET, folder / "bin" / "backend" / _APP_SOCKET.name)
    jam = folder / "bin" / "backend" / "jam"
    jam.write_text(_BACKEND % (folder / "reason"))
    jam.chmod(0o755)
    places = {
        "ServerRoot": "etc", "RequestRoot": "spool", "CacheDir": "cache", "StateDir": "state", "TempDir": "tmp",
        "ServerBin": "bin", "AccessLog": "log/access", "ErrorLog": "log/error", "PageLog": "log/page",
    }  # fmt: skip
    files = folder / "etc" / "cups-files.conf"
    files.write_text("".join(f"{key} {folder / place}\n" for key, place in places.items()))
    cups = Cups(folder=folder)
    cups.configuration.write_text(
        f"Listen {folder / 'cups.sock'}\nBrowsing No\nPreserveJobFiles {'Yes' if keeps_files else 'No'}\n"
        "<Location />\nAllow all\n</Location>\n<Location /admin>\nAllow all\n</Location>\n"
        "<Policy default>\n<Limit All>\nOrder deny,allow\n</Limit>\n</Policy>\n"
    )
    command = [CUPSD, "-f", "-c", str(cups.configuration), "-s", str(files)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for(folder / "cups.sock", process)
        yield cups
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        if path.exists() and subprocess.run(["lpstat", "-r"], capture_output=True).stdout.startswith(b"scheduler is"):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError("cupsd did not start")
