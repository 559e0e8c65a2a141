"""Whoever takes over the process that faces the network gets neither records nor keys, and reaches nobody.

A front with a planted hole runs Python that comes in over TLS. Each layer is tried alone: its own shutting in, and its
own user; without both, everything is reached.
"""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rig import netns
from test_web_lan_front import GET, NAME, QUICK, READ_S, all_of, settings_of

from appliance.host.certificate_files import CertificateFiles, Certificates
from appliance.records.dating import RELEASED_AT
from web.lan.front_process import FrontProcess
from web.lan.passing import pass_connection, passed_connections
from web.listening import tcp_listener

HOLE = str(Path(netns.__file__).with_name("front_with_hole.py"))
NOBODY = 65534
SECRET = b"the box's secret"

ATTEMPTS = """
import ctypes, mmap, os, socket
library = ctypes.CDLL(None, use_errno=True)
secret, folder, victim, kiosk, engine, address = {facts!r}

def certain(is_done):
    if not is_done:
        raise OSError

def vector(pointer, size):
    return (ctypes.c_void_p * 2)(ctypes.cast(pointer, ctypes.c_void_p), size)

def read_victim():
    buffer = ctypes.create_string_buffer(4)
    mine, theirs = vector(buffer, 4), (ctypes.c_void_p * 2)(address, 4)
    certain(library.process_vm_readv(victim, mine, 1, theirs, 1, 0) == 4)

def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)

attempts = {{
    "read": lambda: open(secret, "rb").read(),
    "list": lambda: os.listdir(folder),
    "write": lambda: open(folder + "/planted", "w"),
    "rename": lambda: os.rename(folder + "/record", folder + "/renamed"),
    "memory": lambda: open(f"/proc/{{victim}}/mem", "rb"),
    "look into": read_victim,
    "trace": lambda: certain(library.ptrace(0x4206, victim, None, None) == 0),  # PTRACE_SEIZE
    "signal": lambda: os.kill(victim, 0),
    "fork": fork,
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "kiosk": lambda: socket.socket().connect(("127.0.0.1", kiosk)),
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", kiosk)),
    "engine": lambda: socket.socket(socket.AF_UNIX).connect(engine),
    "exec": lambda: certain(os.spawnv(os.P_WAIT, "/bin/true", ["true"]) == 0),
}}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    done.append(name)
answer = ",".join(done)
"""
FAST_OPEN = """
import socket
for number in range(3, 60):
    try:
        one = socket.socket(fileno=number)
    except OSError:
        continue
    if one.family == socket.AF_INET and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        try:
            # What was a listener is a closed socket now, and sending on that with this flag connects it.
            one.shutdown(socket.SHUT_RDWR)
            one.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", {kiosk}))
        except OSError:
            pass
    one.detach()
answer = "tried"
"""
IN_REACH_OF_ANOTHER_USER = {"fork", "code", "kiosk", "datagram", "exec"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    files = CertificateFiles(tmp_path_factory.mktemp("certificates"), released_at=RELEASED_AT)
    return files.ensure((NAME,), (), max(datetime.now(UTC), RELEASED_AT))


@contextmanager
def started(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


class Box:
    """A front with a hole, and what there is to take: records, the screens' port, the engine's socket, a process."""

    def __init__(self, folder: Path, made: Certificates, *how: str) -> None:
        self._made, self._how = made, how
        # As systemd/tmpfiles.d makes it; pytest's own folders are closed to other users.
        self.meeting = folder / "meeting"
        self.meeting.mkdir()
        shutil.chown(self.meeting, 0, NOBODY)
        self.meeting.chmod(0o2750)
        self.records = folder / "records"
        self.records.mkdir(mode=0o700)
        self.secret = self.records / "box-secret"
        self.secret.write_bytes(SECRET)
        (self.records / "record").touch()
        folder.chmod(0o755)

    @contextmanager
    def running(self) -> Iterator[None]:
        passed, upstream = passed_connections()
        path = self.meeting / "front.sock"
        self.kiosk, engine = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        self.engine = self.records / "engine.sock"
        engine.bind(str(self.engine))
        engine.listen()
        with passed, upstream, self.kiosk, engine, tcp_listener("127.0.0.1", 0) as listener:
            self.port = listener.getsockname()[1]
            front = FrontProcess([listener], upstream, settings_of(self._made, QUICK), path)
            # The front ends first: a process that it traces is not gone before.
            with front, started("sleep", "600") as self.victim, started(sys.executable, HOLE, str(path), *self._how):
                assert front.wait_ready(30)
                assert front.pid is not None
                self.pid = front.pid
                yield

    def hole(self, code: str) -> str:
        """Have Python run inside the front, over TLS; returns its answer."""
        client = ssl.create_default_context(cadata=self._made.authority_der)
        head = f"POST /hole HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {len(code)}\r\n\r\n"
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=READ_S) as plain,
            client.wrap_socket(plain, server_hostname=NAME) as secure,
        ):
            secure.sendall(head.encode() + code.encode())
            answer = all_of(secure)
        assert answer.startswith(b"HTTP/1.1 418"), answer
        return answer.partition(b"\r\n\r\n")[2].decode().strip()

    def reached(self) -> set[str]:
        """Everything that was reached from inside."""
        start = int(Path(f"/proc/{self.victim.pid}/maps").read_text().split("-", 1)[0], 16)
        port = self.kiosk.getsockname()[1]
        facts = (str(self.secret), str(self.records), self.victim.pid, port, str(self.engine), start)
        reached = set(self.hole(ATTEMPTS.format(facts=facts)).split(",")) - {""}
        self.kiosk.settimeout(0.2)
        if "kiosk" in reached:
            self.kiosk.accept()[0].close()
        assert self.hole(FAST_OPEN.format(kiosk=port)) == "tried"
        try:
            self.kiosk.accept()[0].close()
        except TimeoutError:
            return reached
        return reached | {"fast open"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_front_that_was_taken_over_reaches_nothing(folder: Path, made: Certificates) -> None:
    box = Box(folder, made, "shut")
    with box.running():
        status = Path(f"/proc/{box.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert box.reached() == set()
    assert box.secret.read_bytes() == SECRET
    assert not (box.records / "planted").exists()


def test_its_own_user_alone_keeps_it_from_records_processes_and_the_engine(folder: Path, made: Certificates) -> None:
    box = Box(folder, made, "free", str(NOBODY))
    with box.running():
        reached = box.reached()
    assert not reached & {"read", "list", "write", "rename", "memory", "look into", "trace", "signal", "engine"}
    assert reached >= IN_REACH_OF_ANOTHER_USER


def test_control_a_front_that_is_not_shut_in_reaches_everything(folder: Path, made: Certificates) -> None:
    box = Box(folder, made, "free")
    with box.running():
        reached = box.reached()
    assert reached >= IN_REACH_OF_ANOTHER_USER | {
        *("read", "list", "write", "rename", "memory", "look into", "trace", "signal", "engine", "fast open"),
    }


def test_what_a_front_that_was_taken_over_passes_on_instead_of_a_connection_is_refused(tmp_path: Path) -> None:
    passed, upstream = passed_connections()
    with passed, upstream, (tmp_path / "file").open("w") as file, socket.create_server(("127.0.0.1", 0)) as listener:
        passed.setblocking(False)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with near, far:
            for other in (file, listener, far):
                socket.send_fds(upstream, [b"c"], [other.fileno()])
                with pytest.raises(OSError, match=r"socket|connection"):
                    passed.accept()
        upstream.send(b"c")
        with pytest.raises(BlockingIOError):
            passed.accept()
        before = len(list(Path("/proc/self/fd").iterdir()))
        socket.send_fds(upstream, [b"c"], [file.fileno()] * 4)
        with pytest.raises(OSError, match="socket"):
            passed.accept()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        # And a real one still comes through.
        with pass_connection(upstream) as mine, passed.accept()[0] as theirs:
            mine.sendall(GET)
            assert theirs.recv(4096) == GET
