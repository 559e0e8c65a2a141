"""Consistent Overhead Byte Stuffing: bytes without zeros, so that a zero can end a packet.

Written out here because it is thirty lines and the list of dependencies is full.
Source: Cheshire & Baker, IEEE/ACM Transactions on Networking 7(2), 1999.
"""

from .errors import StuffingError

_RUN_MAX = 254
"""Bytes that one distance can stand before."""


def encode_cobs(body: bytes) -> bytes:
    """Return `body` without zero bytes; one byte longer for each begun 254 bytes."""
    encoded = bytearray()
    for run in (body + b"\0").split(b"\0")[:-1]:
        start = 0
        while len(run) - start >= _RUN_MAX:
            encoded.append(_RUN_MAX + 1)
            encoded += run[start : start + _RUN_MAX]
            start += _RUN_MAX
        encoded.append(len(run) - start + 1)
        encoded += run[start:]
    return bytes(encoded)


def decode_cobs(encoded: bytes) -> bytes:
    """Return what `encode_cobs` was given.

    Raises:
        StuffingError: A zero stands in `encoded` or a distance leads beyond its end.
    """
    if 0 in encoded:
        raise StuffingError("A zero stands inside a packet.")
    body = bytearray()
    at = 0
    while at < len(encoded):
        distance = encoded[at]
        end = at + distance
        if end > len(encoded):
            raise StuffingError(f"A distance of {distance} at byte {at} leads beyond the {len(encoded)} bytes present.")
        body += encoded[at + 1 : end]
        if distance <= _RUN_MAX and end < len(encoded):
            body.append(0)
        at = end
    return bytes(body)
