"""`dermstation engine`: the model's process, from its flags to its orderly end."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

import appliance.demo
from appliance.config import EngineConfig, Provider, load_config
from appliance.engine_address import EngineAddress
from appliance.errors import ConfigurationError
from appliance.host.notify import Notifier
from web.engine.app import create_engine_app
from web.engine.limits import EngineLimits
from web.engine.listening import listening_socket, remove_socket_file
from web.engine.model_host import Model, ModelHost
from web.engine.service import EngineService
from web.engine.serving import engine_server
from web.server import HttpServer

logger = logging.getLogger(__name__)


@click.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file; flags go before it.")
@click.option("--bundle", help="Folder of the model bundle; the demonstration bundle by default.")
@click.option("--socket", help="Unix socket to listen on.")
@click.option("--host", help="Loopback address to listen on; nothing else is allowed.")
@click.option("--port", type=int, help="Port to listen on; 0 lets the kernel choose.")
@click.option("--threads", type=int, help="Compute threads.")
@click.option("--context-length", type=int, help="Tokens of prompt and answer together.")
@click.option("--provider", type=click.Choice(get_args(Provider)), help="Where to compute.")
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="End when standard input closes: its starter is gone.")
def engine(config: Path | None, *, stop_at_eof: bool, **flags: Any) -> None:
    """Serve the model: an OpenAI-compatible chat API on a Unix socket or on loopback."""
    if stop_at_eof:
        threading.Thread(target=_stop_at_eof, name="stop-at-eof", daemon=True).start()
    settings = engine_config(
        load_config(config).engine, {name: flag for name, flag in flags.items() if flag is not None}
    )
    run_engine(settings, lambda: load_model(settings), Notifier.from_environment())


def engine_config(settings: EngineConfig, flags: dict[str, Any]) -> EngineConfig:
    """Return the settings with the flags that were given.

    Raises:
        ConfigurationError: A flag is out of range, or flags exclude each other.
    """
    if "socket" in flags and {"host", "port"} & flags.keys():
        raise ConfigurationError("The engine listens on --socket or on --host and --port, not on both.")
    if {"host", "port"} & flags.keys():
        flags = {**flags, "socket": None}
    try:
        return msgspec.convert({**msgspec.structs.asdict(settings), **flags}, EngineConfig)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The engine's flags are refused: {error}.") from error


def load_model(settings: EngineConfig) -> Model:
    """Open the bundle of the settings.

    Raises:
        BundleError: It is missing, damaged or does not open.
        EngineUnavailableError: There is too little memory for it.
    """
    from appliance.medgemma.engine import MedGemma, RuntimeOptions

    options = RuntimeOptions(
        threads=settings.threads, context_length=settings.context_length, provider=settings.provider
    )
    return MedGemma.load(bundle_path(settings), options)


def bundle_path(settings: EngineConfig) -> Path:
    """Return the bundle's folder."""
    return Path(settings.bundle) if settings.bundle is not None else appliance.demo.bundle_path()


def run_engine(settings: EngineConfig, load: Callable[[], Model], notifier: Notifier) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The address is taken or not loopback.
    """
    limits = EngineLimits.from_config(settings)
    listener, address = listening_socket(EngineAddress.from_config(settings))
    service = EngineService(ModelHost(load, notifier.status), limits)
    app = create_engine_app(service, over_tcp=address.socket is None)
    server = engine_server(app, listener, limits)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    service.start()
    click.echo(f"The engine listens on {address}")
    notifier.ready("loading the model")
    done = threading.Event()
    watchdog = threading.Thread(target=_watch, args=(service, notifier, done), name="watchdog", daemon=True)
    watchdog.start()
    try:
        server.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            # An impatient second one would end the interpreter's own clean-up with a bad status.
            signal.signal(number, signal.SIG_IGN)
        notifier.stopping()
        done.set()
        watchdog.join(1)
        _end(server, service, address)


def _stop_at_eof() -> None:
    """Wait for whoever started this process to go, then end in order."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _watch(service: EngineService, notifier: Notifier, done: threading.Event) -> None:
    """Tell systemd that the engine lives, for as long as its model makes progress; it restarts a silent engine."""
    while notifier.watchdog_interval_s is not None and not done.wait(notifier.watchdog_interval_s):
        stalled_for_s = service.queue.stalled_for_s()
        if stalled_for_s is None:
            notifier.watchdog()
        else:
            logger.error("model hangs: running_s=%.0f", stalled_for_s)


def _end(server: HttpServer, service: EngineService, address: EngineAddress) -> None:
    remove_socket_file(address)
    is_free = service.close()
    server.close()
    if not (is_free and service.host.has_ended):
        # A thread is inside ONNX Runtime: leaving in the usual way would tear its memory down under it.
        logging.shutdown()
        os._exit(0)
