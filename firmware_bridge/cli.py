"""`python -m firmware_bridge ping | monitor | simulate | flash`: the link without the rest of the box."""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from .client import Dermatoscope
from .errors import DeviceAbsentError, FirmwareError
from .faults import FaultRates, FaultyLine
from .flash import FlashPlan, flash, wait_until_ready
from .port import opener
from .pump import Snapshot
from .simulated_device import SimulatedDevice
from .simulator import PtyServer, SimulatorServer, SocketServer

_EX_UNAVAILABLE = 69
_MONITOR_STEP_S = 0.5
_FIRMWARE = Path(__file__).parent / "firmware" / "build" / "firmware.hex"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Talk to the dermatoscope, or be one."""


@cli.command()
@click.option("--port", help="path of the serial port; found by its stable name if absent")
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 1000))
def ping(port: str | None, count: int) -> None:
    """Ask the device how it is, COUNT times, and say how long the answers took."""
    with Dermatoscope(opener(port)) as device:
        _require(device)
        firmware = device.firmware()
        click.echo(f"board {firmware.board.name} firmware {firmware.major}.{firmware.minor}.{firmware.patch}")
        for _ in range(count):
            started_s = time.monotonic()
            status = device.status()
            elapsed_ms = (time.monotonic() - started_s) * 1000
            click.echo(f"{elapsed_ms:6.1f} ms  up {status.uptime_ms} ms  faults {int(status.faults):#04x}")


@cli.command()
@click.option("--port", help="path of the serial port; found by its stable name if absent")
@click.option("--seconds", type=float, help="stop after so long; otherwise at Ctrl-C")
def monitor(port: str | None, seconds: float | None) -> None:
    """Show state and events until stopped; the device may come and go."""
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    with Dermatoscope(opener(port)) as device:
        shown = ""
        while time.monotonic() < end_s:
            event = device.next_event(_MONITOR_STEP_S)
            if event is not None:
                click.echo(f"event {event.opcode.name} value {event.value}")
            line = _line(device.snapshot)
            if line != shown:
                click.echo(line)
                shown = line


@cli.command()
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="serve on this Unix socket, not a pty")
@click.option("--noise", default=0.0, help="chance that a packet is damaged")
@click.option("--drop", default=0.0, help="chance that a packet is lost")
@click.option("--duplicate", default=0.0, help="chance that a packet comes twice")
@click.option("--reorder", default=0.0, help="chance that a packet comes late")
@click.option("--seed", default=0, show_default=True, help="seed of the faults")
@click.option("--seconds", type=float, help="stop after so long; otherwise at Ctrl-C")
def simulate(socket_path: Path | None, seconds: float | None, seed: int, **chances: float) -> None:
    """Be a dermatoscope on a pty, whose path is printed, or on a socket; a faulty one if asked."""
    generator = random.Random(seed)  # noqa: S311 - faults, not keys
    rates = FaultRates(**chances)
    lines = FaultyLine(rates, generator), FaultyLine(rates, generator)
    device = SimulatedDevice()
    server: SimulatorServer
    if socket_path is None:
        server = pty_server = PtyServer(device, lines=lines)
        click.echo(pty_server.path)
    else:
        server = SocketServer(device, socket_path, lines=lines)
        click.echo(str(socket_path))
    with server:
        time.sleep(seconds if seconds is not None else float(sys.maxsize // 10**10))


@cli.command(name="flash")
@click.argument("image", type=click.Path(path_type=Path), default=_FIRMWARE)
@click.option("--port", required=True, help="path of the serial port")
@click.option("--baud", default=115_200, show_default=True, help="the boot loader's rate; 57600 on old Nanos")
@click.option("--blank", is_flag=True, help="the board has no firmware of ours, or a broken one: no hand-over")
def flash_command(image: Path, port: str, baud: int, *, blank: bool) -> None:
    """Write new firmware to the board with avrdude, and check that it answers."""
    version = flash(FlashPlan(image=image, port=port, baud_hz=baud), is_blank=blank)
    click.echo("running " + ".".join(map(str, version)))


def main(run: Callable[[], None] = cli) -> None:
    """Run; an error of ours ends as one sentence and status 69."""
    try:
        run()
    except FirmwareError as error:
        click.echo(str(error), err=True)
        sys.exit(_EX_UNAVAILABLE)


def _require(device: Dermatoscope) -> None:
    if not wait_until_ready(device):
        raise DeviceAbsentError("No dermatoscope answers. Is it plugged in? Its port can be given with --port.")


def _line(snapshot: Snapshot) -> str:
    parts = [f"state {snapshot.state.value}", f"light {snapshot.light.value}", f"off reason {snapshot.off_reason.name}"]
    if snapshot.status is not None:
        parts.append(f"inputs {int(snapshot.status.inputs)} faults {int(snapshot.status.faults):#04x}")
    return "  ".join(parts)
