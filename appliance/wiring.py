"""From settings to a station: which camera and which engine stand behind the protocols."""

from pathlib import Path

from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.config import CameraConfig, Config
from appliance.demo import pictures_path
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.station import Station


def open_camera(config: CameraConfig) -> Camera:
    """Open the camera of the settings.

    Raises:
        CameraError: It cannot be opened.
    """
    folder = Path(config.folder) if config.folder is not None else pictures_path()
    return ReplayCamera(folder, frames_per_s=config.frames_per_s, picture_s=config.picture_s)


def build_station(config: Config) -> Station:
    """Put a station together; the caller enters it.

    Raises:
        CameraError: The camera cannot be opened.
        ConfigurationError: The engine's address is not one.
    """
    return Station(open_camera(config.camera), EngineClient(EngineAddress.from_config(config.engine)))
