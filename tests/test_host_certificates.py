"""The box's own authority and certificate: what real validators say, when they are renewed, and when damaged."""

import contextlib
import ipaddress
import random
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.config import Config, LanConfig
from appliance.host.certificate_files import AUTHORITY_NAME, LEAF_NAME, CertificateError, CertificateFiles, Certificates
from appliance.host.certificates import (
    AUTHORITY_ENDS_AT,
    LEAF_PERIOD,
    RENEW_BEFORE,
    Issued,
    key_pem,
    make_authority,
    make_leaf,
    names_of,
    period_from,
    permitted_names,
)
from appliance.host.check import Check
from appliance.host.network_checks import check_phones
from appliance.records.words import words_from_bytes

RELEASED_AT = datetime(2026, 11, 1, tzinfo=UTC)
NOW_AT = datetime(2028, 6, 1, tzinfo=UTC)
NAMES = ("dermstation.local", "dermstation-2.local")
ADDRESSES = ("192.168.7.5", "fd00::5")
DAY = timedelta(days=1)


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(tmp_path / "lan", released_at=RELEASED_AT)


def made(files: CertificateFiles, now_at: datetime | None = NOW_AT) -> Certificates:
    return files.ensure(NAMES, ADDRESSES, now_at)


def pem(one: Issued, folder: Path, name: str) -> str:
    path = folder / f"{name}.pem"
    path.write_bytes(one.certificate.public_bytes(Encoding.PEM))
    return str(path)


def openssl_says(folder: Path, authority: Issued, leaf: Issued, *options: str, at: datetime = NOW_AT) -> str:
    """Have OpenSSL's own program judge a certificate; "OK" or its reason."""
    if shutil.which("openssl") is None:
        pytest.skip("the Debian package openssl is not installed")
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(at.timestamp()))),
            *(*options, "-CAfile", pem(authority, folder, "authority"), pem(leaf, folder, "leaf")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return "OK" if done.returncode == 0 else done.stderr


def foreign_leaf(authority: Issued, names: tuple[str, ...], addresses: tuple[str, ...] = ()) -> Issued:
    """A certificate as a thief with the authority's key would make one."""
    return make_leaf(authority, names, addresses, period_from(NOW_AT, RELEASED_AT))


@pytest.mark.parametrize("name", NAMES)
def test_openssl_takes_the_box_by_each_name(files: CertificateFiles, tmp_path: Path, name: str) -> None:
    both = made(files)
    assert openssl_says(tmp_path, both.authority, both.leaf, "-verify_hostname", name) == "OK"


@pytest.mark.parametrize("address", ADDRESSES)
def test_openssl_takes_the_box_by_each_address(files: CertificateFiles, tmp_path: Path, address: str) -> None:
    both = made(files)
    assert openssl_says(tmp_path, both.authority, both.leaf, "-verify_ip", address) == "OK"


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("-verify_hostname", "other.local", "hostname mismatch"),
        ("-verify_ip", "192.168.7.6", "IP address mismatch"),
    ],
)
def test_openssl_refuses_it_for_somebody_else(
    files: CertificateFiles, tmp_path: Path, option: str, value: str, reason: str
) -> None:
    both = made(files)
    assert reason in openssl_says(tmp_path, both.authority, both.leaf, option, value)


@pytest.mark.parametrize("name", ["bank.example", "local", "dermstation.local.example", "printer.local"])
def test_a_stolen_authority_vouches_for_no_other_name(tmp_path: Path, name: str) -> None:
    authority = make_authority(NAMES, RELEASED_AT)
    assert "permitted subtree violation" in openssl_says(tmp_path, authority, foreign_leaf(authority, (name,)))


def test_a_stolen_authority_vouches_for_no_public_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority(NAMES, RELEASED_AT)
    # Our own code leaves such an address out; a thief's does not.
    monkeypatch.setattr(
        "appliance.host.certificates.private_addresses", lambda addresses: list(map(ipaddress.ip_address, addresses))
    )
    public = foreign_leaf(authority, NAMES, ("8.8.8.8",))
    assert names_of(public.certificate)[1] == ("8.8.8.8",)
    assert "permitted subtree violation" in openssl_says(tmp_path, authority, public)


