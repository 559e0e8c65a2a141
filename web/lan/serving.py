"""Putting the network's face into a station's process, if the settings want one."""

import logging
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

from appliance.config import LOOPBACK, Config
from appliance.errors import ConfigurationError
from appliance.host.discovery import Advertisement, is_beyond_loopback
from appliance.service.clinic import Clinic
from appliance.service.station import Station

if TYPE_CHECKING:  # it needs the extra `records`
    from web.lan.face import LanFace

logger = logging.getLogger(__name__)


def enter_lan(stack: ExitStack, config: Config, station: Station, clinic: Clinic | None) -> "LanFace | None":
    """Let phones come in from now until the stack ends; None when they may not, or without the extra `records`."""
    if not config.lan.enabled:
        return None
    try:
        from web.lan.face import LanFace
    except ImportError as error:
        logger.warning("lan off: the extra 'records' is not installed missing=%s", error.name)
        return None
    return stack.enter_context(LanFace(config, station, clinic))


def enter_presence(stack: ExitStack, config: Config, face: "LanFace | None") -> Advertisement:
    """Let phones find the box, if they may come in."""
    host = config.lan.host if face is not None and config.station.advertise else LOOPBACK
    port = face.port if face is not None else config.lan.port
    presence = Advertisement(config.station.name, host, port, version=version("dermstation"), state="starting")
    if face is not None:
        face.claimed_name = lambda: presence.host_name
    return stack.enter_context(presence)


def require_loopback(host: str) -> None:
    """Refuse to show the kiosk's screens to the network.

    Raises:
        ConfigurationError: The address can be reached from another machine.
    """
    if is_beyond_loopback(host):
        raise ConfigurationError(
            f"The screens of the box stay on the box, so {host} is refused: phones come in with [lan] enabled = true."
        )
