"""The front process over real sockets: what it cuts off, refuses, hides and passes on; and how it counts."""

import hashlib
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask, Response, request
from kiosk_station import until

from appliance.host.certificate_files import CertificateFiles, Certificates
from appliance.host.certificates import key_pem
from appliance.records.dating import RELEASED_AT
from web.lan.control import Settings
from web.lan.front_process import FrontProcess
from web.lan.limits import Bucket, Counts, Limits, network_of
from web.lan.passing import passed_connections
from web.listening import tcp_listener
from web.server import HttpServer

NAME = "dermstation.local"
QUICK = Limits(
    handshake_s=0.5, header_s=0.5, idle_s=0.6, body_s=0.7, answer_s=2.0, slot_wait_s=0.5, answering_each=8,
    handshakes_each_per_s=1e4, handshakes_each_burst=1e4, requests_each_per_s=1e4, requests_each_burst=1e4,
    requests_per_s=1e4, requests_burst=1e4,
)  # fmt: skip
READ_S = 15.0
"""Longer than every limit above: whoever reads so long was not cut off."""


@dataclass(kw_only=True)
class Fronted:
    """A front before a small application."""

    port: int
    tls: ssl.SSLContext
    front: FrontProcess
    server: HttpServer
    seen: list[dict[str, str]]
    is_asked: threading.Event
    busy: threading.Event

    @contextmanager
    def connected(self, *, is_tls: bool = True, tls: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=READ_S) as plain:
            if not is_tls:
                yield plain
                return
            with (tls or self.tls).wrap_socket(plain, server_hostname=NAME) as secure:
                yield secure

    def says(self, content: bytes, *, is_tls: bool = True) -> bytes:
        """Everything that the box answers until it closes."""
        with self.connected(is_tls=is_tls) as connection:
            connection.sendall(content)
            return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    content = b""
    try:
        while received := connection.recv(65536):
            content += received
    except (ConnectionError, ssl.SSLError):
        pass  # cut off is an end too; a TimeoutError is none
    return content


def until_fine(connection: socket.socket) -> bool:
    """Read one answer of `echo` and leave the connection open."""
    content = b""
    while not content.endswith(b"fine") and (received := connection.recv(65536)):
        content += received
    return content.endswith(b"fine")


def application(seen: list[dict[str, str]], is_asked: threading.Event, busy: threading.Event) -> Flask:
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST", "HEAD"])
    def echo() -> Response:
        seen.append({**dict(request.headers), "scheme": request.scheme, "body": request.get_data(as_text=True)})
        answer = Response("fine")
        answer.headers["X-Dermstation-Device"] = "d" * 32
        return answer

    @app.get("/long")
    def long() -> str:
        is_asked.set()
        busy.wait(READ_S)
        return "late"

    @app.get("/large")
    def large() -> Response:
        return Response(bytes(8 << 20), mimetype="application/octet-stream")

    return app


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    files = CertificateFiles(tmp_path_factory.mktemp("certificates"), released_at=RELEASED_AT)
    return files.ensure((NAME,), (), max(datetime.now(UTC), RELEASED_AT))


def settings_of(made: Certificates, limits: Limits) -> Settings:
    return Settings(
        chain_pem=made.chain_pem.decode(),
        key_pem=key_pem(made.leaf.key).decode(),
        authority_der=made.authority_der,
        guide_html="<p>guide</p>",
        limits=limits,
    )


