"""Errors of the serial link; the caller above decides what a screen says about them."""


class FirmwareError(Exception):
    """Something went wrong between host and dermatoscope; `str(error)` is one sentence of ours, never of the device."""


class PacketError(FirmwareError):
    """Received or given bytes are not a packet."""


class StuffingError(PacketError):
    """A COBS distance leads outside the packet, or a zero stands inside it."""


class SizeError(PacketError):
    """A packet is shorter or longer than the protocol allows, or than it says it is."""


class OversizedError(SizeError):
    """More bytes came without a delimiter than any packet has."""


class ChecksumError(PacketError):
    """The CRC-32 does not match."""


class HeaderError(PacketError):
    """Version, kind or another field of the header has a value that the protocol does not know."""


class MessageError(FirmwareError):
    """A packet is intact but its payload has a wrong length or an unknown code."""


class PortError(FirmwareError):
    """The serial port cannot be opened, or is gone."""


class DeviceAbsentError(FirmwareError):
    """No dermatoscope is connected or ready; everything else works without it."""


class OutcomeUnknownError(FirmwareError):
    """A command was sent but not answered: whether it was carried out is not known."""


class CommandRefusedError(FirmwareError):
    """The device understood the command and did not carry it out.

    Attributes:
        reason: The device's numeric reason, a `codes.NakReason`.
        detail: What the protocol says it is for that reason, 0 to 255.
    """

    def __init__(self, reason: int, detail: int) -> None:
        super().__init__(f"The dermatoscope refused the command: reason {reason}, detail {detail}.")
        self.reason = reason
        self.detail = detail


class FlashError(FirmwareError):
    """The firmware could not be written, or is not what runs afterwards."""
