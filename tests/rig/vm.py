"""A virtual machine with Debian's kernel, in which a test calls Python functions; its devices come and go at run time.

Plain emulation is the rule: `/dev/kvm` may exist and still not run a stock kernel (README). The guest reaches the host
only through the ports that are forwarded to USB/IP servers, and its root is the host's, read-only.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from rig.boot_files import SOURCE
from rig.guest_kernel import GuestKernel

USBIP_ADDRESS = "10.0.2.100"
USBIP_PORT = 3240
"""The first server's port as the guest sees it; the next ones follow."""
_BOOT_S = 180.0
_STOP_S = 10.0
_RIG = Path(__file__).parent


class GuestError(Exception):
    """A function failed in the guest; the text is its traceback."""


class VirtualMachine:
    """One guest; a context manager that ends the QEMU process that it started.

    Args:
        kernel: What `guest_kernel.prepare` returned.
        usbip_ports: Loopback ports of USB/IP servers.
        serial_socket: Unix socket of something that speaks over a serial line; the guest sees a USB adapter on it.
        accelerator: QEMU's `-accel` and `-cpu`.
    """

    def __init__(
        self,
        kernel: GuestKernel,
        *,
        usbip_ports: Sequence[int] = (),
        serial_socket: Path | None = None,
        accelerator: Sequence[str] = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dermstation-vm-")
        self.console = Path(self._folder.name) / "console.log"
        self._agent_path = Path(self._folder.name) / "agent.sock"
        self._command = self._qemu(kernel, usbip_ports, serial_socket, accelerator)
        self._agent: socket.socket | None = None
        self._lines: BinaryIO | None = None
        self.boot_s = 0.0
        """Seconds from power-on to the agent's first word."""

    def __enter__(self) -> Self:
        started_s = time.monotonic()
        # A test that is killed must not leave a machine behind that takes both cores from then on.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            self._agent = self._connect(started_s + _BOOT_S)
            self._lines = self._agent.makefile("rb")
            self._exchange(b"", _BOOT_S)
        except BaseException:
            self.__exit__()
            raise
        self.boot_s = time.monotonic() - started_s
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._lines, self._agent):
            if opened is not None:
                opened.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)
        self._folder.cleanup()

    def call(self, function: str, *, patience_s: float = 120.0, **arguments: Any) -> Any:
        """Call `module:function` of this folder or of the project in the guest; values go over as JSON.

        Raises:
            GuestError: It raised.
        """
        answer = self._exchange((json.dumps({"call": function, "arguments": arguments}) + "\n").encode(), patience_s)
        if "error" in answer:
            raise GuestError(answer["error"])
        return answer["value"]

    def _exchange(self, request: bytes, timeout_s: float) -> Mapping[str, Any]:
        """Send a line, if any, and wait for the next one."""
        if self._agent is None or self._lines is None:
            raise GuestError("the machine is off")
        self._agent.settimeout(timeout_s)
        self._agent.sendall(request)
        try:
            line = self._lines.readline()
        except TimeoutError as error:
            raise GuestError(f"the guest is silent; its console says: {self._console_tail()}") from error
        if not line:
            raise GuestError(f"the guest has gone; its console says: {self._console_tail()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _console_tail(self) -> str:
        return self.console.read_text(errors="replace")[-2000:] if self.console.exists() else "nothing"

    def _connect(self, deadline_s: float) -> socket.socket:
        while time.monotonic() < deadline_s and self._process.poll() is None:
            agent = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                agent.connect(str(self._agent_path))
                return agent
            agent.close()
            time.sleep(0.05)
        raise GuestError(f"QEMU did not start: status {self._process.poll()}")

    def _qemu(
        self, kernel: GuestKernel, usbip_ports: Sequence[int], serial_socket: Path | None, accelerator: Sequence[str]
    ) -> list[str]:
        parameters = {
            "rig_python": sys.executable,
            "rig_agent": str(_RIG / "guest_agent.py"),
            "rig_rules": str(SOURCE / "udev"),
        }
        words = "console=ttyS0 quiet panic=1 mitigations=off nokaslr no_timer_check " + " ".join(
            f"{k}={v}" for k, v in parameters.items()
        )
        forwards = "".join(
            f",guestfwd=tcp:{USBIP_ADDRESS}:{USBIP_PORT + number}-cmd:busybox nc 127.0.0.1 {port}"
            for number, port in enumerate(usbip_ports)
        )
        command = [
            "qemu-system-x86_64",
            "-M",
            "q35",
            *accelerator,
            "-smp",
            str(min(2, os.cpu_count() or 1)),
            "-m",
            "1024",
        ]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-kernel", str(kernel.image), "-initrd", str(kernel.initrd), "-append", words]
        command += ["-serial", f"file:{self.console}"]
        command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        command += ["-netdev", f"user,id=n0,restrict=on{forwards}", "-device", "virtio-net-pci,netdev=n0,romfile="]
        command += ["-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=agent,path={self._agent_path},server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=rig.agent"]
        if serial_socket is not None:
            command += ["-chardev", f"socket,id=line,path={serial_socket},reconnect=1", "-device", "qemu-xhci"]
            command += ["-device", "usb-serial,chardev=line"]
        return command
