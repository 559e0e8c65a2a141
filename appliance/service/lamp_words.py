"""What a screen says of the dermatoscope's light, from the protocol's numbers only: no text comes from the device."""

from typing import Final

from appliance.types import Light
from firmware_bridge.codes import CHARGE_UNKNOWN, BatteryState, Faults, IlluminationMode, NakReason, OffReason
from firmware_bridge.outcomes import LinkState
from firmware_bridge.replies import BatteryReply, StatusReply

MODES: Final[dict[Light, IlluminationMode]] = {
    "white": IlluminationMode.WHITE,
    "polarized": IlluminationMode.POLARISED,
}
NAMES: Final[dict[Light, str]] = {"white": "white", "polarized": "polarised"}
_BATTERY_SAID_PERCENT: Final = 20

REFUSALS: Final[dict[int, str]] = {
    NakReason.HOT: "The light is too hot and comes back when it has cooled.",
    NakReason.BATTERY: "The dermatoscope's battery is empty: charge it.",
    NakReason.RESTING: "The light was on for three minutes and rests for ten seconds.",
    NakReason.UPDATE: "The dermatoscope is being updated.",
}
REFUSED: Final = "The dermatoscope refused the light."
SILENT: Final = "The dermatoscope's light does not answer."

_LINKS: Final[dict[LinkState, str]] = {
    LinkState.ABSENT: "Light not connected",
    LinkState.OPENING: "Light is starting",
    LinkState.INCOMPATIBLE: "Light needs other firmware",
}
_FAULTS: Final[tuple[tuple[Faults, str], ...]] = (
    (Faults.UPDATE, "Light is being updated"),
    (Faults.HOT, "Light too hot, cooling"),
    (Faults.BATTERY_LOW, "Battery empty: charge it"),
    (Faults.RESTING, "Light rests for a moment"),
)
_WENT_OFF: Final[dict[OffReason, str]] = {
    OffReason.HOT: "Light off: it became too hot",
    OffReason.BATTERY: "Light off: battery empty",
    OffReason.CONTINUOUS: "Light off: it was on for three minutes",
}


def light_of_mode(mode: IlluminationMode) -> Light | None:
    """Return the light of a mode; None for off."""
    return next((light for light, its_mode in MODES.items() if its_mode is mode), None)


def link_words(state: LinkState) -> str | None:
    """Return what is to be said of a link that is not ready; None when it is."""
    return _LINKS.get(state)


def light_words(status: StatusReply, wanted: Light | None) -> str:
    """Return what is to be said of the light itself, the most useful first."""
    for fault, words in _FAULTS:
        if status.faults & fault:
            return words
    light = light_of_mode(status.mode)
    if light is not None:
        dimmed = ", dimmed: no thermometer" if status.faults & Faults.NO_TEMPERATURE else ""
        return f"{NAMES[light].capitalize()} light, {status.level_percent} %{dimmed}"
    if wanted is not None and status.off_reason in _WENT_OFF:
        return _WENT_OFF[status.off_reason]
    return "Light off"


def battery_words(battery: BatteryReply | None) -> str | None:
    """Return what is to be said of the battery; None while there is nothing to do about it."""
    if battery is None or battery.state is not BatteryState.DISCHARGING or battery.charge_percent == CHARGE_UNKNOWN:
        return None
    return f"Battery {battery.charge_percent} %" if battery.charge_percent < _BATTERY_SAID_PERCENT else None


def temperature_words(degrees_c: float | None, hot_from_c: float) -> str | None:
    """Return what is to be said of the light's temperature; None while there is nothing to do about it."""
    return f"Light warm: {degrees_c:.0f} °C" if degrees_c is not None and degrees_c >= hot_from_c else None
