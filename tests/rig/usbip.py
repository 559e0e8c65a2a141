"""The host's end of USB/IP: one device that a guest's `vhci_hcd` attaches over TCP; losing the connection unplugs it.

It moves URBs and knows no device class: what a device answers is behind `UsbDevice`. It has no isochronous transfers.
Source: Linux `Documentation/usb/usbip_protocol.rst`.
"""

import contextlib
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol, Self

_VERSION = 0x0111
_IMPORT_REQUEST, _IMPORT_REPLY = 0x8003, 0x0003
_SUBMIT, _UNLINK, _RET_SUBMIT, _RET_UNLINK = 1, 2, 3, 4
_DIRECTION_IN = 1
_SPEED_HIGH = 3
_EPIPE, _ECONNRESET = 32, 104
BUS_ID = b"1-1"
_BUS_NUMBER, _DEVICE_NUMBER = 1, 2
_HEADER = struct.Struct(">IIIII")
_SUBMITTED = struct.Struct(">Iiiii8s")
_HEADER_BYTES = 48
_MAX_OUT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A control transfer's first eight bytes (USB 2.0, 9.3)."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @classmethod
    def parse(cls, raw: bytes) -> "Setup":
        return cls(**dict(zip(cls.__slots__, struct.unpack("<BBHHH", raw), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the guest's USB core wants to know before the first descriptor."""

    vendor: int
    product: int
    release: int
    device_class: tuple[int, int, int]
    interfaces: int


class UsbDevice(Protocol):
    """What stands behind the cable."""

    identity: Identity

    def plugged(self, cable: "Cable") -> None:
        """A guest has attached; data may be sent on `cable` until `unplugged`."""

    def unplugged(self) -> None:
        """The cable is gone."""

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Answer a control transfer on endpoint 0; None stalls it."""


@dataclass(slots=True)
class Cable:
    """One attachment: IN transfers wait here until the device has something for their endpoint."""

    connection: socket.socket
    _waiting: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)
    _in_hand: set[int] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _sending: threading.Lock = field(default_factory=threading.Lock)
    is_cut: bool = False

    def next_transfer(self, endpoint: int, timeout_s: float) -> tuple[int, int] | None:
        """Take the oldest waiting transfer of an IN endpoint: its sequence number and the bytes it has room for.

        Who takes one completes it at once, or cuts the cable.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_cut or self._waiting.get(endpoint), timeout_s)
            waiting = self._waiting.get(endpoint)
            if not waiting or self.is_cut:
                return None
            transfer = waiting.popleft()
            self._in_hand.add(transfer[0])
            return transfer

    def complete(self, sequence: int, data: bytes = b"", *, status: int = 0, length: int | None = None) -> None:
        """Answer a transfer; `length` is what was taken of an OUT transfer.

        Raises:
            OSError: The cable is cut.
        """
        header = _HEADER.pack(_RET_SUBMIT, sequence, 0, 0, 0)
        answer = struct.pack(">iiiii8x", status, len(data) if length is None else length, 0, 0, 0)
        with self._sending:
            self.connection.sendall(header + answer + data)
        with self._changed:
            self._in_hand.discard(sequence)
            self._changed.notify_all()

    def cut(self) -> None:
        """Pull the plug."""
        with self._changed:
            self.is_cut = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def wait_in(self, endpoint: int, sequence: int, length: int) -> None:
        """Remember a transfer that the guest submitted on an IN endpoint."""
        with self._changed:
            self._waiting.setdefault(endpoint, deque()).append((sequence, length))
            self._changed.notify_all()

    def unlink(self, sequence: int, unlinked: int) -> None:
        """Drop a waiting transfer, as the guest asks, and say whether it was still waiting.

        One that the device has in hand is completed first: to Linux an unlinked transfer that is completed afterwards
        is a broken connection, and it unplugs the device (`vhci_recv_ret_submit`, drivers/usb/usbip/vhci_rx.c).
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_cut or unlinked not in self._in_hand)
            found = False
            for waiting in self._waiting.values():
                for transfer in [entry for entry in waiting if entry[0] == unlinked]:
                    waiting.remove(transfer)
                    found = True
        with self._sending:
            header = _HEADER.pack(_RET_UNLINK, sequence, 0, 0, 0)
            self.connection.sendall(header + struct.pack(">i24x", -_ECONNRESET if found else 0))


class UsbIpServer:
    """Exports one device on a loopback port, one guest at a time; a context manager."""

    def __init__(self, device: UsbDevice, name: str) -> None:
        self._device = device
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._cable: Cable | None = None
        self._thread = threading.Thread(target=self._accept, name=f"usbip-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def cut(self) -> None:
        """Unplug the device, if it is attached."""
        if (cable := self._cable) is not None:
            cable.cut()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(EOFError, OSError):
                self._import(connection)
                self._cable = cable = Cable(connection)
                self._device.plugged(cable)
                try:
                    self._serve(cable)
                finally:
                    cable.cut()
                    self._cable = None
                    self._device.unplugged()

    def _import(self, connection: socket.socket) -> None:
        _, code, _ = struct.unpack(">HHI", _exactly(connection, 8))
        if code != _IMPORT_REQUEST:
            raise EOFError
        _exactly(connection, 32)
        identity = self._device.identity
        where = b"/rig/1-1".ljust(256, b"\0") + BUS_ID.ljust(32, b"\0")
        where += struct.pack(">III", _BUS_NUMBER, _DEVICE_NUMBER, _SPEED_HIGH)
        what = struct.pack(">HHH", identity.vendor, identity.product, identity.release)
        what += bytes((*identity.device_class, 1, 1, identity.interfaces))
        connection.sendall(struct.pack(">HHI", _VERSION, _IMPORT_REPLY, 0) + where + what)

    def _serve(self, cable: Cable) -> None:
        while True:
            raw = _exactly(cable.connection, _HEADER_BYTES)
            command, sequence, _, direction, endpoint = _HEADER.unpack(raw[:20])
            if command == _UNLINK:
                cable.unlink(sequence, struct.unpack(">I", raw[20:24])[0])
                continue
            if command != _SUBMIT:
                raise EOFError
            _, length, _, _, _, setup = _SUBMITTED.unpack(raw[20:48])
            data = b""
            if direction != _DIRECTION_IN and length > 0:
                if length > _MAX_OUT_BYTES:
                    raise EOFError
                data = _exactly(cable.connection, length)
            if endpoint == 0:
                self._control(cable, sequence, Setup.parse(setup), data)
            elif direction == _DIRECTION_IN:
                cable.wait_in(endpoint, sequence, length)
            else:
                cable.complete(sequence, length=length)

    def _control(self, cable: Cable, sequence: int, setup: Setup, data: bytes) -> None:
        answer = self._device.control(setup, data)
        if answer is None:
            cable.complete(sequence, status=-_EPIPE)
        elif data:
            cable.complete(sequence, length=len(data))
        else:
            cable.complete(sequence, answer[: setup.length])


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)
