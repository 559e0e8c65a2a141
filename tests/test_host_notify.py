"""What systemd hears, read from a real datagram socket."""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.host.notify import STATUS_MAX_BYTES, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end that systemd would hold."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(2)
        yield receiver


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})


def test_ready_and_its_status_come_in_one_datagram(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("answers on 8080")
    assert manager.recv(4096) == b"READY=1\nSTATUS=answers on 8080"


def test_the_other_assignments_are_those_of_the_manual_page(manager: socket.socket, notifier: Notifier) -> None:
    notifier.watchdog()
    notifier.status("loading")
    notifier.stopping()
    assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1", b"STATUS=loading", b"STOPPING=1"]


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd-notify is not installed")
def test_ready_says_what_systemd_notify_says(manager: socket.socket, notifier: Notifier) -> None:
    subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=up"],
        check=True,
        env={"NOTIFY_SOCKET": manager.getsockname(), "PATH": os.environ["PATH"]},
    )
    theirs = manager.recv(4096).strip()
    notifier.ready("up")
    assert sorted(manager.recv(4096).split(b"\n")) == sorted(theirs.split(b"\n"))


@pytest.mark.parametrize("text", ["a\nWATCHDOG=1", "a\r\n\0b", "a\u2028b"])
def test_a_status_cannot_smuggle_an_assignment(manager: socket.socket, notifier: Notifier, text: str) -> None:
    notifier.status(text)
    received = manager.recv(4096)
    assert received.startswith(b"STATUS=a ")
    assert len(received.decode().splitlines()) == 1


def test_a_long_status_is_cut_at_a_character(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("x" + "é" * STATUS_MAX_BYTES)
    text = manager.recv(4096).decode().removeprefix("STATUS=")
    assert text == "x" + "é" * (len(text) - 1)
    assert len(text.encode()) in {STATUS_MAX_BYTES, STATUS_MAX_BYTES - 1}


def test_an_abstract_socket_is_reached() -> None:
    name = f"dermstation-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(2)
        Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).watchdog()
        assert receiver.recv(4096) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("up")
    notifier.watchdog()
    assert notifier.watchdog_interval_s is None
    assert caplog.records == []


def test_a_manager_that_went_away_is_logged_not_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier(str(tmp_path / "gone")).watchdog()
    assert "notify failed: assignment=WATCHDOG=1" in caplog.text


def test_the_environment_is_read_when_asked(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    Notifier.from_environment().stopping()
    assert manager.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_systemd_waits(environ: dict[str, str], interval_s: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog_interval_s == interval_s
