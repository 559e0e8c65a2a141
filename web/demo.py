"""`dermstation demo`: engine and station on loopback with the demonstration bundle and a replay camera.

The engine is a process of its own here too, so that it can die as it can in a clinic; it is started again.
"""

import logging
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import click

from appliance import huge_pages
from appliance.clock import SystemClock
from appliance.config import LOOPBACK, Config
from appliance.engine_address import EngineAddress
from appliance.errors import ConfigurationError
from appliance.host.notify import Notifier
from appliance.service.clinic import Clinic
from web.serve import listen, run_station, station_settings, with_engine, with_pictures, with_records

logger = logging.getLogger(__name__)

PORT: Final = 8080
_PORTS_TRIED: Final = 20
_RESTART_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before the engine is started again, one death after the other."""
_STOP_S: Final = 5.0


@click.command()
@click.option("--port", type=int, default=None, help=f"Port on loopback; {PORT} or the next free one by default.")
@click.option("--bundle", help="Folder of another model bundle.")
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="Folder of the replay camera.")
@click.option("--first-run", is_flag=True, help="Begin with a box that is not set up, to walk through its first run.")
@click.option("--no-records", is_flag=True, help="Nobody signs in and nothing is stored.")
def demo(*, port: int | None, bundle: str | None, pictures: Path | None, first_run: bool, no_records: bool) -> None:
    """Show the product on this machine: open the printed address, sign in with the PIN it shows, take a photo.

    Its records lie in a temporary folder, which goes with it.
    """
    with tempfile.TemporaryDirectory(prefix="dermstation-") as folder:
        address = EngineAddress(socket=str(Path(folder) / "engine.sock"))
        config = with_engine(station_settings(Config(), {"port": free_port(port)}), address)
        config = with_records(config, None if no_records else Path(folder) / "records")
        if pictures is not None:
            config = with_pictures(config, pictures)
        clinic = None if first_run or no_records else _clinic(config)
        with EngineKeeper(address, bundle):
            run_station(config, Notifier.from_environment(), clinic)


def _clinic(config: Config) -> Clinic | None:
    """Set a box up with secrets that its screens show; None without the extra `records`."""
    try:
        from appliance.service.demonstration import demonstration_clinic
    except ImportError as error:
        logger.warning("records off, nothing is stored: the extra 'records' is not installed missing=%s", error.name)
        return None
    folder = Path(str(config.records.folder))
    return demonstration_clinic(folder, clock=SystemClock(), idle_s=config.records.idle_lock_s)


class EngineKeeper:
    """Keeps one engine process running, on a thread of its own; a context manager."""

    def __init__(self, address: EngineAddress, bundle: str | None) -> None:
        self._command = [sys.executable, "-m", "appliance", "engine", "--stop-at-eof", "--socket", str(address.socket)]
        self._command += ["--bundle", bundle] if bundle is not None else []
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="engine-keeper", daemon=True)

    def __enter__(self) -> Self:
        """Start the engine."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the engine."""
        self._stop.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(_STOP_S)

    def _keep(self) -> None:
        deaths = 0
        while not self._stop.is_set():
            with self._lock:
                if self._stop.is_set():
                    return
                # A group of its own: Ctrl-C in the terminal is for the station, which then ends the engine in order.
                # Its standard input is the line it hangs on: it ends with this process, however that ends.
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    process_group=0,
                    env={**huge_pages.ENVIRONMENT, **os.environ},
                )
            status = self._process.wait()
            if self._stop.is_set():
                return
            logger.warning("engine ended: status=%s", status)
            self._stop.wait(_RESTART_S[min(deaths, len(_RESTART_S) - 1)])
            deaths += 1


def free_port(wanted: int | None) -> int:
    """Return the port to use on loopback: the wanted one, else the first free from 8080 on.

    Raises:
        ConfigurationError: There is none.
    """
    for port in [wanted] if wanted is not None else range(PORT, PORT + _PORTS_TRIED):
        try:
            listen(LOOPBACK, port).close()
        except ConfigurationError:
            if wanted is not None:
                raise
            continue
        return port
    raise ConfigurationError(f"The ports {PORT} to {PORT + _PORTS_TRIED - 1} are all taken; give one with --port.")