@contextmanager
def fronted(made: Certificates, limits: Limits) -> Iterator[Fronted]:
    seen: list[dict[str, str]] = []
    is_asked, busy = threading.Event(), threading.Event()
    with ExitStack() as stack:
        passed, upstream = passed_connections()
        stack.callback(upstream.close)
        server = HttpServer(
            application(seen, is_asked, busy), passed, threads=4, max_body_bytes=1 << 20, is_behind_tls=True
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        stack.callback(server.close)
        stack.callback(thread.join, 10)
        stack.callback(server.stop)
        stack.callback(busy.set)
        listener = stack.enter_context(tcp_listener("127.0.0.1", 0))
        front = stack.enter_context(FrontProcess([listener], upstream, settings_of(made, limits), None))
        assert front.wait_ready(30)
        yield Fronted(
            port=listener.getsockname()[1],
            tls=ssl.create_default_context(cadata=made.authority_der),
            front=front,
            server=server,
            seen=seen,
            is_asked=is_asked,
            busy=busy,
        )


@pytest.fixture(scope="module")
def quick(made: Certificates) -> Iterator[Fronted]:
    with fronted(made, QUICK) as one:
        yield one


GET = b"GET / HTTP/1.1\r\nHost: dermstation.local\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: dermstation.local\r\n"


def test_a_request_is_passed_on_with_who_asks_and_nothing_that_anybody_claims(quick: Fronted) -> None:
    claims = (
        b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n"
        b"X-Dermstation-Peer: 1.2.3.4\r\nX_Dermstation_Peer: 1.2.3.4\r\nx-dermstation-device: x\r\nVia: x\r\n"
        b"Proxy-Connection: x\r\nUpgrade: h2c\r\nX-Mine: kept\r\n"
    )
    assert b"200 OK" in quick.says(GET[:-2] + claims + b"\r\n")
    got = quick.seen[-1]
    assert (got["X-Dermstation-Peer"], got["X-Mine"], got["scheme"]) == ("127.0.0.1", "kept", "https")
    assert not {"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via", "Upgrade", "X-Dermstation-Device"} & set(got)


def test_the_stations_own_headers_do_not_leave_the_box(quick: Fronted) -> None:
    assert b"x-dermstation" not in quick.says(GET).lower()


def test_one_connection_carries_several_requests_and_bodies(quick: Fronted) -> None:
    post = POST + b"Content-Length: 4\r\n\r\nbody"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nch\r\n3\r\nunk\r\n0\r\n\r\n"
    before = len(quick.seen)
    assert quick.says(post + chunked + GET).count(b"200 OK") == 3
    assert [one["body"] for one in quick.seen[before:]] == ["body", "chunk", ""]


def test_a_head_request_gets_no_body(quick: Fronted) -> None:
    answer = quick.says(GET.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


def test_a_large_answer_comes_whole(quick: Fronted) -> None:
    answer = quick.says(GET.replace(b"GET / ", b"GET /large "))
    assert len(answer.partition(b"\r\n\r\n")[2]) == 8 << 20


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (POST + b"Content-Length: 10000000000\r\n\r\n", b"413"),
        (POST + b"Content-Length: 65537\r\n\r\n" + bytes(65_537), b"413"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + bytes(4096) + b"\r\n", b"408"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", b"400"),
        (POST + b"Content-Length: -5\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"\x00\x01\x02\x03 garbage \r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nHost: a\n\n\x80", b""),
    ],
)
def test_what_is_no_request_for_us_is_refused_in_one_sentence(quick: Fronted, content: bytes, status: bytes) -> None:
    before = len(quick.seen)
    answer = quick.says(content)
    if status:
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert answer.partition(b"\r\n\r\n")[2].count(b"\n") == 1
        assert len(quick.seen) == before


def test_a_chunked_body_without_end_stops_at_the_limit(quick: Fronted) -> None:
    with quick.connected() as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(64):
                connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
        except (ConnectionError, ssl.SSLError):
            return
        assert b" 413 " in all_of(connection)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        POST + b"Content-Length: 60000\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_tls", [True, False])
def test_whoever_dribbles_is_cut_off(quick: Fronted, start: bytes, *, is_tls: bool) -> None:
    with quick.connected(is_tls=is_tls) as connection:
        connection.settimeout(0.1)
        connection.sendall(start)
        deadline_s = time.monotonic() + READ_S
        while time.monotonic() < deadline_s:
            try:
                if start:
                    connection.sendall(b"1")
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue
            except (ConnectionError, ssl.SSLError):
                return
    pytest.fail("it was not cut off")


def test_a_half_open_handshake_is_cut_off(quick: Fronted) -> None:
    for content in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
        assert quick.says(content, is_tls=False)[:4] in {b"", b"HTTP"}


def test_between_requests_a_connection_may_rest_and_then_ends(quick: Fronted) -> None:
    with quick.connected() as connection:
        connection.sendall(GET.replace(b"Connection: close\r\n", b""))
        assert b"fine" in all_of(connection)


def test_without_tls_there_is_the_guide_and_the_authority(quick: Fronted, made: Certificates) -> None:
    page = quick.says(b"GET / HTTP/1.1\r\nHost: anything\r\n\r\n", is_tls=False)
    assert b"200 OK" in page
    assert b"<p>guide</p>" in page
    authority = quick.says(b"GET /ca.crt HTTP/1.1\r\nHost: anything\r\n\r\n", is_tls=False)
    assert authority.partition(b"\r\n\r\n")[2] == made.authority_der
    assert b"application/x-x509-ca-cert" in authority


@pytest.mark.parametrize("target", [b"GET /pair", b"GET /visits/1", b"POST /", b"GET /../etc/passwd", b"GET /ca.crt/x"])
def test_without_tls_there_is_nothing_else(quick: Fronted, target: bytes) -> None:
    before = len(quick.seen)
    answer = quick.says(target + b" HTTP/1.1\r\nHost: a\r\nCookie: __Host-device=x\r\n\r\n", is_tls=False)
    assert answer[9:12] in {b"403", b"404"}
    assert b"BEGIN" not in answer
    assert len(quick.seen) == before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today_is_spoken(quick: Fronted, made: Certificates, version: ssl.TLSVersion) -> None:
    client = ssl.create_default_context(cadata=made.authority_der)
    client.minimum_version = client.maximum_version = version
    with quick.connected(tls=client) as connection:
        connection.sendall(GET)
        assert b"fine" in all_of(connection)


def test_tls_of_yesterday_is_not(quick: Fronted, made: Certificates) -> None:
    client = ssl.create_default_context(cadata=made.authority_der)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), quick.connected(tls=client):
        pass


