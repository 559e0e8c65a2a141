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

from appliance.config import Provider
from appliance.demo import bundle_path, pictures_path
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.medgemma.generation import Generation
from appliance.medgemma.openvino_tower import OPENVINO

UNIT = boot_files.SOURCE / "units/dermstation-engine.service"
STATION_UNIT = boot_files.SOURCE / "units/dermstation-station.service"
FRONT_UNIT = boot_files.SOURCE / "units/dermstation-front.service"
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

    def status_with(self, word: str) -> str:
        """Wait for a status with a word in it and return it."""
        while True:
            for line in self.manager.recv(4096).decode().splitlines():
                if line.startswith("STATUS=") and word in line:
                    return line


@contextlib.contextmanager
def started(
    folder: Path, bundle: Path, unit: Path = UNIT, more: str = "", *, provider: Provider = "auto"
) -> Iterator[Service]:
    path = folder / "engine.sock"
    settings = folder / "dermstation.toml"
    settings.write_text(
        f'[engine]\nbundle = "{bundle}"\nsocket = "{path}"\nprovider = "{provider}"\n[station]\nport = 0\n{more}'
    )
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


def test_openvino_needs_the_right_to_make_code_and_nothing_else(tmp_path: Path) -> None:
    for name in ("forbidden", "allowed"):
        (tmp_path / name).mkdir()
    with started(tmp_path / "forbidden", bundle_path(), provider="openvino") as service:
        sentence = service.status_with("OpenVINO")
        assert "it may not make code at run time (under systemd it needs MemoryDenyWriteExecute=no)." in sentence
    changed = tmp_path / "dermstation-engine.service"
    changed.write_text(UNIT.read_text().replace("\nMemoryDenyWriteExecute=yes\n", "\nMemoryDenyWriteExecute=no\n"))
    with started(tmp_path / "allowed", bundle_path(), changed, provider="openvino") as service:
        service.wait_for("STATUS=the model is ready")
        service.client.encode_image(min(pictures_path().glob("*.jpg")).read_bytes())
        assert OPENVINO in service.client.health().providers


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


@contextlib.contextmanager
def front_service(meeting: Path, unit: Path = FRONT_UNIT) -> Iterator["subprocess.Popen[str]"]:
    """The process that faces the network under its unit's rules, in a network namespace with nothing in it."""
    command = ["unshare", "--net", sys.executable, "-m", "rig.seccomp", str(unit)]
    command += [sys.executable, "-I", "-m", "web.lan.front_main", str(meeting)]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_phones_come_in_through_a_service_without_a_network(tmp_path: Path, bundle: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    path = meeting / "front.sock"
    lan = f'[lan]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\nfolder = "{tmp_path / "lan"}"\n'
    lan += f'front = "{path}"\n[records]\nfolder = "{tmp_path / "records"}"\n'
    with started(tmp_path, bundle, STATION_UNIT, lan) as service, front_service(path) as front:
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
        assert path.stat().st_mode & 0o777 == 0o660
        # It has no network of its own, and its own filter on top of the unit's.
        assert Path(f"/proc/{front.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        assert "Seccomp_filters:\t2" in Path(f"/proc/{front.pid}/status").read_text()
        # The station goes, the front with it; systemd starts both again.
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE_S) == 0
        assert front.wait(PATIENCE_S) == 0


def test_the_fronts_rules_are_really_in_force(tmp_path: Path) -> None:
    without_connections = tmp_path / "unit"
    without_connections.write_text(f"{FRONT_UNIT.read_text()}SystemCallFilter=~connect\n")
    with socket.socket(socket.AF_UNIX) as station:
        station.bind(str(tmp_path / "front.sock"))
        station.listen()
        station.settimeout(5)
        with front_service(tmp_path / "front.sock", without_connections), pytest.raises(TimeoutError):
            station.accept()
        with front_service(tmp_path / "front.sock"):
            station.settimeout(PATIENCE_S)
            station.accept()[0].close()


def test_the_rules_are_really_in_force(tmp_path: Path, bundle: Path) -> None:
    without_sockets = tmp_path / "unit"
    without_sockets.write_text(f"{UNIT.read_text()}SystemCallFilter=~bind\n")
    with started(tmp_path, bundle, without_sockets) as service:
        _, errors = service.process.communicate(timeout=PATIENCE_S)
    assert "cannot listen" in errors
    assert service.process.returncode == 78
