"""The box's security chip, a TPM 2.0: gives a few bytes out for a PIN only, and counts the wrong ones itself.

The object can be opened by this one chip, with the PIN as its authorization; the answer crosses the bus encrypted. Who
may reset the chip's count must know its lock-out authorization: where that is empty, anybody could, so it is set to
random bytes that are kept nowhere, and waiting is the only way on. It knows no records.
Source: TCG TPM 2.0 Library, Part 1, 19.8 (dictionary attack protection) and Part 3; `tpm2-pytss`.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from appliance.errors import DermstationError

if TYPE_CHECKING:
    from tpm2_pytss import ESAPI

logger = logging.getLogger(__name__)

DEVICE: Final = Path("/dev/tpmrm0")
TRIES_MAX: Final = 20
"""Wrong PINs until the chip waits: as many as a person's PIN has at the kiosk."""
RECOVERY_S: Final = 600
"""After how long it forgives one of them: 144 guesses a day, so half of a million PINs take nine years."""
_TRIES_SOUND: Final = 100
_RECOVERY_SOUND_S: Final = 60
_LOCKOUT_AUTH_SET: Final = 1 << 2
_IN_LOCKOUT: Final = 1 << 9
_RC_LOCKOUT: Final = 0x921
_RC_AUTH_FAIL: Final = 0x08E
_RC_BAD_AUTH: Final = 0x0A2
_RC_INTEGRITY: Final = 0x09F
_RC_FORMAT_ONE: Final = 0x080
_RC_ERROR_BITS: Final = 0x0BF
_FOREIGN: Final = (
    "This box's chip did not make this key: the chip was cleared, or the disk comes from another box. "
    "Open by the phrase; the lead turns the box PIN on anew."
)


class TpmError(DermstationError):
    """The chip cannot be used; the sentence says why."""

    message_key = "error.tpm"
    exit_code = 69  # EX_UNAVAILABLE


class TpmPinError(TpmError):
    """The PIN is wrong, and the chip has counted it."""


class TpmLockedOutError(TpmError):
    """The chip has counted too many wrong PINs."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """Seconds until it forgives one."""


class TpmForeignError(TpmError):
    """The chip did not make this object, or does not know it any more."""


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What the chip gives away to be stored: of use to it alone."""

    public: bytes
    private: bytes


class Tpm:
    """One chip; any thread may call, one at a time is served. It is opened for each call and let go."""

    def __init__(self, tcti: str = f"device:{DEVICE}") -> None:
        """Name the chip by its TCTI, as `device:/dev/tpmrm0`; nothing is opened yet."""
        self._tcti = tcti
        self._lock = threading.Lock()

    def trouble(self) -> str:
        """Say in one sentence why the chip cannot be used; empty when it can."""
        try:
            with self._opened():
                return ""
        except TpmError as error:
            return str(error)

    def seal(self, secret: bytes, pin: str) -> bytes:
        """Have the chip keep up to 128 bytes for a PIN.

        Returns:
            What to store: only this chip can open it.

        Raises:
            TpmError: It cannot be used, or counts wrong PINs too loosely.
        """
        from tpm2_pytss import TPM2B_AUTH, TPM2B_SENSITIVE_CREATE, TPM2B_SENSITIVE_DATA, TPMS_SENSITIVE_CREATE

        with self._opened() as esapi:
            _harden(esapi)
            with _primary(esapi) as parent, _session(esapi, parent) as session:
                sensitive = TPMS_SENSITIVE_CREATE(userAuth=TPM2B_AUTH(pin.encode()), data=TPM2B_SENSITIVE_DATA(secret))
                private, public, *_ = esapi.create(
                    parent, TPM2B_SENSITIVE_CREATE(sensitive), _object_template(), session1=session
                )
                return msgspec.msgpack.encode(_Sealed(public=public.marshal(), private=private.marshal()))

    def unseal(self, sealed: bytes, pin: str) -> bytes:
        """Have the chip give out what it keeps.

        Raises:
            TpmPinError: The PIN is wrong.
            TpmLockedOutError: Too many were.
            TpmForeignError: Another chip made it, or this one before it was cleared.
            TpmError: It cannot be used.
        """
        from tpm2_pytss import TPM2B_PRIVATE, TPM2B_PUBLIC

        try:
            kept = msgspec.msgpack.decode(sealed, type=_Sealed)
            private, public = TPM2B_PRIVATE.unmarshal(kept.private)[0], TPM2B_PUBLIC.unmarshal(kept.public)[0]
        except (msgspec.DecodeError, RuntimeError) as error:
            raise TpmForeignError(_FOREIGN) from error
        with self._opened() as esapi, _primary(esapi) as parent, _session(esapi, parent) as session:
            handle = esapi.load(parent, private, public)
            try:
                esapi.tr_set_auth(handle, pin.encode())
                return bytes(esapi.unseal(handle, session1=session))
            finally:
                esapi.flush_context(handle)

    @contextmanager
    def _opened(self) -> Iterator["ESAPI"]:
        """Open the chip and say what it refuses in sentences.

        Raises:
            TpmError: It is not there, or refuses.
        """
        esapi_class, refusal = _library()
        if self._tcti == f"device:{DEVICE}" and not DEVICE.exists():
            raise TpmError("This box has no security chip (TPM 2.0), or its system does not show one.")
        with self._lock:
            try:
                esapi = esapi_class(self._tcti)
            except (refusal, RuntimeError) as error:
                raise TpmError("The box's security chip does not answer, or the station may not use it.") from error
            try:
                yield esapi
            except refusal as error:
                raise _translated(esapi, int(error.rc)) from error
            finally:
                esapi.close()