def test_hostile_bytes_leave_it_standing(quick: Fronted, seed: int) -> None:
    chance, first = random.Random(seed), quick.front.pid
    for _ in range(60):
        content = bytearray(GET * 3)
        for _ in range(chance.randrange(1, 30)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        with quick.connected(is_tls=chance.random() < 0.7) as connection:
            connection.sendall(bytes(content))
    assert b"fine" in quick.says(GET)
    assert quick.front.pid == first


def test_over_its_share_an_address_is_told_to_wait(made: Certificates) -> None:
    with fronted(made, replace(QUICK, requests_each_per_s=0.001, requests_each_burst=3)) as one:
        answers = [one.says(GET)[9:12] for _ in range(5)]
    assert answers == [b"200"] * 3 + [b"429"] * 2


def test_over_its_connections_an_address_is_shut_out_and_let_in_again(made: Certificates) -> None:
    with fronted(made, replace(QUICK, connections_each=2, handshake_s=60.0)) as one:
        held = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(2)]
        with pytest.raises((ConnectionError, ssl.SSLError)):
            one.says(GET)
        for connection in held:
            connection.close()

        def is_in() -> bool:
            try:
                return b"fine" in one.says(GET)
            except (ConnectionError, ssl.SSLError):
                return False

        until(is_in)


def test_a_connection_that_rests_gives_way_and_one_that_asks_does_not(made: Certificates) -> None:
    limits = replace(QUICK, connections=3, idle_s=READ_S, header_s=READ_S, handshake_s=READ_S)
    kept_alive = GET.replace(b"Connection: close\r\n", b"")
    with fronted(made, limits) as one, ExitStack() as stack:
        slow, first, second = (stack.enter_context(one.connected()) for _ in range(3))
        slow.sendall(b"GET / HTTP/1.1\r\n")
        for connection in (first, second):
            connection.sendall(kept_alive)
            assert until_fine(connection)
        assert b"fine" in one.says(GET)
        # The one that rested longest was ended; the others go on.
        assert all_of(first) == b""
        for connection, rest in ((second, kept_alive), (slow, kept_alive.partition(b"\r\n")[2])):
            connection.sendall(rest)
            assert until_fine(connection)


