"""The rig's USB/IP: transfers that a guest takes back while the device answers them."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from rig.usbip import Cable

RET_SUBMIT, RET_UNLINK, HEADER_BYTES = 3, 4, 48
ECONNRESET = 104
ENDPOINT, TRANSFER, TAKEN_BACK = 1, 7, 8


@pytest.fixture
def guest() -> Iterator[tuple[socket.socket, Cable]]:
    guest, host = socket.socketpair()
    with guest, host:
        guest.settimeout(10)
        yield guest, Cable(host)


def next_reply(guest: socket.socket) -> tuple[int, int, int]:
    """Read one reply without data: its command, its sequence number and its status."""
    raw = guest.recv(HEADER_BYTES, socket.MSG_WAITALL)
    command, sequence = struct.unpack_from(">II", raw)
    (status,) = struct.unpack_from(">i", raw, 20)
    return command, sequence, status


def test_transfer_that_waits_can_be_taken_back(guest: tuple[socket.socket, Cable]) -> None:
    line, cable = guest
    cable.wait_in(ENDPOINT, TRANSFER, 512)
    cable.unlink(TAKEN_BACK, TRANSFER)
    assert next_reply(line) == (RET_UNLINK, TAKEN_BACK, -ECONNRESET)
    assert cable.next_transfer(ENDPOINT, 0.0) is None


def test_transfer_in_the_devices_hand_is_completed_before_it_counts_as_taken_back(
    guest: tuple[socket.socket, Cable],
) -> None:
    """The other way round Linux's `vhci_hcd` unplugs the device."""
    line, cable = guest
    cable.wait_in(ENDPOINT, TRANSFER, 512)
    assert cable.next_transfer(ENDPOINT, 0.0) == (TRANSFER, 512)
    unlinking = threading.Thread(target=cable.unlink, args=(TAKEN_BACK, TRANSFER))
    unlinking.start()
    line.settimeout(0.1)
    with pytest.raises(TimeoutError):
        line.recv(1)
    line.settimeout(10)
    cable.complete(TRANSFER)
    assert next_reply(line) == (RET_SUBMIT, TRANSFER, 0)
    assert next_reply(line) == (RET_UNLINK, TAKEN_BACK, 0)
    unlinking.join(10)


def test_cut_cable_does_not_keep_whoever_takes_a_transfer_back(guest: tuple[socket.socket, Cable]) -> None:
    _, cable = guest
    cable.wait_in(ENDPOINT, TRANSFER, 512)
    cable.next_transfer(ENDPOINT, 0.0)

    def take_back() -> None:
        with pytest.raises(OSError):  # noqa: PT011 - the socket's own
            cable.unlink(TAKEN_BACK, TRANSFER)

    unlinking = threading.Thread(target=take_back, daemon=True)
    unlinking.start()
    cable.cut()
    unlinking.join(10)
    assert not unlinking.is_alive()
