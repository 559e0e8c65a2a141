"""Packets and their bytes: framing, CRC-32, a bounded decoder. Knows nothing of what payloads mean.

Source: PROTOCOL.md 2.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from .cobs import decode_cobs, encode_cobs
from .codes import PROTOCOL_VERSION, Kind
from .errors import ChecksumError, HeaderError, OversizedError, PacketError, SizeError

PAYLOAD_MAX_BYTES = 32
_HEADER = Struct("<BBBBHH")
_CHECK = Struct("<I")
BODY_MIN_BYTES = _HEADER.size + _CHECK.size
BODY_MAX_BYTES = BODY_MIN_BYTES + PAYLOAD_MAX_BYTES
ENCODED_MAX_BYTES = BODY_MAX_BYTES + 1
_KINDS = {int(kind): kind for kind in Kind}
_U8 = 0xFF
_U16 = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet: header fields as in PROTOCOL.md 2, and 0 to 32 bytes of payload.

    Raises:
        SizeError: The payload is too long.
        HeaderError: A number does not fit its field.
    """

    kind: Kind
    opcode: int
    session: int
    sequence: int
    payload: bytes = b""

    def __post_init__(self) -> None:
        if len(self.payload) > PAYLOAD_MAX_BYTES:
            raise SizeError(f"A payload has at most {PAYLOAD_MAX_BYTES} bytes, not {len(self.payload)}.")
        if not (0 <= self.opcode <= _U8 and 0 <= self.session <= _U16 and 0 <= self.sequence <= _U16):
            raise HeaderError(f"Opcode {self.opcode}, session {self.session} or sequence {self.sequence} do not fit.")


def encode_packet(packet: Packet) -> bytes:
    """Return the packet's wire bytes, a delimiter at both ends: 15 to 47 bytes."""
    body = _HEADER.pack(
        PROTOCOL_VERSION, packet.kind, packet.opcode, len(packet.payload), packet.session, packet.sequence
    )
    body += packet.payload
    return b"\0" + encode_cobs(body + _CHECK.pack(zlib.crc32(body))) + b"\0"


def decode_body(body: bytes) -> Packet:
    """Read a body, COBS already undone.

    Raises:
        SizeError: Too few bytes, or not as many as the header says.
        ChecksumError: The CRC-32 does not match.
        HeaderError: Another version or an unknown kind.
    """
    if len(body) < BODY_MIN_BYTES:
        raise SizeError(f"A body has at least {BODY_MIN_BYTES} bytes, not {len(body)}.")
    covered, check = body[: -_CHECK.size], body[-_CHECK.size :]
    if _CHECK.unpack(check)[0] != zlib.crc32(covered):
        raise ChecksumError("The CRC-32 does not match.")
    version, kind, opcode, length, session, sequence = _HEADER.unpack_from(covered)
    if version != PROTOCOL_VERSION:
        raise HeaderError(f"Protocol version {version} is not {PROTOCOL_VERSION}.")
    if kind not in _KINDS:
        raise HeaderError(f"Kind {kind} is unknown.")
    payload = covered[_HEADER.size :]
    if length != len(payload):
        raise SizeError(f"The header says {length} bytes of payload; {len(payload)} are there.")
    return Packet(kind=_KINDS[kind], opcode=opcode, session=session, sequence=sequence, payload=payload)


class PacketDecoder:
    """Finds packets in a stream of bytes however it is cut; keeps at most 45 bytes between calls."""

    def __init__(self) -> None:
        self._pending = b""
        self._is_oversized = False

    def feed(self, data: bytes) -> Iterator[Packet | PacketError]:
        """Yield each packet that `data` completes, or the error that stands in its place. Nothing is raised."""
        *complete, rest = data.split(b"\0")
        for piece in complete:
            self._append(piece)
            encoded, is_oversized = self._pending, self._is_oversized
            self._pending, self._is_oversized = b"", False
            if is_oversized:
                yield OversizedError(f"More than {ENCODED_MAX_BYTES} bytes without a delimiter.")
            elif encoded:
                try:
                    yield decode_body(decode_cobs(encoded))
                except PacketError as error:
                    yield error
        self._append(rest)

    def _append(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > ENCODED_MAX_BYTES:
            self._is_oversized = True
            self._pending = b""
        elif not self._is_oversized:
            self._pending += piece
