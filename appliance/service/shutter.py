"""Every button that is no touch: the one on a camera's body, the one on the dermatoscope's grip, and the foot switch.

They all end in the call that a touch makes too. A press counts for the visit that was on the screen when it happened,
for half a second, and for nothing else; whoever watches learns what became of it.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

from appliance.camera.selection import CameraRole
from appliance.clock import Clock
from appliance.errors import DermstationError
from appliance.service.shooting import Taken
from appliance.types import CapturedImage
from firmware_bridge.codes import Opcode
from firmware_bridge.outcomes import Happened

logger = logging.getLogger(__name__)

PRESS_MAX_AGE_S: Final = 0.5
_PRESSES_MAX: Final = 8
_WAIT_S: Final = 0.25
_JOIN_S: Final = 5.0
_PRESSED: Final = 1

ButtonSource = Literal["camera", "grip", "foot"]
_BUTTONS: Final[dict[Opcode, ButtonSource]] = {Opcode.SHUTTER: "grip", Opcode.FOOT_SWITCH: "foot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """One press of a button."""

    source: ButtonSource
    pressed_s: float
    """When, on the station's monotonic clock."""
    role: CameraRole | None = None
    """Which camera the button is part of; None for whichever is on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PressOutcome:
    """What became of a press."""

    number: int
    """Counts the presses from 1; 0 stands for none yet."""
    image: CapturedImage | None = None
    """The last photo that it kept."""
    sentence: str | None = None
    """Why nothing was kept, or not all of it."""


class ButtonEvents(Protocol):
    """The part of the microcontroller's client that is needed here."""

    def next_event(self, timeout_s: float) -> Happened | None:
        """Return the oldest fresh event, or None."""


class Shutter:
    """Takes presses from any thread and fires them one by one on its own; a context manager.

    Args:
        fire: Keeps photos for a press, or raises the sentence why not.
        clock: The station's.
        again_s: A press so soon after another one was the same movement of the hand.
    """

    def __init__(self, fire: Callable[[Press], Taken], clock: Clock, *, again_s: float = 0.0) -> None:
        self._fire = fire
        self._clock = clock
        self._again_s = again_s
        self._fired_s: float | None = None
        self._presses: queue.Queue[Press] = queue.Queue(_PRESSES_MAX)
        self._stop = threading.Event()
        self._outcome = PressOutcome(number=0)
        self._thread = threading.Thread(target=self._run, name="shutter", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; presses that wait are forgotten."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    @property
    def outcome(self) -> PressOutcome:
        """What became of the last press."""
        return self._outcome

    def press(self, press: Press) -> None:
        """Take a press and return at once; more than a few that wait are dropped: nobody means nine photos."""
        try:
            self._presses.put_nowait(press)
        except queue.Full:
            logger.warning("press dropped: source=%s", press.source)

    def handle(self, press: Press) -> PressOutcome:
        """Fire for one press, if it is fresh; the outcome is what every screen is told."""
        if self._clock.monotonic_s() - press.pressed_s > PRESS_MAX_AGE_S:
            logger.warning("press too old: source=%s", press.source)
            return self._outcome
        if self._again_s > 0 and self._fired_s is not None and press.pressed_s - self._fired_s < self._again_s:
            logger.info("press belongs to the one before: source=%s", press.source)
            return self._outcome
        self._fired_s = press.pressed_s
        number = self._outcome.number + 1
        try:
            taken = self._fire(press)
            self._outcome = PressOutcome(number=number, image=taken.images[-1], sentence=taken.sentence)
        except DermstationError as error:
            self._outcome = PressOutcome(number=number, sentence=str(error))
        return self._outcome

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                press = self._presses.get(timeout=_WAIT_S)
            except queue.Empty:
                continue
            try:
                self.handle(press)
            except Exception:
                # A thread's edge: one press that fails unheard of must not cost the next one.
                logger.exception("shutter failed: source=%s", press.source)


class ButtonListener:
    """Brings the microcontroller's buttons to the shutter, on a thread of its own; a context manager.

    Args:
        device: The microcontroller's client, started; it may be absent at any time.
        press: Takes a press and returns at once.
        clock: The station's.
        event_clock: The clock of the events' `occurred_s`, in seconds.
    """

    def __init__(
        self, device: ButtonEvents, press: Callable[[Press], None], clock: Clock, event_clock: Callable[[], float]
    ) -> None:
        self._device = device
        self._press = press
        self._clock = clock
        self._event_clock = event_clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="buttons", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            event = self._device.next_event(_WAIT_S)
            source = _BUTTONS.get(event.opcode) if event is not None else None
            if event is None or source is None or event.value != _PRESSED:
                continue
            age_s = self._event_clock() - event.occurred_s
            self._press(Press(source=source, pressed_s=self._clock.monotonic_s() - age_s))