def test_a_stolen_authority_makes_no_further_authority(tmp_path: Path) -> None:
    authority = make_authority(NAMES, RELEASED_AT)
    leaf = foreign_leaf(authority, NAMES)
    # The leaf as an authority of its own: its certificate says that it is none.
    grandchild = make_leaf(leaf, NAMES, (), period_from(NOW_AT, RELEASED_AT))
    path = pem(grandchild, tmp_path, "grandchild")
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", pem(authority, tmp_path, "a"), "-untrusted", pem(leaf, tmp_path, "l"), path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "invalid CA certificate" in done.stderr


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        (NOW_AT - 150 * DAY, "OK"),
        (NOW_AT + 524 * DAY, "OK"),
        (NOW_AT - 301 * DAY, "not yet valid"),
        (NOW_AT + 526 * DAY, "has expired"),
    ],
)
def test_openssl_takes_it_for_its_period_only(
    files: CertificateFiles, tmp_path: Path, at: datetime, verdict: str
) -> None:
    both = made(files)
    assert verdict in openssl_says(tmp_path, both.authority, both.leaf, at=at)


def test_a_client_connects_with_the_authority_and_is_refused_without(tmp_path: Path) -> None:
    today_at = datetime.now(UTC)
    both = made(CertificateFiles(tmp_path / "lan", released_at=today_at - DAY), today_at)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "server.pem").write_bytes(key_pem(both.leaf.key) + both.chain_pem)
    server.load_cert_chain(tmp_path / "server.pem")

    def shaken(client: ssl.SSLContext, name: str) -> str:
        near, far = socket.socketpair()

        def serve() -> None:
            with far, contextlib.suppress(OSError):  # the client may leave
                server.wrap_socket(far, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with near, client.wrap_socket(near, server_hostname=name):
                return "OK"
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        finally:
            thread.join(10)

    trusting = ssl.create_default_context(cadata=both.authority_der)
    assert shaken(trusting, NAMES[0]) == shaken(trusting, ADDRESSES[0]) == "OK"
    assert "Hostname mismatch" in shaken(trusting, "other.local")
    assert "self-signed certificate" in shaken(ssl.create_default_context(), NAMES[0])


def test_it_is_made_once(files: CertificateFiles) -> None:
    first, again = made(files), made(files)
    assert first.chain_pem == again.chain_pem
    assert first.notice == again.notice == ""


def test_files_are_for_their_owner_only(files: CertificateFiles, tmp_path: Path) -> None:
    made(files)
    folder = tmp_path / "lan"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    (folder / AUTHORITY_NAME).chmod(0o644)
    made(files)
    assert stat.S_IMODE((folder / AUTHORITY_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("names", "addresses", "now_at"),
    [
        (NAMES, ("192.168.7.6",), NOW_AT),
        (NAMES[:1], ADDRESSES, NOW_AT),
        (NAMES, ADDRESSES, NOW_AT + LEAF_PERIOD - timedelta(days=300) - RENEW_BEFORE),
        (NAMES, ADDRESSES, NOW_AT - timedelta(days=301)),
    ],
)
def test_the_certificate_is_renewed_and_the_authority_stays(
    files: CertificateFiles, names: tuple[str, ...], addresses: tuple[str, ...], now_at: datetime
) -> None:
    before = made(files)
    after = files.ensure(names, addresses, now_at)
    assert after.leaf.fingerprint != before.leaf.fingerprint
    assert after.authority.fingerprint == before.authority.fingerprint
    assert after.notice == ""
    assert after.leaf.certificate.not_valid_before_utc <= max(now_at, RELEASED_AT) < after.ends_at


def test_a_date_that_is_not_believed_renews_nothing_and_shortens_nothing(files: CertificateFiles) -> None:
    before = made(files)
    assert made(files, None).chain_pem == before.chain_pem
    moved = files.ensure(NAMES, ("10.0.0.9",), None)
    assert moved.ends_at == before.ends_at


def test_without_a_date_it_begins_with_the_release(files: CertificateFiles) -> None:
    first = made(files, None)
    assert first.leaf.certificate.not_valid_before_utc == RELEASED_AT
    assert first.ends_at - RELEASED_AT == LEAF_PERIOD <= timedelta(days=825)
    assert first.authority.certificate.not_valid_after_utc == AUTHORITY_ENDS_AT


def test_another_name_makes_another_authority_and_says_so(files: CertificateFiles) -> None:
    before = made(files)
    after = files.ensure(("kliniek.local",), ADDRESSES, NOW_AT)
    assert after.authority.fingerprint != before.authority.fingerprint
    assert "another name" in after.notice
    assert permitted_names(after.authority.certificate) == ("kliniek.local",)


def test_public_addresses_are_left_out(files: CertificateFiles) -> None:
    both = files.ensure(NAMES, (*ADDRESSES, "8.8.8.8", "2001:db8::1"), NOW_AT)
    assert names_of(both.leaf.certificate) == (NAMES, ADDRESSES)


@pytest.mark.parametrize("name", [AUTHORITY_NAME, LEAF_NAME])
def test_whatever_is_damaged_is_made_anew(files: CertificateFiles, tmp_path: Path, name: str, seed: int) -> None:
    chance, path = random.Random(seed), tmp_path / "lan" / name
    for damage in ("empty", "cut", "garbage", "zeros", "other key", "folder", "link"):
        before = made(files)
        content = path.read_bytes()
        path.unlink()
        match damage:
            case "empty":
                path.write_bytes(b"")
            case "cut":
                path.write_bytes(content[: chance.randrange(1, len(content) - 80)])
            case "garbage":
                path.write_bytes(chance.randbytes(900))
            case "zeros":
                path.write_bytes(bytes(900))
            case "other key":
                other = make_authority(NAMES, RELEASED_AT)
                path.write_bytes(key_pem(other.key) + content[content.index(b"-----BEGIN CERT") :])
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to("/dev/zero")
        after = made(files)
        assert after.leaf.fingerprint != before.leaf.fingerprint, damage
        assert ("was damaged" in after.notice) is (name == AUTHORITY_NAME), damage
        assert made(files).chain_pem == after.chain_pem, damage


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lan").write_text("in the way")
    with pytest.raises(CertificateError, match=r"^The certificate in .* cannot be kept: .*\.$"):
        made(CertificateFiles(tmp_path / "lan", released_at=RELEASED_AT))


def test_reading_changes_nothing(files: CertificateFiles, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="no certificate yet"):
        files.read()
    before = made(files)
    assert files.read().chain_pem == before.chain_pem
    (tmp_path / "lan" / LEAF_NAME).write_bytes(b"x")
    with pytest.raises(CertificateError, match="cannot be read"):
        files.read()
    assert (tmp_path / "lan" / LEAF_NAME).read_bytes() == b"x"


def phones(folder: Path, now_at: datetime = NOW_AT, *, enabled: bool = True) -> Check:
    config = msgspec.structs.replace(Config(), lan=LanConfig(enabled=enabled, folder=str(folder)))
    return check_phones(config, now_at, RELEASED_AT, words_from_bytes)


def test_doctor_says_for_whom_and_until_when(files: CertificateFiles, tmp_path: Path) -> None:
    both = made(files)
    check = phones(tmp_path / "lan")
    assert check.verdict == "ok"
    for part in (NAMES[0], *ADDRESSES, f"{both.ends_at:%Y-%m-%d}", words_from_bytes(both.authority.fingerprint[:12])):
        assert part in check.found


@pytest.mark.parametrize("now_at", [RELEASED_AT - DAY, NOW_AT + 526 * DAY])
def test_doctor_says_when_it_is_not_valid(files: CertificateFiles, tmp_path: Path, now_at: datetime) -> None:
    made(files)
    check = phones(tmp_path / "lan", now_at)
    assert (check.verdict, "Set the machine's date" in (check.action or "")) == ("problem", True)


def test_doctor_tells_what_is_not_there_and_makes_nothing(tmp_path: Path) -> None:
    assert phones(tmp_path / "lan").verdict == "warning"
    assert phones(tmp_path / "lan", enabled=False).verdict == "ok"
    assert not (tmp_path / "lan").exists()
