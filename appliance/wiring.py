"""From settings to a station: which camera, which engine and which records stand behind the protocols."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.camera.configured import build_cameras
from appliance.camera.protocol import Camera
from appliance.camera.replay import ReplayCamera
from appliance.clock import SystemClock
from appliance.config import CameraConfig, Config
from appliance.demo import pictures_path
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.service.clinic import Clinic
from appliance.service.live_quality import LiveQuality
from appliance.service.station import Station
from firmware_bridge.client import Dermatoscope
from firmware_bridge.port import opener

if TYPE_CHECKING:
    from appliance.service.visits import Visits

logger = logging.getLogger(__name__)


def open_camera(config: CameraConfig) -> Camera:
    """Open the camera of the settings.

    Raises:
        CameraError: It cannot be opened.
    """
    if config.kind == "v4l2":
        return build_cameras(config)
    folder = Path(config.folder) if config.folder is not None else pictures_path()
    return ReplayCamera(folder, frames_per_s=config.frames_per_s, picture_s=config.picture_s)


def build_station(config: Config, clinic: Clinic | None = None) -> Station:
    """Put a station together; the caller enters it.

    Args:
        config: The settings.
        clinic: The records, where photos and answers go; without it they stay in memory until the visit is closed.

    Raises:
        CameraError: The camera cannot be opened.
        ConfigurationError: The engine's address is not one.
    """
    engine = EngineClient(EngineAddress.from_config(config.engine))
    microcontroller = None
    if config.microcontroller.enabled:
        microcontroller = Dermatoscope(opener(config.microcontroller.port))
    quality = LiveQuality(config.quality)
    return Station(
        open_camera(config.camera),
        engine,
        # Records that do not open: photos are in memory only, and the screens say so.
        visits=_build_visits(clinic) if clinic is not None and clinic.state != "broken" else None,
        microcontroller=microcontroller,
        quality=quality,
        shots=config.shots,
    )


def _build_visits(clinic: Clinic) -> "Visits":
    from appliance.service.visits import Visits

    return Visits(clinic.records, clinic.operator, has_records=lambda: clinic.store is not None)


def build_clinic(config: Config) -> Clinic | None:
    """Open the records of the settings, in whatever state they are; None when nothing is to be stored.

    That is when the settings name no folder, and without the extra `records`. The caller enters the clinic and gives it
    to the faces. The folder is made when it is not there.
    """
    if config.records.folder is None:
        return None
    try:
        from appliance.records.opening import open_records
    except ImportError as error:
        logger.warning("records off, nothing is stored: the extra 'records' is not installed missing=%s", error.name)
        return None
    folder, clock = Path(config.records.folder), SystemClock()
    opening = open_records(folder, clock=clock)
    return Clinic(opening, clock=clock, folder=folder, idle_s=config.records.idle_lock_s)
