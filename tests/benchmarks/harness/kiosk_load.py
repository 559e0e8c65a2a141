"""A stand-in for the kiosk: `python -m harness.kiosk_load` keeps nine tenths of one core busy and clocks itself.

It works in pieces of 20 ms of processor time, as long as drawing a screen takes, with a rest of a tenth between them,
and on a closed stdin prints how long the pieces took by the clock, in ms, as a JSON list. A line says when it begins.
"""

import json
import sys
import threading
import time
from typing import Final

WORK_S: Final = 0.020
REST_S: Final = 0.002


def main() -> None:
    """Work until stdin is closed."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True, name="end").start()
    durations_ms = []
    print("working", flush=True)
    while not over.is_set():
        started_s = time.monotonic()
        until_s = time.thread_time() + WORK_S
        while time.thread_time() < until_s:
            sum(range(200))
        durations_ms.append((time.monotonic() - started_s) * 1000)
        time.sleep(REST_S)
    print(json.dumps([round(value, 1) for value in durations_ms]))


if __name__ == "__main__":
    main()
