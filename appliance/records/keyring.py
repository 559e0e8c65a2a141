"""The data keys: made and used while locked, opened only after unlock.

A data key belongs to one subject or one encounter. A key made since the last lock stays in memory, so that the photo
just taken can be shown although the records are locked. It does not store anything itself.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from appliance.records.clinic_key import open_key, seal_key
from appliance.records.content import KeyOwner
from appliance.records.errors import LockedError, TamperedError
from appliance.records.sealing import KEY_BYTES

_OPENED_MAX: Final = 4096
"""Opened keys kept in memory; one opens in 0.06 ms, so a small number serves."""
LOCKED: Final = "The records are locked. Type the clinic's phrase to read them; new visits can be made all the same."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A data key as it lies in the database."""

    key_id: str
    owner_kind: KeyOwner
    owner_id: str
    sealed: bytes

    def identity(self) -> bytes:
        """Return what binds the sealed key to its owner."""
        return f"{self.key_id} {self.owner_kind} {self.owner_id}".encode()


class Keyring:
    """Opens and makes data keys; not thread-safe: the store's lock covers it."""

    def __init__(self, public_key: X25519PublicKey) -> None:
        self._public_key = public_key
        self._private_key: X25519PrivateKey | None = None
        self._opened: OrderedDict[str, bytes] = OrderedDict()

    @property
    def public_key(self) -> X25519PublicKey:
        """Whom everything is sealed to."""
        return self._public_key

    @property
    def is_unlocked(self) -> bool:
        """Whether stored keys can be opened."""
        return self._private_key is not None

    @property
    def private_key(self) -> X25519PrivateKey:
        """The clinic's private key.

        Raises:
            LockedError: It is not here.
        """
        if self._private_key is None:
            raise LockedError(LOCKED)
        return self._private_key

    def require_unlocked(self) -> None:
        """Insist on the morning unlock.

        Raises:
            LockedError: It has not been, or is over.
        """
        if self._private_key is None:
            raise LockedError(LOCKED)

    def unlock(self, private_key: X25519PrivateKey) -> None:
        """Take the clinic's private key.

        Raises:
            TamperedError: It is not the other half of the public key, which somebody must have changed.
        """
        if private_key.public_key().public_bytes_raw() != self._public_key.public_bytes_raw():
            raise TamperedError("The key that this box seals to was changed; stop using it and restore a backup.")
        self._private_key = private_key

    def lock(self) -> None:
        """Let go of every key."""
        self._private_key = None
        self._opened.clear()

    def make(self, owner_kind: KeyOwner, owner_id: str) -> tuple[StoredKey, bytes]:
        """Make a data key; it is remembered only once `remember` is called, after it was saved."""
        data_key = secrets.token_bytes(KEY_BYTES)
        bare = StoredKey(key_id=secrets.token_hex(16), owner_kind=owner_kind, owner_id=owner_id, sealed=b"")
        sealed = seal_key(self._public_key, data_key, bare.identity())
        return StoredKey(key_id=bare.key_id, owner_kind=owner_kind, owner_id=owner_id, sealed=sealed), data_key

    def remember(self, key_id: str, data_key: bytes) -> None:
        """Keep an opened key in memory until the next lock."""
        self._opened[key_id] = data_key
        self._opened.move_to_end(key_id)
        while len(self._opened) > _OPENED_MAX:
            self._opened.popitem(last=False)

    def forget(self, key_id: str) -> None:
        """Let go of one opened key."""
        self._opened.pop(key_id, None)

    def remembered(self, key_id: str) -> bytes | None:
        """Return a key that is in memory already."""
        return self._opened.get(key_id)

    def open(self, stored: StoredKey) -> bytes:
        """Open a stored key.

        Raises:
            LockedError: The records are locked and the key is not in memory.
            TamperedError: It was changed, or belongs to another owner.
        """
        known = self._opened.get(stored.key_id)
        if known is None:
            known = open_key(self.private_key, stored.sealed, stored.identity())
            self.remember(stored.key_id, known)
        return known
