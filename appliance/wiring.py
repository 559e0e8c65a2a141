"""From settings to a station: which camera and which engine stand behind the protocols."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from appliance.camera.by_id import BY_ROLE, finder
from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.camera.selection import ROLE_NAMES, CameraRole, CameraSet
from appliance.camera.v4l2 import CameraOptions, V4l2Camera
from appliance.camera.video_device import load_linuxpy
from appliance.config import CameraConfig, Config, VideoDeviceConfig
from appliance.demo import pictures_path
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.station import Station
from firmware_bridge.client import Dermatoscope
from firmware_bridge.port import opener


def open_camera(config: CameraConfig) -> Camera:
    """Open the camera of the settings.

    Raises:
        CameraError: It cannot be opened.
    """
    if config.kind == "v4l2":
        return build_cameras(config)
    folder = Path(config.folder) if config.folder is not None else pictures_path()
    return ReplayCamera(folder, frames_per_s=config.frames_per_s, picture_s=config.picture_s)


def build_cameras(config: CameraConfig) -> CameraSet:
    """Put the cameras of the settings together; the caller enters them, and they may be plugged in at any time.

    Raises:
        CameraError: The package that speaks to cameras is not installed.
    """
    load_linuxpy()  # Said at the start, not when the first camera is plugged in.
    devices: dict[CameraRole, VideoDeviceConfig] = {"overview": config.overview}
    if config.dermatoscope is not None:
        devices["dermatoscope"] = config.dermatoscope
    numbers = itertools.count()
    makers = {role: partial(_camera, role, devices, numbers) for role in devices}
    return CameraSet(makers, frozenset(role for role, device in devices.items() if device.hold_series))


def _camera(
    role: CameraRole,
    devices: dict[CameraRole, VideoDeviceConfig],
    numbers: Iterator[int],
    on_press: Callable[[float], None],
) -> V4l2Camera:
    device = devices[role]
    options = CameraOptions(
        name=ROLE_NAMES[role],
        wanted=(device.width_px, device.height_px),
        frames_per_s=device.frames_per_s,
        modality="DMS" if role == "dermatoscope" else "XC",
    )
    others = {_named(other) or _by_role(name) for name, other in devices.items() if name != role}
    find = finder(_named(device), _by_role(role), frozenset(others))
    return V4l2Camera(find, options, on_press=on_press, numbers=numbers)


def _named(device: VideoDeviceConfig) -> Path | None:
    return Path(device.device) if device.device is not None else None


def _by_role(role: CameraRole) -> Path:
    return BY_ROLE / ROLE_NAMES[role]


def build_station(config: Config) -> Station:
    """Put a station together; the caller enters it.

    Raises:
        CameraError: The camera cannot be opened.
        ConfigurationError: The engine's address is not one.
    """
    engine = EngineClient(EngineAddress.from_config(config.engine))
    microcontroller = None
    if config.microcontroller.enabled:
        microcontroller = Dermatoscope(opener(config.microcontroller.port))
    return Station(open_camera(config.camera), engine, microcontroller=microcontroller)
