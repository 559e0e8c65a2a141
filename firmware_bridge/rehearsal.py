"""Host link and simulated device in one virtual time, so that hours and faults pass in milliseconds and repeat exactly.

No thread, port or clock; a rehearsal is what a test advances.
"""

from .faults import FaultyLine
from .link import Link
from .outcomes import Light, LinkState, Outcome
from .simulated_device import SimulatedDevice
from .simulator import quiet_lines


class Rehearsal:
    """A link and a device joined by two lines, each of which may be faulty; `now_s` is the virtual time."""

    def __init__(
        self,
        *,
        lines: tuple[FaultyLine, FaultyLine] | None = None,
        device: SimulatedDevice | None = None,
        first_session: int = 1,
    ) -> None:
        self.device = device if device is not None else SimulatedDevice()
        self.link = Link(first_session=first_session)
        self.to_device, self.to_host = lines if lines is not None else quiet_lines()
        self.outcomes: list[Outcome] = []
        self.milliseconds = 0
        self.is_hung = False
        """Set it to stop the device's program: it takes no byte and its time stands still."""

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self.milliseconds / 1000

    def plug_in(self) -> None:
        """Open the port."""
        self.link.connect(self.now_s)

    def advance(self, milliseconds: int) -> None:
        """Let time pass for both, one millisecond after the other."""
        for _ in range(milliseconds):
            self.milliseconds += 1
            arrived = self.to_device.carry(self.link.take_outgoing())
            if not self.is_hung:
                self.device.advance(1)
                self.device.receive(arrived)
            self.link.receive(self.to_host.carry(self.device.take_outgoing()), self.now_s)
            self.link.tick(self.now_s)
            self.outcomes += self.link.take_outcomes()

    def advance_until_ready(self, limit_ms: int) -> int | None:
        """Advance until the link is ready and the light confirmed; return the ms it took, None if over the limit."""
        for passed in range(limit_ms + 1):
            if self.link.state is LinkState.READY and self.link.light is not Light.UNCONFIRMED:
                return passed
            self.advance(1)
        return None
