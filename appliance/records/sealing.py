"""Seal bytes to one place: AES-256-GCM in chunks, bound to what they are and where they belong.

One format for everything that is stored: a photo, a row's content, a backup. It holds no keys and touches no disk.

    offset  bytes  what
    0       4      "DSS1"
    4       4      chunk size in bytes, big endian
    8       16     random salt
    24      ...    chunks of that many bytes, the last one shorter or equal, each followed by its 16-byte tag

The key of one sealed thing is HKDF-SHA256(data key, salt), so a nonce never meets a key twice; the nonce is the
chunk's number (11 bytes) and 1 for the last chunk, else 0; associated data are the header, the identity, and again
number and last mark. A chunk that was dropped, repeated, moved, cut off or brought from elsewhere does not open.
Source: the STREAM construction, Hoang, Reyhanitabar, Rogaway, Vizar, CRYPTO 2015, as laid out in the age
specification ("Payload"), here with AES-256-GCM (NIST SP 800-38D).
"""

import os
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.records.errors import TamperedError

KEY_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
_CHUNK_MAX_BYTES: Final = 16 << 20
_MAGIC: Final = b"DSS1"
_HEADER: Final = struct.Struct(">4sI16s")
_TAG_BYTES: Final = 16
_INFO: Final = b"dermstation sealed v1"


def seal(key: bytes, content: bytes, identity: bytes, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """Seal `content` under a 32-byte data key, for the one place that `identity` names."""
    pieces = [content[at : at + chunk_bytes] for at in range(0, len(content), chunk_bytes)] or [b""]
    return b"".join(seal_stream(key, pieces, identity, chunk_bytes))


def unseal(key: bytes, sealed: bytes, identity: bytes) -> bytes:
    """Open what `seal` made for the same place.

    Raises:
        TamperedError: It was changed, cut, or belongs elsewhere.
    """
    chunk_bytes = _chunk_bytes(sealed)
    step = chunk_bytes + _TAG_BYTES
    body = memoryview(sealed)[_HEADER.size :]
    pieces = [bytes(body[at : at + step]) for at in range(0, len(body), step)]
    return b"".join(unseal_stream(key, sealed[: _HEADER.size], pieces, identity))


def seal_stream(
    key: bytes, pieces: Iterable[bytes], identity: bytes, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """Seal pieces of exactly `chunk_bytes`, the last of which may be shorter; yields the header first."""
    header = _HEADER.pack(_MAGIC, chunk_bytes, os.urandom(16))
    cipher = _cipher(key, header)
    yield header
    number, held = 0, None
    for piece in pieces:
        if held is not None:
            yield cipher.encrypt(
                _nonce(number, is_last=False), held, _associated(header, identity, number, is_last=False)
            )
            number += 1
        held = piece
    yield cipher.encrypt(_nonce(number, is_last=True), held or b"", _associated(header, identity, number, is_last=True))


def unseal_stream(key: bytes, header: bytes, pieces: Iterable[bytes], identity: bytes) -> Iterator[bytes]:
    """Open pieces of one chunk and its tag each; yields only what is authentic, and ends well only at the last one.

    Raises:
        TamperedError: A chunk does not open, or the last one is missing.
    """
    _chunk_bytes(header)
    cipher = _cipher(key, header[: _HEADER.size])
    number, held = 0, None
    try:
        for piece in pieces:
            if held is not None:
                yield cipher.decrypt(
                    _nonce(number, is_last=False), held, _associated(header, identity, number, is_last=False)
                )
                number += 1
            held = piece
        yield cipher.decrypt(
            _nonce(number, is_last=True), held or b"", _associated(header, identity, number, is_last=True)
        )
    except InvalidTag as error:
        raise TamperedError(_TAMPERED) from error


def header_bytes() -> int:
    """Return the size of the header that `unseal_stream` wants first."""
    return _HEADER.size


def sealed_chunk_bytes(header: bytes) -> int:
    """Return how many bytes one sealed chunk takes, by its header.

    Raises:
        TamperedError: This is no such header.
    """
    return _chunk_bytes(header) + _TAG_BYTES


_TAMPERED: Final = "A stored record does not open: it was changed, damaged, or belongs to another place."


def _chunk_bytes(sealed: bytes) -> int:
    if len(sealed) < _HEADER.size:
        raise TamperedError(_TAMPERED)
    magic, chunk_bytes, _ = _HEADER.unpack_from(sealed)
    if magic != _MAGIC or not 0 < chunk_bytes <= _CHUNK_MAX_BYTES:
        raise TamperedError(_TAMPERED)
    return int(chunk_bytes)


def _cipher(key: bytes, header: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError("a data key has 32 bytes")
    salt = header[8:24]
    return AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_INFO).derive(key))


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _associated(header: bytes, identity: bytes, number: int, *, is_last: bool) -> bytes:
    return header + len(identity).to_bytes(4, "big") + identity + number.to_bytes(8, "big") + bytes([is_last])
