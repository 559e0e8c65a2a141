"""From settings to a station: which camera and which engine stand behind the protocols."""

from pathlib import Path

from appliance.camera.configured import build_cameras
from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.config import CameraConfig, Config
from appliance.demo import pictures_path
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.live_quality import LiveQuality
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
    quality = LiveQuality(config.quality)
    return Station(open_camera(config.camera), engine, microcontroller=microcontroller, quality=quality)
