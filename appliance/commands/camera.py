"""`dermstation camera`: what a technician asks of the cameras: which there are, what they send, how they hold out."""

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from appliance.clock import SystemClock
from appliance.config import Config, load_config
from appliance.errors import CameraError

if TYPE_CHECKING:
    from appliance.camera.v4l2 import V4l2Camera
    from appliance.types import Frame

SETTINGS: Final = Path("/etc/dermstation/dermstation.toml")
_WAIT_S: Final = 10.0
_LINE_S: Final = 1.0
_VIEWS: Final = 5
_SCALE_SPREAD_MAX: Final = 0.02


@click.group()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings file; {SETTINGS} where it exists, else the defaults.",
)
@click.pass_context
def camera(ctx: click.Context, /, *, config: Path | None) -> None:
    """Look at the cameras that are plugged in; stop the station first, it keeps them to itself."""
    ctx.obj = load_config(config or (SETTINGS if SETTINGS.exists() else None))


def _role_option(command: Any) -> Any:
    roles = click.Choice(["overview", "dermatoscope"])
    return click.option("--role", type=roles, default="overview", show_default=True, help="Which camera.")(command)


@camera.command("list")
@click.pass_obj
def list_cameras(config: Config) -> None:
    """List the cameras by the names that go into the settings, and say which of them has which role."""
    from appliance.camera.by_id import plugged_cameras
    from appliance.camera.configured import camera_finder, configured_devices

    cameras = plugged_cameras()
    for plugged in cameras:
        click.echo(f"{plugged.path}  {plugged.name}, now {plugged.node}")
    if not cameras:
        click.echo("No camera is connected. Plug the camera in.")
    for role in configured_devices(config.camera):
        try:
            found = camera_finder(config.camera, role)()
        except CameraError as error:
            click.echo(f"{role}: {error}")
            continue
        click.echo(f"{role}: {found or 'not plugged in'}")


@camera.command()
@_role_option
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True)
@click.pass_obj
def preview(config: Config, role: Any, seconds: float) -> None:
    """Print every second what the camera sends: rate, size, format, age, and how sharp it is."""
    with _opened(config, role) as source:
        after, until_s = _first(source).sequence, time.monotonic() + seconds
        while time.monotonic() < until_s:
            began_s, frames, frame = time.monotonic(), 0, None
            while time.monotonic() - began_s < _LINE_S:
                newer = source.frame(after, _LINE_S)
                if newer is not None:
                    after, frame, frames = newer.sequence, newer, frames + 1
            rate = frames / (time.monotonic() - began_s)
            click.echo(f"{rate:5.1f} frames/s  {_described(source, frame)}" if frame else "  0.0 frames/s")


@camera.command()
@_role_option
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.pass_obj
def capture(config: Config, role: Any, output: Path) -> None:
    """Write one frame to a file, byte for byte as the camera sent it; a raw one as PNG."""
    with _opened(config, role) as source:
        frame = _first(source)
        try:
            output.write_bytes(frame.content)
        except OSError as error:
            raise CameraError(f"The picture cannot be written to {output}: {error.strerror}.") from error
        click.echo(f"{output}: {_described(source, frame)}, sha256 {hashlib.sha256(frame.content).hexdigest()}")


@camera.command()
@_role_option
@click.pass_obj
def calibrate(config: Config, role: Any) -> None:
    """Measure the scale with the printed card (`dermstation card`) before the camera."""
    import numpy as np

    from appliance.imaging.card import find_card
    from appliance.imaging.decode import image_from_bytes

    scales: list[float] = []
    with _opened(config, role) as source:
        after, until_s = -1, time.monotonic() + _WAIT_S
        _first(source)
        while len(scales) < _VIEWS and time.monotonic() < until_s:
            frame = source.frame(after, 1.0)
            if frame is None:
                continue
            after = frame.sequence
            pixels = image_from_bytes(frame.content)
            view = find_card(pixels)
            if view is not None:
                scales.append(view.px_per_mm())
    if len(scales) < _VIEWS:
        raise CameraError("The card was not seen well enough: lay it flat, whole and sharp before the camera.")
    scale = float(np.median(scales))
    spread = (max(scales) - min(scales)) / scale
    height, width = pixels.shape[:2]
    click.echo(f"{scale:.2f} pixels per mm; the picture covers {width / scale:.0f} mm x {height / scale:.0f} mm")
    if spread > _SCALE_SPREAD_MAX:
        click.echo(f"{spread:.1%} apart over {_VIEWS} pictures: fix the camera, then measure again.")


@camera.command()
@_role_option
@click.option("--minutes", type=click.FloatRange(min=0.05), default=10.0, show_default=True)
@click.pass_context
def soak(ctx: click.Context, /, role: Any, minutes: float) -> None:
    """Watch the camera for a while; unplug it as often as you like. Status 1 when something was wrong."""
    from appliance.camera.soak import watch_camera

    with _opened(ctx.obj, role) as source:
        report = watch_camera(source, minutes * 60, SystemClock(), click.echo)
    for line in report.lines():
        click.echo(line)
    ctx.exit(0 if report.is_sound else 1)


def _opened(config: Config, role: Any) -> "V4l2Camera":
    from appliance.camera.configured import build_camera

    return build_camera(config.camera, role)


def _first(source: "V4l2Camera") -> "Frame":
    """Wait for a frame, and let a camera that is starting be."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        try:
            frame = source.frame(-1, 0.5)
        except CameraError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)
            continue
        if frame is not None:
            return frame
        if time.monotonic() > until_s:
            raise CameraError("The camera sends no picture.")


def _described(source: "V4l2Camera", frame: "Frame") -> str:
    agreed = source.format
    shape = f"{agreed.width_px} x {agreed.height_px} {agreed.pixel_format}" if agreed is not None else frame.media_type
    age_ms = (SystemClock().monotonic_s() - frame.captured_s) * 1000
    return f"{shape}  {len(frame.content) / 1e3:.0f} kB  {age_ms:.0f} ms old  focus {_focus(frame):.2f}"


def _focus(frame: "Frame") -> float:
    """Return the sharpness by which the screen judges, 0 to 1."""
    import numpy as np
    from PIL import Image

    from appliance.imaging.decode import image_from_bytes
    from appliance.imaging.quality import WORKING_SHORT_SIDE_PX, QualityMeter

    picture = Image.fromarray(image_from_bytes(frame.content))
    factor = WORKING_SHORT_SIDE_PX / min(picture.size)
    small = picture.resize((round(picture.width * factor), round(picture.height * factor)))
    return QualityMeter().measure(np.asarray(small)).focus
