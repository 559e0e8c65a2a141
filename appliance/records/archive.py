"""The form of a backup: a signed file around a sealed tar of the database and the sealed photos.

    bytes  what
    5      "DSBK1"
    4      size of the header, big endian
    ...    header, JSON: whose it is, its number, the clinic's key slots, the archive's key sealed to the clinic
    ...    the tar, sealed (sealing.py) for the place that the header's SHA-256 names
    64     Ed25519 signature of the box over the SHA-256 of all before

The tar holds `manifest.json`, `records.sqlite`, and `blobs/<capture id>`, in that order, and nothing else: a reader
refuses any other name or kind before it looks at its content. It knows no store.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.records.clinic_key import KeySlot, OpenedSlot, WrappingKey, open_key, open_slots
from appliance.records.errors import ArchiveError, TamperedError
from appliance.records.sealing import header_bytes, sealed_chunk_bytes, unseal_stream

MAGIC: Final = b"DSBK1"
SIGNATURE_BYTES: Final = 64
CONTEXT: Final = b"dermstation backup v1"
MANIFEST_NAME: Final = "manifest.json"
_HEADER_MAX_BYTES: Final = 1 << 20
_MANIFEST_MAX_BYTES: Final = 64 << 20
_MEMBER: Final = re.compile(r"manifest\.json|records\.sqlite|blobs/[0-9a-f]{32}")
_READ_BYTES: Final = 1 << 20
_DAMAGED: Final = "This backup is damaged or was changed; use another one."


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody who holds the file can read."""

    clinic_id: str
    sequence: int
    """Of the newest audit entry in it."""
    sealed_key: bytes
    key_slots: tuple[KeySlot, ...]

    def identity(self) -> bytes:
        """Return what binds the archive's sealed key to this archive."""
        return f"backup {self.clinic_id} {self.sequence}".encode()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in it; sealed and signed with it."""

    clinic_id: str
    sequence: int
    audit_hash: bytes
    """Of entry `sequence`: an anchor against an older copy."""
    made_at: str
    is_date_confirmed: bool
    version: str
    """Of the program."""
    encounters: int
    files: dict[str, int]
    """Size in bytes by name."""
    erased: tuple[str, ...] = ()
    """Ids of the subjects and visits that were erased before: an older backup may hold them."""


@dataclass(frozen=True, slots=True)
class OpenedArchive:
    """A backup whose signature holds."""

    path: Path
    header: Header
    slot: OpenedSlot | None
    """None when a backup is read back by the box that has just made it."""
    archive_key: bytes
    body_at: int


def identity_of(header: bytes) -> bytes:
    """Return the place for which the tar is sealed."""
    return CONTEXT + hashlib.sha256(header).digest()


def tar_pieces(members: Iterable[tuple[str, int, Iterable[bytes]]], piece_bytes: int) -> Iterator[bytes]:
    """Yield a tar in pieces of one size, the last one shorter.

    Args:
        members: Name, size and content of each.
        piece_bytes: Size of all but the last.
    """
    held = bytearray()
    for part in _tar_parts(members):
        held += part
        while len(held) > piece_bytes:
            yield bytes(held[:piece_bytes])
            del held[:piece_bytes]
    yield bytes(held)


def _tar_parts(members: Iterable[tuple[str, int, Iterable[bytes]]]) -> Iterator[bytes]:
    for name, size, content in members:
        info = tarfile.TarInfo(name)
        info.size = size
        yield info.tobuf(tarfile.USTAR_FORMAT)
        written = 0
        for part in content:
            written += len(part)
            yield part
        if written != size:
            raise ArchiveError(f"{name} changed its size while the backup was made; make it again.")
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def open_archive(path: Path, secret: WrappingKey) -> OpenedArchive:
    """Read a backup from end to end, check its signature, and open its key.

    Raises:
        WrongSecretError: The phrase or sheet is not the one of its day.
        ArchiveError: It is no backup, or was changed.
        OSError: It cannot be read.
    """
    header, body_at = _read_header(path)
    slot = open_slots(header.key_slots, secret)
    check_signature(path, slot.signing_public_key)
    try:
        archive_key = open_key(slot.private_key, header.sealed_key, header.identity())
    except TamperedError as error:
        raise ArchiveError(_DAMAGED) from error
    return OpenedArchive(path, header, slot, archive_key, body_at)


def check_signature(path: Path, signing_public_key: Ed25519PublicKey) -> None:
    """Read a whole backup and check that this box signed all of it.

    Raises:
        ArchiveError: It was changed or cut, or another box made it.
    """
    size = path.stat().st_size - SIGNATURE_BYTES
    digest = hashlib.sha256()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = size
        while left > 0:
            part = file.read(min(left, _READ_BYTES))
            if not part:
                break
            digest.update(part)
            left -= len(part)
        signature = file.read(SIGNATURE_BYTES + 1)
    try:
        signing_public_key.verify(signature, CONTEXT + digest.digest())
    except InvalidSignature as error:
        raise ArchiveError(_DAMAGED) from error


def _read_header(path: Path) -> tuple[Header, int]:
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 4)
        size = int.from_bytes(start[len(MAGIC) :], "big")
        if not start.startswith(MAGIC) or size > _HEADER_MAX_BYTES:
            raise ArchiveError(f"{path.name} is no backup of this kind of station.")
        try:
            return msgspec.json.decode(file.read(size), type=Header), len(start) + size
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ArchiveError(_DAMAGED) from error


def members(archive: OpenedArchive) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size and content of each member, in order; each is read before the next is asked for.

    Raises:
        ArchiveError: A member has a name or kind that no backup has, is there twice, or is not in the manifest; or
            one of the manifest is missing, or of another size.
    """
    seen: set[str] = set()
    expected: dict[str, int] | None = None
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Unsealed(archive), _READ_BYTES), mode="r|") as tar:
            for info in tar:
                _check_member(info, seen, expected)
                seen.add(info.name)
                file = tar.extractfile(info)
                if file is None:
                    raise ArchiveError(_DAMAGED)
                if expected is None:
                    content = file.read()
                    expected = msgspec.json.decode(content, type=Manifest).files
                    yield info.name, info.size, io.BytesIO(content)
                else:
                    yield info.name, info.size, file
    except (tarfile.TarError, msgspec.DecodeError, UnicodeDecodeError, TamperedError, EOFError) as error:
        raise ArchiveError(_DAMAGED) from error
    if expected is None or seen != {MANIFEST_NAME, *expected}:
        raise ArchiveError("This backup lacks files that it names; use another one.")


