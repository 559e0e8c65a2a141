"""`serve` and `demo` as processes: one line with the address, an orderly end, an engine that is started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from kiosk_process import announced
from kiosk_station import picture_folder
from scripted_engine import EngineProcess

from appliance.demo import bundle_path
from appliance.errors import ConfigurationError
from web.demo import free_port
from web.serve import listen

START_S = 60.0
"""A demonstration's engine loads its bundle; only a failing test waits so long."""
END_S = 15.0
LOOKS_EVERY_S = 2.0
"""Longer than the station waits between two looks at its engine."""


def running(*arguments: str) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """Start a command of ours; gives the process and the address it prints."""
    return announced([sys.executable, "-m", "appliance", *arguments], ending=signal.SIGINT)


def state_of(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/state", timeout=5) as answer:  # noqa: S310 - it is ours
        state: dict[str, Any] = json.load(answer)
        return state


def wait_for_model(url: str, *states: str) -> dict[str, Any]:
    """Ask until the model is in one of the states: another process changes it, and tells nobody else."""
    ends_s = time.monotonic() + START_S
    while (answer := state_of(url))["model"]["state"] not in states:
        assert time.monotonic() < ends_s, answer
        time.sleep(0.1)
    return answer


def wait_for_another_engine(pid: int, killed: int) -> int:
    """Return the process id of the engine that a demonstration starts in place of a killed one."""
    ends_s = time.monotonic() + START_S
    while (children := [child for child in children_of(pid) if child != killed]) == []:
        assert time.monotonic() < ends_s, "no engine was started in place of the killed one"
        time.sleep(0.05)
    (engine,) = children
    return engine


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        if thread.name != str(pid)
        for child in (thread / "children").read_text().split()
    ]


def test_serve_works_without_an_engine_and_finds_one_later(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    address = f"unix:{tmp_path / 'engine.sock'}"
    shown = str(picture_folder(pictures))
    arguments = ("serve", "--no-records", "--port", "0", "--engine", address, "--pictures", shown)
    with running(*arguments) as (process, url):
        assert state_of(url)["camera"]["state"] == "ready"
        with EngineProcess("--socket", str(tmp_path / "engine.sock")):
            assert wait_for_model(url, "ready")["model"]["warning"] == "Scripted: not a model."
        assert wait_for_model(url, "off")["model"]["words"] == "Model is off: photos still work"
        process.terminate()
        assert process.wait(END_S) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--engine", "http://192.0.2.1:80"), "loopback only"),
        (("--pictures", "/nowhere"), "cannot be read"),
        (("--port", "70000"), "flags are refused"),
        (("--host", "0.0.0.0"), "stay on the box"),  # noqa: S104 - what it refuses
    ],
)
def test_serve_refuses_in_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "appliance", "serve", "--no-records", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert result.returncode != 0
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


WITHOUT_RECORDS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cryptography", "argon2"}:
            raise ImportError(name, name=name)
sys.meta_path.insert(0, Absent())
from appliance.cli import main
main()
"""


def test_station_without_the_extra_records_still_serves(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shown = str(picture_folder(pictures))
    command = [sys.executable, "-c", WITHOUT_RECORDS, "serve", "--port", "0", "--pictures", shown]
    with announced(command) as (_, url), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - it is ours
        assert "Nothing is stored" in answer.read().decode()


def test_port_that_is_taken_is_refused_and_the_demonstration_takes_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)
        with pytest.raises(ConfigurationError):
            free_port(port)
    assert free_port(None) >= 8080


@pytest.mark.skipif(not (bundle_path() / "bundle.json").exists(), reason="the demonstration bundle is not built")
def test_demo_answers_again_after_its_engine_was_killed_and_leaves_nothing_behind() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running("demo", "--port", str(port)) as (process, url):
        assert url == f"http://127.0.0.1:{port}"
        assert "demonstration model" in wait_for_model(url, "ready")["model"]["warning"]
        (engine,) = children_of(process.pid)
        os.kill(engine, signal.SIGKILL)
        engine = wait_for_another_engine(process.pid, engine)
        assert state_of(url)["camera"]["state"] == "ready"
        # The station looks at its engine once a second: it may look before it is gone, and then when it is back.
        time.sleep(LOOKS_EVERY_S)
        wait_for_model(url, "ready")
        assert children_of(process.pid) == [engine]
        process.send_signal(signal.SIGHUP)
        assert process.wait(END_S) == 0
    assert not Path(f"/proc/{engine}").exists()


@pytest.mark.skipif(not (bundle_path() / "bundle.json").exists(), reason="the demonstration bundle is not built")
def test_engine_ends_with_a_demonstration_that_was_killed() -> None:
    with running("demo", "--port", str(free_port(None))) as (process, url):
        wait_for_model(url, "ready")
        (engine,) = children_of(process.pid)
        process.kill()
        process.wait(END_S)
        ends_s = time.monotonic() + END_S
        while Path(f"/proc/{engine}").exists():
            assert time.monotonic() < ends_s
            time.sleep(0.05)
