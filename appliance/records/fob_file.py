"""The one file of a key fob: which clinic's, which fob, its key, and a digest of all that.

Whoever has this file and the box's disk reads everything, so it is never on that disk, in a log or in a message. It
decides nothing about sticks, which are `appliance/host`.
"""

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.records.clinic_key import HELD_KEY_BYTES, HeldKey
from appliance.records.errors import WrongSecretError

FOB_NAME: Final = "dermstation.key"
_MAGIC: Final = b"dermstation key fob 1\n"
_ID_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
FOB_BYTES: Final = len(_MAGIC) + 2 * _ID_BYTES + HELD_KEY_BYTES + _DIGEST_BYTES
DAMAGED: Final = "The key on this stick is damaged; it opens nothing. Type the clinic's phrase, and make the fob anew."


@dataclass(frozen=True, slots=True, kw_only=True)
class FobFile:
    """What a key fob holds."""

    clinic_id: str
    """32 hexadecimal digits."""
    fob_id: str
    """32 hexadecimal digits: the id of its slot."""
    key: bytes = field(repr=False)
    """32 random bytes."""

    def to_bytes(self) -> bytes:
        """Write it as it lies on the stick."""
        content = _MAGIC + bytes.fromhex(self.clinic_id) + bytes.fromhex(self.fob_id) + self.key
        return content + hashlib.sha256(content).digest()

    def wrapping_key(self) -> HeldKey:
        """Return what opens its slot."""
        return HeldKey(self.key, "fob")


def fob_from_bytes(content: bytes) -> FobFile:
    """Read a fob's file.

    Raises:
        WrongSecretError: It is damaged, or no such file.
    """
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    is_whole = len(content) == FOB_BYTES and content.startswith(_MAGIC)
    if not is_whole or not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise WrongSecretError(DAMAGED)
    at = len(_MAGIC)
    return FobFile(
        clinic_id=body[at : at + _ID_BYTES].hex(),
        fob_id=body[at + _ID_BYTES : at + 2 * _ID_BYTES].hex(),
        key=body[at + 2 * _ID_BYTES :],
    )


def read_fob(folder: Path) -> FobFile | None:
    """Read the fob's file of a stick; None when there is none.

    Raises:
        WrongSecretError: It is damaged.
        OSError: The stick cannot be read.
    """
    # A stick is foreign: no link is followed, nothing waited for, and no more read than the file may have.
    try:
        descriptor = os.open(folder / FOB_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise WrongSecretError(DAMAGED)
        return fob_from_bytes(file.read(FOB_BYTES + 1))
