"""`dermstation serve`: the station's process, from its settings to its orderly end."""

import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from appliance.config import Config, StationConfig, load_config
from appliance.engine_address import EngineAddress
from appliance.errors import ConfigurationError
from appliance.host.discovery import Advertisement, StationState
from appliance.host.notify import Notifier
from appliance.records.errors import StorageFailedError
from appliance.service.clinic import Clinic
from appliance.service.station import Station
from appliance.wiring import build_clinic, build_station
from web.hosts import authority
from web.kiosk.app import MAX_BODY_BYTES, create_kiosk_app
from web.lan.serving import enter_lan, enter_presence, require_loopback
from web.listening import tcp_listener
from web.server import HttpServer

logger = logging.getLogger(__name__)

THREADS: Final = 24
"""A screen holds two at most, its preview and its answer: a dozen screens."""
_TICK_S: Final = 1.0


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file; flags go before it.")
@click.option("--host", help="Loopback address of the screens; nothing else is allowed.")
@click.option("--port", type=int, help="Port to listen on; 0 lets the kernel choose.")
@click.option("--name", help="Instance name on the network; never a clinic's or a patient's.")
@click.option("--lan/--no-lan", default=None, help="Whether phones of the clinic's network may come in and be paired.")
@click.option("--engine", "engine_address", help="Engine to ask: unix:/path or host:port.")
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="Folder of the replay camera.")
@click.option("--records", type=click.Path(path_type=Path, file_okay=False), help="Folder of the records.")
@click.option("--no-records", is_flag=True, help="Store nothing: photos stay in memory until their visit is closed.")
def serve(
    *,
    config: Path | None,
    engine_address: str | None,
    pictures: Path | None,
    lan: bool | None,
    records: Path | None,
    no_records: bool,
    **flags: Any,
) -> None:
    """Serve the station: the kiosk's screens, capture, and its presence on the network."""
    settings = station_settings(load_config(config), {key: flag for key, flag in flags.items() if flag is not None})
    if engine_address is not None:
        settings = with_engine(settings, EngineAddress.parse(engine_address))
    if pictures is not None:
        settings = with_pictures(settings, pictures)
    if lan is not None:
        settings = msgspec.structs.replace(settings, lan=msgspec.structs.replace(settings.lan, enabled=lan))
    if no_records or records is not None:
        settings = with_records(settings, None if no_records else records)
    run_station(settings, Notifier.from_environment())


def station_settings(config: Config, flags: dict[str, Any]) -> Config:
    """Return the settings with the station's flags that were given.

    Raises:
        ConfigurationError: A flag is out of range.
    """
    try:
        station = msgspec.convert({**msgspec.structs.asdict(config.station), **flags}, StationConfig)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The station's flags are refused: {error}.") from error
    return msgspec.structs.replace(config, station=station)


def with_engine(config: Config, address: EngineAddress) -> Config:
    """Return the settings with another engine to ask."""
    engine = msgspec.structs.replace(config.engine, socket=address.socket, host=address.host, port=address.port)
    return msgspec.structs.replace(config, engine=engine)


def with_pictures(config: Config, folder: Path) -> Config:
    """Return the settings with a folder of pictures instead of cameras."""
    camera = msgspec.structs.replace(config.camera, kind="replay", folder=str(folder))
    return msgspec.structs.replace(config, camera=camera)


def with_records(config: Config, folder: Path | None) -> Config:
    """Return the settings with another folder of records; None stores nothing."""
    records = msgspec.structs.replace(config.records, folder=None if folder is None else str(folder))
    return msgspec.structs.replace(config, records=records)


def run_station(config: Config, notifier: Notifier, made: Clinic | None = None) -> None:
    """Serve until SIGTERM, SIGINT, or SIGHUP: closing its terminal ends it in order too.

    Args:
        config: The settings.
        notifier: Whom to tell that the station is ready.
        made: The records, instead of those of the settings.

    Raises:
        ConfigurationError: The address cannot be used.
        CameraError: The camera cannot be opened.
        StorageFailedError: The disk failed: the next start looks at what there is.
    """
    require_loopback(config.station.host)
    listener = listen(config.station.host, config.station.port)
    port = listener.getsockname()[1]
    with ExitStack() as stack:
        clinic = made or build_clinic(config)
        if clinic is not None:
            stack.enter_context(clinic)
        station = stack.enter_context(build_station(config, clinic))
        lan = enter_lan(stack, config, station, clinic)
        app = create_kiosk_app(station, clinic=clinic, lan=lan, records=config.records)
        server = HttpServer(app, listener, threads=THREADS, max_body_bytes=MAX_BODY_BYTES)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.stop())
        presence = enter_presence(stack, config, lan)
        click.echo(f"The station listens on http://{authority(config.station.host, port)}")
        notifier.ready("capture ready")
        end_when_failed(clinic, server.stop, stack)
        _run(server, station, notifier, presence)
        if has_failed(clinic):
            raise StorageFailedError("The disk of the records failed; the next start looks at what there is.")


def has_failed(clinic: Clinic | None) -> bool:
    """Whether the disk of the records failed: nothing more is believed before the next start has looked at it."""
    return clinic is not None and clinic.store is not None and clinic.store.has_failed


def end_when_failed(clinic: Clinic | None, stop: Callable[[], None], stack: ExitStack) -> None:
    """Have `stop` called once the disk of the records fails, until the stack ends."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_TICK_S):
            if has_failed(clinic):
                logger.error("records failed: the station ends, to be started anew")
                stop()
                return

    if clinic is not None:
        watcher = threading.Thread(target=watch, name="records-watch", daemon=True)
        stack.callback(watcher.join, 2)
        stack.callback(done.set)
        watcher.start()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        ConfigurationError: The address is taken, or is none of this machine's.
    """
    try:
        return tcp_listener(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"The station cannot listen on {authority(host, port)}: {error.strerror or error}."
        ) from error


def _run(server: HttpServer, station: Station, notifier: Notifier, presence: Advertisement) -> None:
    done = threading.Event()
    watcher = threading.Thread(target=_tell, args=(station, notifier, presence, done), name="presence", daemon=True)
    watcher.start()
    try:
        server.run()
    finally:
        notifier.stopping()
        done.set()
        watcher.join(2)
        server.close()


def _tell(station: Station, notifier: Notifier, presence: Advertisement, done: threading.Event) -> None:
    """Tell systemd that the station lives, and the network how it is, when that changes."""
    told: StationState | None = None
    while not done.wait(min(_TICK_S, notifier.watchdog_interval_s or _TICK_S)):
        notifier.watchdog()
        states: dict[str, StationState] = {"ready": "ready", "starting": "starting", "off": "no-model"}
        status = station.watch.status
        if (state := states[status.state]) != told:
            told = state
            presence.update_state(state)
            notifier.status(status.words)
