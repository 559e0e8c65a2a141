"""PINs: what one must look like, how it is kept, and how one is compared.

A PIN opens a session, never a key: six digits can be guessed offline in hours. It is mixed with the box's secret, so
that a stolen backup does not hold what is needed to guess it.
Source: OWASP Password Storage Cheat Sheet (Argon2id); measured costs in DESIGN.md.
"""

import hashlib
import hmac
from itertools import pairwise
from typing import Final

from appliance.records.errors import WrongSecretError

PIN_DIGITS: Final = 6
BOX_SECRET_NAME: Final = "box-secret"  # noqa: S105 - a file's name
_TIME_COST: Final = 2
_MEMORY_KIB: Final = 19 << 10
_LANES: Final = 1
"""OWASP's first choice; a nurse signs in many times a day, and guesses are counted."""


def check_pin(pin: str) -> None:
    """Refuse a PIN that is no PIN, or the first that anybody would try.

    Raises:
        WrongSecretError: It has not six digits, or they are all alike or in a row.
    """
    if len(pin) != PIN_DIGITS or not (pin.isascii() and pin.isdigit()):
        raise WrongSecretError(f"A PIN has {PIN_DIGITS} digits.")
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    if len(steps) == 1 and steps <= {0, 1, 9}:
        raise WrongSecretError("This PIN is too easy to guess; take one without a row.")


def pin_hash(pin: str, box_secret: bytes) -> str:
    """Hash a PIN for keeping; takes about 30 ms."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=_TIME_COST, memory_cost=_MEMORY_KIB, parallelism=_LANES)
    return hasher.hash(_mixed(pin, box_secret))


def is_pin(pin: str, kept: str, box_secret: bytes) -> bool:
    """Compare a typed PIN with the kept hash; an empty one fits nothing."""
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return PasswordHasher().verify(kept, _mixed(pin, box_secret))
    except (VerificationError, InvalidHashError):
        return False


def _mixed(pin: str, box_secret: bytes) -> bytes:
    return hmac.digest(box_secret, b"dermstation pin v1" + pin.encode(), hashlib.sha256)
