"""The cameras that the settings name, put together but not started."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from appliance.camera.by_id import BY_ROLE, finder
from appliance.camera.reader import CameraOptions
from appliance.camera.selection import ROLE_NAMES, CameraRole, CameraSet
from appliance.camera.v4l2 import V4l2Camera
from appliance.camera.video_device import load_linuxpy
from appliance.config import CameraConfig, VideoDeviceConfig
from appliance.errors import CameraError


def build_cameras(config: CameraConfig) -> CameraSet:
    """Put the cameras of the settings together; the caller enters them, and they may be plugged in at any time.

    Raises:
        CameraError: The package that speaks to cameras is not installed.
    """
    load_linuxpy()  # Said at the start, not when the first camera is plugged in.
    numbers = itertools.count()
    devices = configured_devices(config)
    makers = {role: partial(_camera, config, role, numbers) for role in devices}
    held = frozenset(role for role, device in devices.items() if device.hold_series)
    return CameraSet(makers, held, has_clip_on_lens=config.clip_on_lens)


def build_camera(config: CameraConfig, role: CameraRole) -> V4l2Camera:
    """Put one camera of the settings together; the caller enters it.

    Raises:
        CameraError: The settings have none of that role, or the package that speaks to cameras is not installed.
    """
    load_linuxpy()
    if role not in configured_devices(config):
        raise CameraError(f"The settings name no {ROLE_NAMES[role]}; add [camera.{role}].")
    return _camera(config, role, itertools.count(), lambda _: None)


def camera_finder(config: CameraConfig, role: CameraRole) -> Callable[[], Path | None]:
    """Return what says where the camera of a role is now, as `by_id.finder` does."""
    devices = configured_devices(config)
    others = {_named(other) or _by_role(name) for name, other in devices.items() if name != role}
    return finder(_named(devices[role]), _by_role(role), frozenset(others))


def configured_devices(config: CameraConfig) -> dict[CameraRole, VideoDeviceConfig]:
    """Return the settings of each camera that this box has."""
    devices: dict[CameraRole, VideoDeviceConfig] = {"overview": config.overview}
    if config.dermatoscope is not None:
        devices["dermatoscope"] = config.dermatoscope
    return devices


def _camera(
    config: CameraConfig, role: CameraRole, numbers: Iterator[int], on_press: Callable[[float], None]
) -> V4l2Camera:
    device = configured_devices(config)[role]
    options = CameraOptions(
        name=ROLE_NAMES[role],
        wanted=(device.width_px, device.height_px),
        frames_per_s=device.frames_per_s,
        modality="DMS" if role == "dermatoscope" else "XC",
    )
    return V4l2Camera(camera_finder(config, role), options, on_press=on_press, numbers=numbers)


def _named(device: VideoDeviceConfig) -> Path | None:
    return Path(device.device) if device.device is not None else None


def _by_role(role: CameraRole) -> Path:
    return BY_ROLE / ROLE_NAMES[role]
