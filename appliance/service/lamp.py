"""The dermatoscope's light while its picture is on the screen: ordered, renewed, and let go out.

A thread of its own does it: nothing waits for the microcontroller but who asks for a change of the light (`switch`),
and that ends after the link's own few hundred milliseconds. The device turns the light off by itself three seconds
after the last order, so that no fault of this box leaves a lamp burning on skin.
Source: `firmware_bridge/PROTOCOL.md`, 4 and 5.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

from appliance.clock import Clock
from appliance.service import lamp_words
from appliance.service.errors import LampError
from appliance.types import Light
from firmware_bridge.codes import Capabilities, IlluminationMode, Inputs
from firmware_bridge.errors import CommandRefusedError, FirmwareError
from firmware_bridge.outcomes import Light as LinkLight
from firmware_bridge.outcomes import LinkState
from firmware_bridge.pump import Snapshot
from firmware_bridge.replies import BatteryReply, FirmwareReply, IlluminationReply, StatusReply, TemperatureReply

logger = logging.getLogger(__name__)

LIMIT_MS: Final = 3000
"""Of each order; renewed three times as often."""
RENEW_S: Final = 1.0
LEVELS: Final = (20, 40, 60, 80, 100)
_LEVEL_FIRST: Final = 60
_STEP_S: Final = 0.25
_ASK_S: Final = 10.0
"""How often temperature and battery are asked for."""
_TURN_S: Final = 0.6
"""Longest wait for the thread's own order to end."""
_JOIN_S: Final = 5.0
_WARM_C: Final = 43.0
"""From here on skin is not touched for long; the device turns the light off at 48 C (PROTOCOL.md, 4)."""


