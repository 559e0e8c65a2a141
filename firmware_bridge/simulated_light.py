"""The light of the simulated device and every rule that turns it off by itself. Source: PROTOCOL.md 4.

Written from PROTOCOL.md, not from `firmware/light.c`: the two are compared answer by answer in the tests.
"""

from dataclasses import dataclass

from .codes import TEMPERATURE_ABSENT, IlluminationMode, NakReason, OffReason

HOST_SILENT_MS = 1000
CONTINUOUS_MAX_MS = 180_000
REST_MS = 10_000
LEVEL_MAX_BLIND_PERCENT = 40
HOT_CENTIDEGREES_C = 4800
COOL_CENTIDEGREES_C = 4300
BATTERY_LOW_MV = 3300
BATTERY_ENOUGH_MV = 3450


@dataclass(slots=True, kw_only=True)
class SimulatedLight:
    """Two rings of which one may be lit; the time is ms since boot."""

    mode: IlluminationMode = IlluminationMode.OFF
    level_percent: int = 0
    off_reason: OffReason = OffReason.NEVER_ON
    is_resting: bool = False
    is_hot: bool = False
    is_battery_low: bool = False
    is_blind: bool = True
    _ordered_ms: int = 0
    _limit_ms: int = 0
    _on_since_ms: int = 0
    _rest_since_ms: int = 0

    def turn_on(self, mode: IlluminationMode, level_percent: int, limit_ms: int, now_ms: int) -> None:
        """Carry an order for light out; without a temperature sensor the level is capped."""
        if self.mode is IlluminationMode.OFF:
            self._on_since_ms = now_ms
        self.mode = mode
        self.level_percent = min(level_percent, LEVEL_MAX_BLIND_PERCENT) if self.is_blind else level_percent
        self._ordered_ms, self._limit_ms = now_ms, limit_ms

    def turn_off(self, reason: OffReason) -> None:
        """Turn off; when it is off already, the old reason stays."""
        if self.mode is not IlluminationMode.OFF:
            self.mode, self.level_percent, self.off_reason = IlluminationMode.OFF, 0, reason

    def refusal(self) -> NakReason | None:
        """Return what forbids light now."""
        if self.is_hot:
            return NakReason.HOT
        if self.is_battery_low:
            return NakReason.BATTERY
        return NakReason.RESTING if self.is_resting else None

    def remaining_ms(self, now_ms: int) -> int:
        """Return how long the present order still lasts."""
        if self.mode is IlluminationMode.OFF:
            return 0
        return max(0, self._ordered_ms + self._limit_ms - now_ms)

    def sense(self, temperature_centidegrees_c: int, battery_mv: int) -> None:
        """Follow the sensors; 7FFF = no temperature, 0 mV = no battery."""
        self.is_blind = temperature_centidegrees_c == TEMPERATURE_ABSENT
        if not self.is_blind and temperature_centidegrees_c >= HOT_CENTIDEGREES_C:
            self.is_hot = True
        elif not self.is_blind and temperature_centidegrees_c <= COOL_CENTIDEGREES_C:
            self.is_hot = False
        if 0 < battery_mv < BATTERY_LOW_MV:
            self.is_battery_low = True
        elif battery_mv == 0 or battery_mv >= BATTERY_ENOUGH_MV:
            self.is_battery_low = False
        if self.is_blind and self.mode is not IlluminationMode.OFF:
            self.level_percent = min(self.level_percent, LEVEL_MAX_BLIND_PERCENT)

    def tick(self, host_heard_ms: int, now_ms: int) -> OffReason | None:
        """Apply the limits; return the reason when one of them turned the light off just now."""
        reason = self._limit_reached(host_heard_ms, now_ms) if self.mode is not IlluminationMode.OFF else None
        if reason is not None:
            self.turn_off(reason)
        if reason is OffReason.CONTINUOUS:
            self.is_resting, self._rest_since_ms = True, now_ms
        if self.is_resting and now_ms - self._rest_since_ms >= REST_MS:
            self.is_resting = False
        return reason

    def _limit_reached(self, host_heard_ms: int, now_ms: int) -> OffReason | None:
        reached = (
            (now_ms - self._ordered_ms >= self._limit_ms, OffReason.TIME_LIMIT),
            (now_ms - host_heard_ms >= HOST_SILENT_MS, OffReason.HOST_SILENT),
            (self.is_hot, OffReason.HOT),
            (self.is_battery_low, OffReason.BATTERY),
            (now_ms - self._on_since_ms >= CONTINUOUS_MAX_MS, OffReason.CONTINUOUS),
        )
        return next((reason for is_reached, reason in reached if is_reached), None)
