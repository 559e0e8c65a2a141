"""The authority and the certificate on the disk: made when they are not there, renewed in time, mended when damaged.

They lie beside the records, not in them: the box must answer on its network while the records are locked or broken, and
a backup must not carry the key. A box that takes over another's backup is another box, and telephones must be told so.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.errors import DermstationError
from appliance.host.certificates import (
    RENEW_BEFORE,
    Issued,
    issued_from_pem,
    make_authority,
    make_leaf,
    names_of,
    period_from,
    permitted_names,
    private_addresses,
)

logger = logging.getLogger(__name__)
AUTHORITY_NAME: Final = "authority.pem"
LEAF_NAME: Final = "certificate.pem"
_MADE_ANEW: Final = "Install the new certificate on each phone, and pair it again."
_MAX_BYTES: Final = 64 << 10


class CertificateError(DermstationError):
    """There is no certificate, so the clinic's network cannot be served."""

    message_key = "error.certificate"
    exit_code = 74  # EX_IOERR


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the box shows on the network."""

    authority: Issued
    leaf: Issued
    notice: str = ""
    """One sentence for the screen when telephones must be told something; else empty."""

    @property
    def chain_pem(self) -> bytes:
        """The certificate and who vouches for it, as a TLS server sends them."""
        return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (self.leaf, self.authority))

    @property
    def authority_der(self) -> bytes:
        """What a telephone installs."""
        return self.authority.certificate.public_bytes(Encoding.DER)

    @property
    def ends_at(self) -> datetime:
        """Until when the certificate is valid."""
        return self.leaf.certificate.not_valid_after_utc


class CertificateFiles:
    """The folder with both; one process uses it."""

    def __init__(self, folder: Path, *, released_at: datetime) -> None:
        """Use a folder.

        Args:
            folder: Made when it is not there.
            released_at: When this version was released: no certificate begins before.
        """
        self._folder = folder
        self._released_at = released_at

    def read(self) -> Certificates:
        """Read both without changing anything.

        Raises:
            CertificateError: They are not there, or damaged.
        """
        try:
            authority, leaf = (issued_from_pem(self._content(name)) for name in (AUTHORITY_NAME, LEAF_NAME))
            names_of(leaf.certificate)
        except FileNotFoundError as error:
            raise CertificateError("This box has no certificate yet.") from error
        except (OSError, ValueError) as error:
            raise CertificateError(f"The certificate in {self._folder} cannot be read: {error}.") from error
        return Certificates(authority=authority, leaf=leaf)

    def ensure(self, names: Sequence[str], addresses: Sequence[str], now_at: datetime | None) -> Certificates:
        """Return an authority and a certificate that fit, making or renewing what does not.

        Args:
            names: Host names that the box may go by, the likeliest first.
            addresses: Its IP addresses on the network.
            now_at: The date, if it can be believed; without one nothing is renewed for its age.

        Raises:
            CertificateError: The folder cannot be read or written.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            authority, notice = self._authority(names)
            return Certificates(
                authority=authority, leaf=self._leaf(authority, names, addresses, now_at), notice=notice
            )
        except OSError as error:
            raise CertificateError(
                f"The certificate in {self._folder} cannot be kept: {error.strerror or error}."
            ) from error

    def _authority(self, names: Sequence[str]) -> tuple[Issued, str]:
        notice = ""
        try:
            found = issued_from_pem(self._content(AUTHORITY_NAME))
            if set(names) <= set(permitted_names(found.certificate)):
                return found, ""
            notice = f"The box has another name now, so it made itself a new certificate. {_MADE_ANEW}"
        except FileNotFoundError:
            pass
        except ValueError as error:
            logger.warning("certificate authority damaged, made anew: error=%s", error)
            notice = f"The box's certificate was damaged, so it made itself a new one. {_MADE_ANEW}"
        made = make_authority(names, self._released_at)
        self._write(AUTHORITY_NAME, made.pem())
        return made, notice

    def _leaf(
        self, authority: Issued, names: Sequence[str], addresses: Sequence[str], now_at: datetime | None
    ) -> Issued:
        period = period_from(now_at, self._released_at)
        try:
            found = issued_from_pem(self._content(LEAF_NAME))
            kept_names, kept_addresses = names_of(found.certificate)
            found.certificate.verify_directly_issued_by(authority.certificate)
            wanted = tuple(str(address) for address in private_addresses(addresses))
            is_in_time = now_at is None or _is_in_time(found, now_at)
            if is_in_time and (kept_names, kept_addresses) == (tuple(names), wanted):
                return found
            if now_at is None:
                # The old dates are better than none: they were chosen on a day that was known.
                period = (found.certificate.not_valid_before_utc, found.certificate.not_valid_after_utc)
        except FileNotFoundError:
            pass
        except (TypeError, ValueError) as error:
            logger.warning("certificate damaged, made anew: error=%s", error)
        except InvalidSignature:
            logger.info("certificate of another authority, made anew")
        made = make_leaf(authority, names, addresses, period)
        self._write(LEAF_NAME, made.pem())
        logger.info("certificate made: addresses=%s until=%s", ",".join(addresses), period[1].date())
        return made

    def _content(self, name: str) -> bytes:
        """Read a private file of ours; its mode is mended, whatever it was."""
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ValueError("it is a link") from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is no file")
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o600)
            return os.read(descriptor, _MAX_BYTES)
        finally:
            os.close(descriptor)

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file: all of it, or nothing of it, also when the power is cut."""
        target, temporary = self._folder / name, self._folder / f"{name}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if target.is_dir() and not target.is_symlink():
            target.rename(self._folder / f"{name}.damaged")
        temporary.rename(target)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _is_in_time(leaf: Issued, now_at: datetime) -> bool:
    certificate = leaf.certificate
    return certificate.not_valid_before_utc <= now_at < certificate.not_valid_after_utc - RENEW_BEFORE