def test_control_connections_that_never_asked_keep_their_places(made: Certificates) -> None:
    limits = replace(QUICK, connections=3, idle_s=READ_S, header_s=READ_S, handshake_s=READ_S)
    with fronted(made, limits) as one, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(one.connected()).sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            one.says(GET)


def test_a_station_that_is_busy_is_no_fault_of_the_boxs(made: Certificates) -> None:
    with fronted(made, replace(QUICK, answering=1, answer_s=READ_S)) as one, one.connected() as first:
        first.sendall(GET.replace(b"GET / ", b"GET /long "))
        until(lambda: b" 429 " in one.says(GET))
        one.busy.set()
        assert b"late" in all_of(first)
        assert b"fine" in one.says(GET)


def test_a_station_that_is_away_is_one_sentence(made: Certificates) -> None:
    with fronted(made, QUICK) as one:
        one.server.stop()
        answer = one.says(GET)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Try again in a moment." in answer


def certificate_shown(one: Fronted) -> bytes:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with one.connected(tls=client) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest()


def test_a_new_certificate_is_shown_and_nobody_is_refused_meanwhile(tmp_path: Path, made: Certificates) -> None:
    files = CertificateFiles(tmp_path / "other", released_at=RELEASED_AT)
    other = files.ensure((NAME,), (), made.leaf.certificate.not_valid_after_utc.replace(year=2026, month=11, day=20))
    with fronted(made, replace(QUICK, answer_s=READ_S)) as one, one.connected() as first:
        before = one.front.pid
        first.sendall(GET.replace(b"GET / ", b"GET /long "))
        until(one.is_asked.is_set)
        one.front.update(settings_of(other, QUICK))
        threading.Timer(0.3, one.busy.set).start()
        # Who comes while one front leaves and the next one starts waits: nobody is refused.
        shown = [certificate_shown(one)]
        while shown[-1] != other.leaf.fingerprint:
            shown.append(certificate_shown(one))
        assert set(shown) <= {made.leaf.fingerprint, other.leaf.fingerprint}
        assert b"late" in all_of(first)
        assert one.front.pid not in {before, None}


def test_a_front_that_was_killed_is_followed_by_another(made: Certificates) -> None:
    with fronted(made, QUICK) as one:
        before = one.front.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        until(lambda: one.front.pid not in {before, None})
        assert b"fine" in one.says(GET)


def test_the_front_gives_way_to_the_station_and_ends_with_it(made: Certificates) -> None:
    with fronted(made, QUICK) as one:
        pid = one.front.pid
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(2.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(at_s) for at_s in (0.4, 0.5, 0.6, 1.0)] == [False, True, False, True]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(50.0)  # a clock that went back gives nothing


def test_counts_hold_for_one_address_and_for_all() -> None:
    limits = Limits(connections=5, connections_each=2)
    counts = Counts(limits=limits, now_s=0.0)
    opened = [counts.open(address, 0.0) for address in ("a", "a", "a", "b", "c", "d", "e")]
    assert opened == [True, True, False, True, True, True, False]
    counts.close("a", 0.0)
    assert counts.open("e", 0.0)
    assert not counts.open("f", 0.0)


def test_addresses_are_forgotten_but_not_those_that_have_something_open() -> None:
    counts = Counts(limits=Limits(connections=10), now_s=0.0)
    assert counts.open("10.0.0.1", 0.0)
    for number in range(10_000):
        address = f"10.1.{number >> 8}.{number & 255}"
        assert counts.request(address, 1.0 + number)
        counts.answered(address, 1.0 + number)
    assert len(counts._addresses) <= 4096
    assert "10.0.0.1" in counts._addresses
    counts.close("10.0.0.1", 0.0)
    assert counts.connections == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fd00::1:2:3:4", "fd00::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_counts_with_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
