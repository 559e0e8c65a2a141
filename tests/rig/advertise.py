"""Advertise a station from a machine of the rig until SIGTERM; each line of standard input is a new state.

python advertise.py NAME HOST PORT [blind]

A blind one finds the first name free whatever the network says: as stations do that come up at the same moment.
"""

import contextlib
import itertools
import logging
import signal
import sys
from types import FrameType
from typing import Any, NoReturn, cast

from appliance.host import discovery
from appliance.host.discovery import Advertisement, StationState


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _look_away_once() -> None:
    really = discovery._is_free
    looks = itertools.count()

    async def is_free(*probe: Any) -> bool:
        return next(looks) == 0 or await really(*probe)

    discovery._is_free = is_free  # type: ignore[assignment]  # takes the same three


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _stop)
    name, host, port, *how = sys.argv[1:]
    if how == ["blind"]:
        _look_away_once()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Advertisement(name, host, int(port), version="0.1.0", state="starting") as advertisement,
    ):
        for line in sys.stdin:
            advertisement.update_state(cast("StationState", line.strip()))
        signal.pause()


if __name__ == "__main__":
    main()
