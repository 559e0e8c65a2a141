"""Avahi on a machine of the rig: its daemon on a private bus, and its own tools as the foreign client.

Each call gets a private /run (a mount namespace), because Avahi's paths are compiled in: nothing of the host's is
touched.
Source: avahi-daemon(8), avahi-browse(1), avahi-publish(1).
"""

import contextlib
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rig.netns import Machine

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""
_DAEMON = """[server]
host-name={host}
use-ipv4=yes
use-ipv6=no
allow-interfaces={interface}
enable-dbus=yes
disallow-other-stacks=no
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
"""
_START_S = 60.0
"""A limit, not a wait: on a busy machine a program takes long to start."""
TOOLS = ("avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon", "unshare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One resolved line of `avahi-browse -rp`."""

    instance: str
    host: str
    address: str
    port: int
    text: frozenset[str]


class Avahi:
    """A running Avahi on one machine."""

    def __init__(self, machine: Machine, bus_address: str) -> None:
        self._machine = machine
        self._environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus_address, "LC_ALL": "C.UTF-8"}

    def browse(self, *service_types: str) -> list[Found]:
        """Resolve every instance of these service types that the LAN has now, in the order of the types."""
        with ThreadPoolExecutor() as pool:  # each takes Avahi about a second
            return [found for part in pool.map(self._browse, service_types) for found in part]

    def _browse(self, service_type: str) -> list[Found]:
        output = self._machine.run("avahi-browse", "-rpt", service_type, environ=self._environ)
        return [_found(line) for line in output.splitlines() if line.startswith("=")]

    @contextlib.contextmanager
    def watching(self, service_type: str) -> Iterator["Watch"]:
        """Follow a service type's comings and goings."""
        command = ("stdbuf", "-oL", "avahi-browse", "-p", service_type)
        with self._machine.started(*command, environ=self._environ) as process:
            yield Watch(process)

    @contextlib.contextmanager
    def published(self, *arguments: str) -> Iterator[None]:
        """Hold something with `avahi-publish`, once Avahi says that it is established."""
        command = ("stdbuf", "-oL", "avahi-publish", *arguments)
        with self._machine.started(*command, environ=self._environ) as process:
            Watch(process).wait_for("Established")
            yield


class Watch:
    """Lines of a running tool, waited for with a limit."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._text = ""

    def wait_for(self, part: str, timeout_s: float = _START_S) -> float:
        """Wait until the output holds a text and return after how many seconds; what was read is used up."""
        started_at = time.monotonic()
        if self._process.stdout is None:
            raise ValueError("the process has no output to wait for")
        stream = self._process.stdout.buffer.raw  # type: ignore[attr-defined]  # a line buffer would hide from select
        while part not in self._text:
            left_s = started_at + timeout_s - time.monotonic()
            if left_s <= 0 or not select.select([stream], [], [], left_s)[0]:
                raise TimeoutError(f"no {part!r} within {timeout_s} s; got {self._text!r}")
            received = stream.read(4096)
            if not received:
                raise RuntimeError(f"ended without {part!r}; got {self._text!r}")
            self._text += received.decode(errors="replace")
        self._text = self._text.partition(part)[2]
        return time.monotonic() - started_at


@contextlib.contextmanager
def avahi_on(machine: Machine, folder: Path, host: str = "neighbour") -> Iterator[Avahi]:
    """Run a bus and an Avahi daemon on a machine while entered."""
    socket = folder / "bus"
    bus, daemon = folder / "bus.conf", folder / "avahi.conf"
    bus.write_text(_BUS.format(socket=socket))
    daemon.write_text(_DAEMON.format(host=host, interface=machine.interface))
    environ = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}"}
    private_run = ("unshare", "--mount", "--propagation=private", "sh", "-c")
    start = f"mount -t tmpfs tmpfs /run && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f {daemon}"
    with (
        machine.started("dbus-daemon", f"--config-file={bus}", "--nofork", "--nopidfile") as bus_process,
        _exists(socket, bus_process),
        machine.started(*private_run, start, environ=environ) as process,
    ):
        Watch(process).wait_for("Server startup complete")
        yield Avahi(machine, environ["DBUS_SYSTEM_BUS_ADDRESS"])


def reason_to_skip() -> str | None:
    """Name the tool that is missing; None when all are there."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@contextlib.contextmanager
def _exists(path: Path, process: subprocess.Popen[str]) -> Iterator[None]:
    deadline = time.monotonic() + _START_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{path} did not appear: {process.args!r}")
        time.sleep(0.02)  # a file's appearance cannot be waited for with the standard library
    yield


def _found(line: str) -> Found:
    # =;interface;IPv4;name;type;domain;host;address;port;"text" "text"
    _, _, _, instance, _, _, host, address, port, text = line.split(";", 9)
    return Found(
        instance=_unescaped(instance),
        host=host,
        address=address,
        port=int(port),
        text=frozenset(text.strip('"').split('" "')),
    )


def _unescaped(name: str) -> str:
    r"""Undo Avahi's `\032` for a byte outside letters, digits and hyphens."""
    out, rest = b"", name.encode()
    while rest:
        if rest[:1] == b"\\" and rest[1:4].isdigit():
            out, rest = out + bytes([int(rest[1:4])]), rest[4:]
        elif rest[:1] == b"\\":
            out, rest = out + rest[1:2], rest[2:]
        else:
            out, rest = out + rest[:1], rest[1:]
    return out.decode()