def _library() -> tuple[Any, type[Any]]:
    # Its C library writes each refusal to stderr by itself; a wrong PIN is no news for the journal.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        from tpm2_pytss import ESAPI, TSS2_Exception
    except (ImportError, OSError) as error:
        raise TpmError("A box PIN needs the extra [tpm], which is not installed here.") from error
    return ESAPI, TSS2_Exception


def _translated(esapi: "ESAPI", code: int) -> TpmError:
    if code == _RC_LOCKOUT:
        wait_s = float(_properties(esapi)["interval"])
        sentence = (
            f"Too many wrong box PINs: the chip takes one again in {int(wait_s // 60) + 1} minutes at the latest."
        )
        return TpmLockedOutError(f"{sentence} The phrase opens the records now.", wait_s)
    plain = code & _RC_ERROR_BITS if code & _RC_FORMAT_ONE else code
    if plain == _RC_AUTH_FAIL:
        return TpmPinError("This box PIN is wrong.")
    if plain == _RC_INTEGRITY:
        return TpmForeignError(_FOREIGN)
    if plain == _RC_BAD_AUTH:
        return TpmError("Somebody set a password of their own in the box's chip; the technician clears the chip first.")
    logger.warning("tpm refused code=%#x", code)
    return TpmError("The box's security chip refused; start the box anew, or open by the phrase.")


def _properties(esapi: "ESAPI") -> dict[str, int]:
    """Read how the chip counts: `permanent` (flags), `counter`, `tries_max`, `interval` (s)."""
    from tpm2_pytss import TPM2_CAP, TPM2_PT

    _, found = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.PERMANENT, 64)
    values = {int(one.property): int(one.value) for one in found.data.tpmProperties}
    return {
        "permanent": values.get(int(TPM2_PT.PERMANENT), 0),
        "counter": values.get(int(TPM2_PT.LOCKOUT_COUNTER), 0),
        "tries_max": values.get(int(TPM2_PT.MAX_AUTH_FAIL), 0),
        "interval": values.get(int(TPM2_PT.LOCKOUT_INTERVAL), 0),
    }


def _harden(esapi: "ESAPI") -> None:
    """Have the chip count, and leave nobody a way to give guesses back.

    Raises:
        TpmError: Somebody else owns its lock-out and lets too much pass.
    """
    from tpm2_pytss import ESYS_TR, TPM2B_AUTH

    if not _properties(esapi)["permanent"] & _LOCKOUT_AUTH_SET:
        esapi.dictionary_attack_parameters(TRIES_MAX, RECOVERY_S, 24 * 3600, lock_handle=ESYS_TR.LOCKOUT)
        esapi.hierarchy_change_auth(ESYS_TR.LOCKOUT, TPM2B_AUTH(secrets.token_bytes(32)))
    found = _properties(esapi)
    if not 0 < found["tries_max"] <= _TRIES_SOUND or found["interval"] < _RECOVERY_SOUND_S:
        raise TpmError("The box's chip lets PINs be guessed too fast, and its owner's password keeps it so.")


@contextmanager
def _primary(esapi: "ESAPI") -> Iterator[Any]:
    """Give the chip's storage key, made from its seed each time: another one after the chip was cleared."""
    from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMA_OBJECT

    attributes = (
        TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN | TPMA_OBJECT.USERWITHAUTH
        | TPMA_OBJECT.NODA | TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT
    )  # fmt: skip
    template = TPM2B_PUBLIC.parse("ecc256:aes128cfb", objectAttributes=attributes)
    handle, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER)
    try:
        yield handle
    finally:
        esapi.flush_context(handle)


@contextmanager
def _session(esapi: "ESAPI", parent: object) -> Iterator[Any]:
    """Give a session whose parameters cross the bus encrypted and whose authorizations are proved, not sent."""
    from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TPMA_SESSION, TPMT_SYM_DEF, TPMU_SYM_KEY_BITS, TPMU_SYM_MODE

    cipher = TPMT_SYM_DEF(
        algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(aes=128), mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
    )
    session = esapi.start_auth_session(
        tpm_key=parent, bind=ESYS_TR.NONE, session_type=TPM2_SE.HMAC, symmetric=cipher, auth_hash=TPM2_ALG.SHA256
    )
    try:
        esapi.trsess_set_attributes(session, TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT | TPMA_SESSION.CONTINUESESSION)
        yield session
    finally:
        esapi.flush_context(session)


def _object_template() -> Any:
    """Describe the sealed bytes: of this chip and this parent for ever, opened by their PIN, wrong ones counted."""
    from tpm2_pytss import (
        TPM2_ALG,
        TPM2B_PUBLIC,
        TPMA_OBJECT,
        TPMS_KEYEDHASH_PARMS,
        TPMT_KEYEDHASH_SCHEME,
        TPMT_PUBLIC,
        TPMU_PUBLIC_PARMS,
    )

    scheme = TPMS_KEYEDHASH_PARMS(scheme=TPMT_KEYEDHASH_SCHEME(scheme=TPM2_ALG.NULL))
    # Without NODA: a wrong PIN counts.
    attributes = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.USERWITHAUTH
    return TPM2B_PUBLIC(
        TPMT_PUBLIC(
            type=TPM2_ALG.KEYEDHASH,
            nameAlg=TPM2_ALG.SHA256,
            objectAttributes=attributes,
            parameters=TPMU_PUBLIC_PARMS(keyedHashDetail=scheme),
        )
    )