def _check_member(info: tarfile.TarInfo, seen: set[str], expected: dict[str, int] | None) -> None:
    if not info.isreg() or info.issparse() or not _MEMBER.fullmatch(info.name) or info.name in seen:
        raise ArchiveError(f"This backup holds something that no backup holds ({info.name[:80]!r}); it is refused.")
    if expected is None:
        if info.name != MANIFEST_NAME or info.size > _MANIFEST_MAX_BYTES:
            raise ArchiveError(_DAMAGED)
    elif expected.get(info.name) != info.size:
        raise ArchiveError(f"This backup holds something that it does not name ({info.name!r}); it is refused.")


def manifest_bytes(manifest: Manifest) -> bytes:
    """Write a manifest down, once."""
    return json.dumps(msgspec.to_builtins(manifest), separators=(",", ":")).encode()


class _Unsealed(io.RawIOBase):
    """The tar within a backup, opened as it is read."""

    def __init__(self, archive: OpenedArchive) -> None:
        super().__init__()
        self._pieces = _unsealed_pieces(archive)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        """It can only be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer from the opened pieces; 0 at the end."""
        target = memoryview(buffer)  # type: ignore[arg-type]  # any buffer, as RawIOBase says
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        count = min(len(target), len(self._held))
        target[:count] = self._held[:count]
        self._held = self._held[count:]
        return count


def _unsealed_pieces(archive: OpenedArchive) -> Iterator[bytes]:
    with archive.path.open("rb") as file:
        left = archive.path.stat().st_size - SIGNATURE_BYTES - archive.body_at
        start = file.read(archive.body_at)
        sealed_header = file.read(header_bytes())
        left -= len(sealed_header)
        step = sealed_chunk_bytes(sealed_header)
        sizes = [step] * (left // step) + ([left % step] if left % step else [])
        identity = identity_of(start[len(MAGIC) + 4 :])
        yield from unseal_stream(archive.archive_key, sealed_header, (file.read(size) for size in sizes), identity)