class LampDevice(Protocol):
    """The part of the microcontroller's client that is needed here."""

    @property
    def snapshot(self) -> Snapshot:
        """What is known now, without waiting."""

    def illuminate(self, mode: IlluminationMode, level_percent: int, time_limit_ms: int) -> IlluminationReply:
        """Turn a ring on; it is on when this returns."""

    def turn_off(self) -> IlluminationReply:
        """Turn the light off; it is off when this returns."""

    def status(self) -> StatusReply:
        """Ask for light, inputs and faults."""

    def temperature(self) -> TemperatureReply:
        """Ask for the LED board's temperature."""

    def battery(self) -> BatteryReply:
        """Ask for the battery."""

    def firmware(self) -> FirmwareReply:
        """Ask what the device has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LampState:
    """What a screen shows of the light; words only, made from numbers."""

    state: Literal["ready", "starting", "off"]
    words: str
    light: Light | None = None
    """What shines now, as the device says."""
    chosen: Light | None = None
    """What is to shine while the picture is on the screen."""
    level_percent: int = 0
    is_touching: bool | None = None
    """Whether the lens touches skin; None where nobody knows."""
    notice: str | None = None
    """Battery or temperature, when there is something to do about it."""


class Lamp:
    """A context manager that owns the thread; the device is somebody else's.

    Args:
        device: The microcontroller's client; it may be absent at any time.
        clock: The station's.
        is_shown: Whether the live picture is on a screen that may see it now.
    """

    def __init__(self, device: LampDevice, clock: Clock, is_shown: Callable[[], bool]) -> None:
        self._device = device
        self._clock = clock
        self._is_shown = is_shown
        self._chosen: Light | None = None
        self._is_off_by_hand = False
        self._level = _LEVEL_FIRST
        self._ordered: tuple[Light, int] | None = None
        self._ordered_s = 0.0
        self._acknowledged_s = 0.0
        self._refusal: str | None = None
        self._battery: BatteryReply | None = None
        self._degrees_c: float | None = None
        self._has_contact = False
        self._asked_s: float | None = None
        self._seen: LampState | None = None
        self._version = 0
        self._turn = threading.Lock()
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lamp", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and turn the light off."""
        self._stop.set()
        self._changed.set()
        self._thread.join(_JOIN_S)

    @property
    def is_ready(self) -> bool:
        """Whether the microcontroller answers."""
        return self._device.snapshot.state is LinkState.READY

    @property
    def is_off_by_hand(self) -> bool:
        """Whether the nurse wants no light for this shot, as with a dermatoscope that has its own."""
        return self._is_off_by_hand

    def follow(self, light: Light | None) -> None:
        """Want the light of the shot that comes now; returns at once."""
        self._is_off_by_hand = False
        self._choose(light)

    def choose(self, light: Light | None) -> None:
        """Want what the nurse touched, until the next shot; returns at once."""
        self._is_off_by_hand = light is None
        self._choose(light)

    def change_level(self, steps: int) -> None:
        """Make it lighter or darker by so many steps; returns at once."""
        self._level = LEVELS[max(0, min(len(LEVELS) - 1, LEVELS.index(self._level) + steps))]
        self._changed.set()

    def look(self) -> None:
        """Look at once whether the light may be on; called when the screen is locked."""
        self._changed.set()

    def switch(self, light: Light) -> float:
        """Have a light on and return since when it is, on the station's clock; the device has confirmed it.

        Raises:
            LampError: It is not on; the sentence says why. It may be absent, refuse or not answer.
        """
        self._is_off_by_hand = False
        self._chosen = light
        if not self._turn.acquire(timeout=_TURN_S):
            raise LampError(lamp_words.SILENT)
        try:
            return self._order(light)
        except FirmwareError as error:
            raise LampError(self._refusal or lamp_words.SILENT) from error
        finally:
            self._turn.release()

    def require(self, light: Light) -> None:
        """Ask the device whether that light is still on.

        Raises:
            LampError: It is not, or there is no answer.
        """
        try:
            mode = self._device.status().mode
        except FirmwareError as error:
            raise LampError(lamp_words.SILENT) from error
        if mode is not lamp_words.MODES[light]:
            raise LampError(f"The {lamp_words.NAMES[light]} light went out.")

    @property
    def state(self) -> LampState:
        """What a screen shows."""
        snapshot = self._device.snapshot
        if (words := lamp_words.link_words(snapshot.state)) is not None:
            is_coming = snapshot.state is LinkState.OPENING
            return LampState(state="starting" if is_coming else "off", words=words, level_percent=self._level)
        status = snapshot.status
        if status is None:
            return LampState(state="starting", words="Light is starting", level_percent=self._level)
        return LampState(
            state="ready",
            words=lamp_words.light_words(status, self._chosen),
            light=lamp_words.light_of_mode(status.mode),
            chosen=self._chosen,
            level_percent=self._level,
            is_touching=bool(status.inputs & Inputs.LENS_CONTACT) if self._has_contact else None,
            notice=lamp_words.battery_words(self._battery) or lamp_words.temperature_words(self._degrees_c, _WARM_C),
        )

    @property
    def version(self) -> int:
        """Another number whenever `state` is another than when this was asked before."""
        state = self.state
        if state != self._seen:
            self._seen = state
            self._version += 1
        return self._version

    def _choose(self, light: Light | None) -> None:
        if light != self._chosen:
            self._chosen = light
            self._changed.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.wait(_STEP_S)
            self._changed.clear()
            try:
                with self._turn:
                    self._tend()
                self._ask()
            except FirmwareError as error:
                logger.debug("light not tended: %s", error)
                self._asked_s = None
            except Exception:
                # A thread's edge: the light goes out by itself, and the clinic goes on.
                logger.exception("light failed")
        try:
            self._device.turn_off()
        except FirmwareError as error:
            logger.info("light not turned off at the end, it goes out by itself: %s", error)

    def _tend(self) -> None:
        """Order what is wanted, if it is due."""
        if not self.is_ready:
            self._ordered = None
            return
        chosen = self._chosen if self._is_shown() and not self._stop.is_set() else None
        if chosen is None:
            if self._ordered is not None or self._device.snapshot.light is not LinkLight.OFF_CONFIRMED:
                self._ordered = None
                self._device.turn_off()
        elif self._ordered != (chosen, self._level) or self._clock.monotonic_s() - self._ordered_s >= RENEW_S:
            self._order(chosen)

    def _order(self, light: Light) -> float:
        """Order a light and return since when it shines."""
        mode = lamp_words.MODES[light]
        was = self._device.snapshot.status
        is_out = self._clock.monotonic_s() - self._ordered_s >= LIMIT_MS / 1000
        is_new = is_out or self._ordered != (light, self._level) or was is None or was.mode is not mode
        self._ordered_s = self._clock.monotonic_s()
        try:
            self._device.illuminate(mode, self._level, LIMIT_MS)
        except FirmwareError as error:
            self._ordered = None
            self._refusal = None
            if isinstance(error, CommandRefusedError):
                self._refusal = lamp_words.REFUSALS.get(error.reason, lamp_words.REFUSED)
            raise
        self._ordered = (light, self._level)
        if is_new:
            self._acknowledged_s = self._clock.monotonic_s()
        return self._acknowledged_s

    def _ask(self) -> None:
        """Ask for what changes slowly."""
        now_s = self._clock.monotonic_s()
        if not self.is_ready or (self._asked_s is not None and now_s - self._asked_s < _ASK_S):
            return
        self._asked_s = now_s
        has = self._device.firmware().capabilities
        self._has_contact = Capabilities.LENS_CONTACT in has
        self._battery = self._device.battery() if Capabilities.BATTERY in has else None
        self._degrees_c = self._device.temperature().degrees_c if Capabilities.TEMPERATURE in has else None
