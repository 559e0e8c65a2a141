"""New firmware onto the board: hand-over by our protocol, writing by avrdude and the boot loader, then a check.

Source: PROTOCOL.md 5, UPDATE; avrdude(1). The boot loader lies outside what is written, so a cut at any moment leaves a
board that can be written again.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .client import Dermatoscope
from .codes import Board
from .errors import FirmwareError, FlashError
from .outcomes import LinkState
from .port import opener

AVRDUDE_TIMEOUT_S = 120.0
LINK_TIMEOUT_S = 6.0
"""An Arduino whose port is opened spends up to two seconds in its boot loader."""
_WAIT_STEP_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashPlan:
    """What to write where: an Intel HEX file, the port's path, the boot loader's rate in baud."""

    image: Path
    port: str
    baud_hz: int = 115_200

    def command(self, avrdude: str) -> list[str]:
        """Return avrdude's argument list; it verifies what it wrote."""
        return [
            *(avrdude, "-q", "-q", "-p", "atmega328p", "-c", "arduino", "-P", self.port, "-b", str(self.baud_hz)),
            *("-D", "-U", f"flash:w:{self.image}:i"),
        ]


def find_avrdude() -> str:
    """Return avrdude's path.

    Raises:
        FlashError: It is not installed.
    """
    found = shutil.which("avrdude")
    if found is None:
        raise FlashError("avrdude is not installed: install the Debian package avrdude, then flash again.")
    return found


def hand_over(port: str) -> bool:
    """Ask running firmware to lock its light and wait for the boot loader; False when none answers.

    Raises:
        FlashError: The device answers and is not an ATmega328P.
    """
    with Dermatoscope(opener(port)) as device:
        if not wait_until_ready(device):
            return False
        board = device.firmware().board
        if board is not Board.ATMEGA328P:
            raise FlashError(f"The device at {port} is board {int(board)}, not {int(Board.ATMEGA328P)} (ATmega328P).")
        device.begin_update()
    return True


def write_firmware(plan: FlashPlan) -> None:
    """Write and verify the image.

    Raises:
        FlashError: avrdude or the image is missing, or avrdude failed.
    """
    if not plan.image.is_file():
        raise FlashError(f"There is no firmware image at {plan.image}: build it with make -C firmware avr.")
    try:
        done = subprocess.run(plan.command(find_avrdude()), capture_output=True, timeout=AVRDUDE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FlashError(f"avrdude did not finish within {AVRDUDE_TIMEOUT_S:.0f} s; flash again.") from error
    if done.returncode != 0:
        # Its output may quote what the device sent; only its status is passed on.
        raise FlashError(f"avrdude failed with status {done.returncode}; the boot loader is intact, flash again.")


def wait_until_ready(device: Dermatoscope, timeout_s: float = LINK_TIMEOUT_S) -> bool:
    """Wait for the link; False when it is not there after `timeout_s`."""
    for _ in range(int(timeout_s / _WAIT_STEP_S)):
        if device.snapshot.state is LinkState.READY:
            return True
        device.next_event(_WAIT_STEP_S)
    return False


def flash(plan: FlashPlan, *, is_blank: bool = False) -> tuple[int, int, int]:
    """Hand over, write, verify, and return the version that answers afterwards; `is_blank` skips the hand-over.

    Raises:
        FlashError: Any of it failed; the sentence says which and what to do.
    """
    find_avrdude()
    try:
        is_handed_over = is_blank or hand_over(plan.port)
    except FlashError:
        raise
    except FirmwareError as error:
        raise FlashError(f"The hand-over failed: {error}") from error
    if not is_handed_over:
        raise FlashError("No firmware of ours answers; for a new or broken board, flash with --blank.")
    write_firmware(plan)
    with Dermatoscope(opener(plan.port)) as device:
        if not wait_until_ready(device):
            raise FlashError("The new firmware does not answer; flash again with --blank.")
        running = device.firmware()
    return running.major, running.minor, running.patch
