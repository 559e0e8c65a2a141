"""The clinic's key pair: sealing needs the public half only, opening needs a secret that is not on the box.

The private half lies wrapped in slots: under the clinic's phrase (Argon2id), under each recovery sheet, and, where the
clinic wants them, under the key of each key fob and under one that the box's TPM gives out (`held_slots.py`).
Source: RFC 9180 (HPKE) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; RFC 9106 (Argon2id).
"""

import os
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.records.errors import TamperedError, WrongSecretError
from appliance.records.words import key_from_sheet

SlotKind = Literal["phrase", "recovery", "fob", "tpm"]
HELD_KEY_BYTES: Final = 32
PHRASE_MIN_LETTERS: Final = 20
"""Four words of five letters, as made by `words.new_phrase`."""
ARGON2_TIME_COST: Final = 3
ARGON2_MEMORY_KIB: Final = 64 << 10
ARGON2_LANES: Final = 4
"""RFC 9106's second recommended choice: 64 MiB, t=3, p=4; figures in DESIGN.md."""
_KEY_BYTES: Final = 32
_DATA_KEY_INFO: Final = b"dermstation data key v1"
_SLOT_INFO: Final = b"dermstation key slot v1"
_FITS_NONE: Final[dict[SlotKind, str]] = {
    "phrase": "This is not the clinic's phrase.",
    "recovery": "These words belong to no sheet of this box.",
    "fob": "This key fob is not on this box's list; it opens nothing.",
    "tpm": "Opening by the box's own chip was turned off, or made anew; type the clinic's phrase.",
}


class WrappingKey(Protocol):
    """Where a slot's 32-byte wrapping key comes from: a phrase, a sheet, a key fob, the box's TPM."""

    @property
    def kind(self) -> SlotKind:
        """Which slots it may open."""

    def derive(self, salt: bytes) -> bytes:
        """Return the 32-byte key for this salt; may take a second and ask hardware."""


@dataclass(frozen=True, slots=True, repr=False)
class PhraseKey:
    """The clinic's phrase, stretched by Argon2id; spacing, hyphens and case do not matter."""

    phrase: str
    kind: SlotKind = "phrase"

    def derive(self, salt: bytes) -> bytes:
        """Take about 0.2 s and 64 MiB, on purpose."""
        from argon2.low_level import Type, hash_secret_raw

        return hash_secret_raw(
            folded_phrase(self.phrase).encode(),
            salt,
            time_cost=ARGON2_TIME_COST,
            memory_cost=ARGON2_MEMORY_KIB,
            parallelism=ARGON2_LANES,
            hash_len=_KEY_BYTES,
            type=Type.ID,
        )


@dataclass(frozen=True, slots=True, repr=False)
class SheetKey:
    """The words of a recovery sheet; 128 random bits need no stretching."""

    words: str
    kind: SlotKind = "recovery"

    def derive(self, salt: bytes) -> bytes:
        """Read the words and derive.

        Raises:
            WrongSecretError: The words are no sheet's.
        """
        return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_SLOT_INFO).derive(
            key_from_sheet(self.words)
        )


@dataclass(frozen=True, slots=True, repr=False)
class HeldKey:
    """32 random bytes that nobody types: from a key fob, or out of the box's TPM."""

    key: bytes
    kind: SlotKind

    def derive(self, salt: bytes) -> bytes:
        """Derive at once: 256 random bits need no stretching."""
        return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_SLOT_INFO).derive(self.key)


class KeySlot(msgspec.Struct, frozen=True, kw_only=True):
    """The clinic's private key, wrapped under one secret; safe to store and to copy."""

    slot_id: str
    kind: SlotKind
    salt: bytes
    wrapped: bytes
    """12-byte nonce, then the wrapped secrets with their tag."""


