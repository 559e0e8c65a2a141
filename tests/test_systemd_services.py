"""The real engine and station, shut in as their units say: they start, do their work, and tell systemd."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from kiosk_station import until
from medgemma_bundles import export_random, png
from rig import boot_files
from test_engine_client import GREEDY, user

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.medgemma.generation import Generation

UNIT = boot_files.SOURCE / "units/dermstation-engine.service"
STATION_UNIT = boot_files.SOURCE / "units/dermstation-station.service"
WATCHDOG_US = 400_000
PATIENCE_S = 120
"""Loading is a second of work, on a machine that may be busy with other things."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "systemd-analyze"))),
    reason="a private network needs root; the unit's rules need systemd-analyze",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_random(tmp_path_factory.mktemp("model")).bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A started unit's command and the socket on which systemd would listen."""

    process: subprocess.Popen[str]
    manager: socket.socket
    client: EngineClient

    def wait_for(self, assignment: str) -> None:
        while assignment not in self.manager.recv(4096).decode().splitlines():
            pass


@contextlib.contextmanager
def started(folder: Path, bundle: Path, unit: Path = UNIT, more: str = "") -> Iterator[Service]:
    path = folder / "engine.sock"
    settings = folder / "dermstation.toml"
    settings.write_text(f'[engine]\nbundle = "{bundle}"\nsocket = "{path}"\n[station]\nport = 0\n{more}')
    is_station = unit == STATION_UNIT
    command = [str(Path(sys.executable).with_name("dermstation")), "serve" if is_station else "engine"]
    command += ["--config", str(settings)]
    if is_station and "[records]" not in more:
        command.append("--no-records")
    # The engine has no network at all; the station needs loopback at least, which a new network does not have up.
    shut_in = [] if is_station else ["unshare", "--net"]
    shut_in += [sys.executable, "-m", "rig.seccomp", str(unit)]
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE_S)
        environ = {**os.environ, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": str(WATCHDOG_US)}
        with subprocess.Popen(
            [*shut_in, *command],
            cwd=Path(__file__).parent,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Service(process=process, manager=manager, client=EngineClient(EngineAddress(socket=str(path))))
            finally:
                process.kill()


def test_the_engine_works_under_its_units_rules_and_keeps_systemd_told(tmp_path: Path, bundle: Path) -> None:
    with started(tmp_path, bundle) as service:
        service.wait_for("READY=1")
        service.wait_for("STATUS=the model is ready")
        service.client.encode_image(png())
        with service.client.generate(user("What is this?"), GREEDY) as stream:
            *_, generation = stream
        assert isinstance(generation, Generation)
        service.wait_for("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("STOPPING=1")
        assert service.process.wait(PATIENCE_S) == 0


def test_the_station_works_under_its_units_rules_and_keeps_systemd_told(tmp_path: Path, bundle: Path) -> None:
    with started(tmp_path, bundle, STATION_UNIT) as service:
        service.wait_for("READY=1")
        assert service.process.stdout is not None
        address = service.process.stdout.readline().split()[-1]
        response = httpx.get(f"{address}/preview", timeout=PATIENCE_S)
        assert response.headers["Content-Type"] == "image/jpeg"
        assert response.content.startswith(b"\xff\xd8")
        # No engine runs: the station says so and lives on.
        service.wait_for("STATUS=Model is off: photos still work")
        service.wait_for("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("STOPPING=1")
        assert service.process.wait(PATIENCE_S) == 0


def test_phones_come_in_under_the_units_rules_at_a_lower_priority(tmp_path: Path, bundle: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lan = f'[lan]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\nfolder = "{tmp_path / "lan"}"\n'
    lan += f'[records]\nfolder = "{tmp_path / "records"}"\n'
    with started(tmp_path, bundle, STATION_UNIT, lan) as service:
        service.wait_for("READY=1")

        def answer() -> httpx.Response | None:
            try:
                authority = ssl.create_default_context(cadata=httpx.get(f"http://127.0.0.1:{port}/ca.crt").content)
                address = {"sni_hostname": "dermstation.local"}
                with httpx.Client(verify=authority, headers={"Host": "dermstation.local"}) as client:
                    return client.get(f"https://127.0.0.1:{port}/", extensions=address)
            except httpx.TransportError:
                return None

        until(lambda: answer() is not None)
        found = answer()
        assert found is not None
        assert (found.status_code, "not paired" in found.text) == (200, True)
        (front,) = fronts_of(service.process.pid)
        lower = os.getpriority(os.PRIO_PROCESS, service.process.pid) + 10
        assert os.getpriority(os.PRIO_PROCESS, front) == min(19, lower)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE_S) == 0
        assert not Path(f"/proc/{front}").exists()


def fronts_of(pid: int) -> list[int]:
    """The processes of a station that face the network."""
    children = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [one for one in map(int, children.split()) if b"web.lan.front" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_the_rules_are_really_in_force(tmp_path: Path, bundle: Path) -> None:
    without_sockets = tmp_path / "unit"
    without_sockets.write_text(f"{UNIT.read_text()}SystemCallFilter=~bind\n")
    with started(tmp_path, bundle, without_sockets) as service:
        _, errors = service.process.communicate(timeout=PATIENCE_S)
    assert "cannot listen" in errors
    assert service.process.returncode == 78
