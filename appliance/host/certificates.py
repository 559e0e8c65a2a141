"""The box's own certificate authority and its certificate, for TLS on a network without internet.

The authority can vouch for this box's names and for private addresses only, so that whoever steals its key cannot pose
as anything else to a telephone that trusts it. It reads no clock and writes no file: `certificate_files.py` does.
Source: RFC 5280, sections 4.2.1.10 (name constraints) and 6.1; Apple HT210176 (server certificates: at most 825 days).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.host.addresses import IpAddress

PRIVATE_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7")
)
"""RFC 1918, RFC 3927 and RFC 4193; all of them, because a router that is replaced brings another one."""
AUTHORITY_ENDS_AT: Final = datetime(2049, 12, 31, tzinfo=UTC)
"""The last year that fits the older of the two ways to write dates (RFC 5280, 4.1.2.5.1): every telephone reads it."""
LEAF_PERIOD: Final = timedelta(days=825)
LEAF_BEFORE: Final = timedelta(days=300)
"""How far the period reaches back from the day of issue: a box or telephone whose date is wrong by less still works."""
RENEW_BEFORE: Final = timedelta(days=200)
_NAME_MAX: Final = 64
"""Characters of a common name (RFC 5280, appendix A.1, ub-common-name)."""

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: Key

    def pem(self) -> bytes:
        """Write the key, PKCS 8 in clear, and then the certificate: one file, so that the two cannot part."""
        return key_pem(self.key) + self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate: what telephones show."""
        return self.certificate.fingerprint(hashes.SHA256())


def key_pem(key: Key) -> bytes:
    """Write a private key, PKCS 8 in clear."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issued_from_pem(content: bytes) -> Issued:
    """Read what `Issued.pem` wrote.

    Raises:
        ValueError: It is something else, or the key is not the certificate's.
    """
    try:
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
    except (TypeError, ValueError) as error:
        raise ValueError("neither a key nor a certificate can be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the key is not the certificate's")
    return Issued(certificate=certificate, key=key)


def make_authority(names: Sequence[str], begins_at: datetime) -> Issued:
    """Make a certificate authority that may vouch for these names and for private addresses.

    Args:
        names: Host names, such as "dermstation.local".
        begins_at: Before any day on which it may be looked at; the release of this version.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Two boxes of one name must be told apart in a telephone's list.
    subject = _name(f"dermstation {identifier.digest.hex()[:8]}")
    permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    permitted += [x509.IPAddress(network) for network in PRIVATE_NETWORKS]
    builder = (
        _builder(subject, subject, key, begins_at, AUTHORITY_ENDS_AT)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
        .add_extension(identifier, critical=False)
    )
    return Issued(certificate=builder.sign(key, hashes.SHA256()), key=key)


def make_leaf(
    authority: Issued, names: Sequence[str], addresses: Sequence[str], period: tuple[datetime, datetime]
) -> Issued:
    """Make the certificate that the box shows.

    Args:
        authority: Who vouches.
        names: Host names; the first is its common name.
        addresses: IP addresses; those that are not private are left out.
        period: First and last moment at which it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(address) for address in private_addresses(addresses)]
    issuer = authority.certificate.subject
    builder = (
        _builder(_name(names[0]), issuer, key, *period)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    return Issued(certificate=builder.sign(authority.key, hashes.SHA256()), key=key)


def private_addresses(addresses: Sequence[str]) -> tuple[IpAddress, ...]:
    """Return those addresses that the authority may vouch for, sorted."""
    found = {ipaddress.ip_address(address) for address in addresses}
    return tuple(
        sorted(
            (one for one in found if any(one.version == net.version and one in net for net in PRIVATE_NETWORKS)),
            key=lambda one: (one.version, int(one)),
        )
    )


def permitted_names(authority: x509.Certificate) -> tuple[str, ...]:
    """Return the host names that an authority may vouch for; none when it is not one of ours."""
    try:
        basic = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        limits = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    if not basic.ca:
        return ()
    return tuple(name.value for name in limits.permitted_subtrees or () if isinstance(name, x509.DNSName))


def names_of(leaf: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the host names and the addresses that a certificate is for.

    Raises:
        ValueError: It is for none.
    """
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise ValueError("the certificate is for nobody") from error
    addresses = tuple(str(address) for address in found.get_values_for_type(x509.IPAddress))
    return tuple(found.get_values_for_type(x509.DNSName)), addresses


def period_from(now_at: datetime | None, released_at: datetime) -> tuple[datetime, datetime]:
    """Choose when a new certificate is valid.

    Args:
        now_at: The date, if it can be believed; without one it begins with the release.
        released_at: When this version was released; it did not exist before.
    """
    begins_at = released_at if now_at is None else max(released_at, now_at - LEAF_BEFORE)
    return begins_at, begins_at + LEAF_PERIOD


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, begins_at: datetime, ends_at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(ends_at)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dermstation"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_NAME_MAX]),
        ]
    )
