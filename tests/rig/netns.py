"""Two machines on one LAN: a pair of network namespaces joined by a virtual cable; root only.

Everything that is started in them is ended by its process id, and the namespaces always go.
Source: ip-netns(8), veth(4).
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_STOP_S = 20
_COMMAND_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One end of the cable: a network namespace with one interface."""

    namespace: str
    interface: str
    address: str

    def argv(self, *command: str) -> list[str]:
        """Return the command line that runs `command` on this machine."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return what it printed; a failure raises with its error output."""
        done = subprocess.run(
            self.argv(*command), capture_output=True, text=True, timeout=_COMMAND_S, env=_environ(environ), check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command}: status {done.returncode}: {done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def started(self, *command: str, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """Run a command with pipes for its input and its whole output; on leaving it is ended by process id."""
        process = subprocess.Popen(
            self.argv(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environ(environ),
        )
        try:
            yield process
        finally:
            stop(process)


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Make machines 10.77.0.1 and 10.77.0.2 on one cable; each also has its own loopback."""
    tag = str(os.getpid())
    machines = tuple(
        Machine(namespace=f"dst{tag}{side}", interface=f"dst{tag}{side}", address=f"10.77.0.{number}")
        for number, side in enumerate("ab", start=1)
    )
    first, second = machines
    with contextlib.ExitStack() as stack:
        for machine in machines:
            _ip("netns", "add", machine.namespace)
            stack.callback(_ip, "netns", "del", machine.namespace)
        _ip(
            *("link", "add", first.interface, "netns", first.namespace, "type", "veth"),
            *("peer", "name", second.interface, "netns", second.namespace),
        )
        for machine in machines:
            _ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", machine.interface)
            for interface in ("lo", machine.interface):
                _ip("-n", machine.namespace, "link", "set", interface, "up")
        yield first, second


@contextlib.contextmanager
def box_and_phones(count: int) -> Iterator[tuple[Machine, list[Machine]]]:
    """Make a machine 10.77.0.1 and `count` others, 10.77.0.100 and up, each in its own namespace on one switch."""
    tag = f"dst{os.getpid()}"
    box = Machine(namespace=f"{tag}box", interface="switch", address="10.77.0.1")
    phones = [
        Machine(namespace=f"{tag}p{number}", interface="lan", address=f"10.77.0.{100 + number}")
        for number in range(count)
    ]
    with contextlib.ExitStack() as stack:
        for machine in (box, *phones):
            _ip("netns", "add", machine.namespace)
            stack.callback(_ip, "netns", "del", machine.namespace)
        _ip("-n", box.namespace, "link", "add", box.interface, "type", "bridge")
        _ip("-n", box.namespace, "addr", "add", f"{box.address}/24", "dev", box.interface)
        for interface in ("lo", box.interface):
            _ip("-n", box.namespace, "link", "set", interface, "up")
        for number, phone in enumerate(phones):
            port = f"port{number}"
            _ip(
                *("link", "add", port, "netns", box.namespace, "type", "veth"),
                *("peer", "name", phone.interface, "netns", phone.namespace),
            )
            _ip("-n", box.namespace, "link", "set", port, "master", box.interface, "up")
            _ip("-n", phone.namespace, "addr", "add", f"{phone.address}/24", "dev", phone.interface)
            _ip("-n", phone.namespace, "link", "set", phone.interface, "up")
        yield box, phones


def reason_to_skip() -> str | None:
    """Say why this machine cannot have network namespaces; None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the Debian package iproute2 is not installed"
    name = f"dst{os.getpid()}probe"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"network namespaces are refused here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return None


def stop(process: subprocess.Popen[str]) -> None:
    """End one process that the caller started: politely first, and wait for it."""
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=_COMMAND_S)


def _environ(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}
