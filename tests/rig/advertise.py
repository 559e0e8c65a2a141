"""Advertise a station from a machine of the rig until SIGTERM; each line of standard input is a new state.

python advertise.py NAME HOST PORT
"""

import contextlib
import logging
import signal
import sys
from types import FrameType
from typing import NoReturn, cast

from appliance.host.discovery import Advertisement, StationState


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _stop)
    name, host, port = sys.argv[1:]
    with (
        contextlib.suppress(KeyboardInterrupt),
        Advertisement(name, host, int(port), version="0.1.0", state="starting") as advertisement,
    ):
        for line in sys.stdin:
            advertisement.update_state(cast("StationState", line.strip()))
        signal.pause()


if __name__ == "__main__":
    main()
