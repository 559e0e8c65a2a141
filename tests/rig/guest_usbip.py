"""Runs in the guest: attaches cameras that the host serves over USB/IP, and looks at what the kernel makes of them."""

import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from rig.usbip import BUS_ID
from rig.vm import USBIP_ADDRESS, USBIP_PORT

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
BY_ID = Path("/dev/v4l/by-id")
SERIAL_BY_ID = Path("/dev/serial/by-id")
_POLL_S = 0.02


def attach(number: int) -> None:
    """Plug the camera of the `number`-th server in."""
    with socket.create_connection((USBIP_ADDRESS, USBIP_PORT + number), 10) as connection:
        connection.settimeout(None)
        connection.sendall(struct.pack(">HHI", 0x0111, 0x8003, 0) + BUS_ID.ljust(32, b"\0"))
        reply = b""
        while len(reply) < 320:
            piece = connection.recv(320 - len(reply))
            if not piece:
                raise OSError("the USB/IP server hung up")
            reply += piece
        bus, device, speed = struct.unpack(">III", reply[296:308])
        # The kernel takes a reference of its own to the socket.
        (VHCI / "attach").write_text(f"{number} {connection.fileno()} {bus << 16 | device} {speed}")


def wait_for_cameras(count: int, timeout_s: float = 20.0) -> list[str]:
    """Wait until udev has named so many cameras by id, and return the names."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        names = sorted(path.name for path in BY_ID.glob("*-index0")) if BY_ID.exists() else []
        if len(names) == count:
            return names
        if time.monotonic() > deadline_s:
            raise TimeoutError("\n".join([f"{count} cameras wanted, {names} there; the kernel says:", *kernel_log()]))
        time.sleep(_POLL_S)


def kernel_log(lines: int = 100) -> list[str]:
    """Return the newest lines of the kernel's log."""
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout.splitlines()[-lines:]


def kernel_failures(lines: int = 45) -> list[str]:
    """Return what the kernel said each time that it failed itself: a thread that was in it then never comes back."""
    log = kernel_log(lines=100_000)
    return [
        "\n".join(log[at : at + lines]) for at, line in enumerate(log) if "BUG: " in line or "general protec" in line
    ]


def wait_for_serial_line(timeout_s: float = 60.0) -> str:
    """Wait until udev has named the serial adapter, and return the name."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if names := sorted(SERIAL_BY_ID.glob("*")):
            return str(names[0])
        time.sleep(_POLL_S)
    raise TimeoutError("there is no serial adapter")


def nodes() -> dict[str, Any]:
    """Return what udev made of what is plugged in."""
    links = [*BY_ID.glob("*"), *Path("/dev/dermstation").glob("*"), *SERIAL_BY_ID.glob("*")]
    return {str(link): str(link.resolve()) for link in links}
