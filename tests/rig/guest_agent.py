"""Runs in the guest: calls functions by name on request, one JSON line in, one out, over a virtio serial port.

It lives for the whole test session, so that modules are imported under emulation once.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

PORT = Path("/dev/virtio-ports/rig.agent")
_TESTS = Path(__file__).parents[1]


def _answer(line: bytes) -> dict[str, Any]:
    request = json.loads(line)
    module, _, name = request["call"].partition(":")
    try:
        return {"value": getattr(importlib.import_module(module), name)(**request["arguments"])}
    except Exception:  # noqa: BLE001 - a process's edge: the traceback goes to the test that called
        return {"error": traceback.format_exc()}


def main() -> None:
    """Serve until the host closes the port."""
    sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]
    with PORT.open("r+b", buffering=0) as port:
        port.write(b'{"value": "hello"}\n')
        pending = b""
        while piece := port.read(65536):
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                reply = (json.dumps(_answer(line)) + "\n").encode()
                while reply:
                    reply = reply[port.write(reply) :]


if __name__ == "__main__":
    main()