class _Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot wraps."""

    private_key: bytes
    """X25519, raw."""
    signing_public_key: bytes
    """Ed25519, raw: whose backups to believe, for a box that knows nothing yet."""


@dataclass(frozen=True, slots=True)
class OpenedSlot:
    """What a slot gives to who knows its secret."""

    private_key: X25519PrivateKey
    signing_public_key: Ed25519PublicKey
    slot_id: str = ""
    """Which it was; empty for a key that was just made."""


def suite() -> hpke.Suite:
    """Return the one HPKE suite in use."""
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def seal_key(public_key: X25519PublicKey, data_key: bytes, identity: bytes) -> bytes:
    """Seal a data key to the clinic, for the one place that `identity` names; takes 0.14 ms."""
    return suite().encrypt(data_key, public_key, _DATA_KEY_INFO + identity)


def open_key(private_key: X25519PrivateKey, sealed: bytes, identity: bytes) -> bytes:
    """Open a data key; takes 0.06 ms.

    Raises:
        TamperedError: It is not this clinic's, or not for that place.
    """
    try:
        return suite().decrypt(sealed, private_key, _DATA_KEY_INFO + identity)
    except InvalidTag as error:
        raise TamperedError("A record's key does not open: it was changed, or belongs to another record.") from error


def make_slot(opened: OpenedSlot, secret: WrappingKey, slot_id: str | None = None) -> KeySlot:
    """Wrap the clinic's private key under one more secret; the slot's id is random where none is given."""
    salt, nonce, slot_id = os.urandom(16), os.urandom(12), slot_id or secrets.token_hex(16)
    content = msgspec.json.encode(
        _Secrets(
            private_key=opened.private_key.private_bytes_raw(),
            signing_public_key=opened.signing_public_key.public_bytes_raw(),
        )
    )
    wrapped = AESGCM(secret.derive(salt)).encrypt(nonce, content, _slot_identity(slot_id, secret.kind))
    return KeySlot(slot_id=slot_id, kind=secret.kind, salt=salt, wrapped=nonce + wrapped)


def open_slots(slots: tuple[KeySlot, ...], secret: WrappingKey) -> OpenedSlot:
    """Open the first slot of that kind which the secret fits.

    Raises:
        WrongSecretError: It fits none.
    """
    for slot in slots:
        if slot.kind != secret.kind:
            continue
        nonce, wrapped = slot.wrapped[:12], slot.wrapped[12:]
        try:
            content = AESGCM(secret.derive(slot.salt)).decrypt(nonce, wrapped, _slot_identity(slot.slot_id, slot.kind))
        except InvalidTag:
            continue
        found = msgspec.json.decode(content, type=_Secrets)
        return OpenedSlot(
            X25519PrivateKey.from_private_bytes(found.private_key),
            Ed25519PublicKey.from_public_bytes(found.signing_public_key),
            slot.slot_id,
        )
    raise WrongSecretError(_FITS_NONE[secret.kind])


def new_clinic_key() -> tuple[OpenedSlot, Ed25519PrivateKey]:
    """Make the clinic's key pair and the box's signing key, once, at set-up."""
    signing_key = Ed25519PrivateKey.generate()
    return OpenedSlot(X25519PrivateKey.generate(), signing_key.public_key()), signing_key


def folded_phrase(phrase: str) -> str:
    """Return a phrase as it is compared: compatible forms folded, case, hyphens and spacing gone."""
    folded = unicodedata.normalize("NFKC", phrase).casefold()
    return "".join(char for char in folded if char.isalnum())


def typed_secret(text: str) -> PhraseKey | SheetKey:
    """Tell the clinic's phrase from the words of a recovery sheet, as typed into one field."""
    try:
        key_from_sheet(text)
    except WrongSecretError:
        return PhraseKey(text)
    return SheetKey(text)


def check_phrase(phrase: str) -> None:
    """Refuse a phrase that could be guessed offline.

    Raises:
        WrongSecretError: It is too short.
    """
    if len(folded_phrase(phrase)) < PHRASE_MIN_LETTERS:
        raise WrongSecretError(
            f"The clinic's phrase needs at least {PHRASE_MIN_LETTERS} letters; take the four words that were offered."
        )


def _slot_identity(slot_id: str, kind: SlotKind) -> bytes:
    return f"dermstation key slot v1 {slot_id} {kind}".encode()
