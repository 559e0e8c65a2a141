"""The engine as a process: killed, restarted, stopped, refused its address, watched by systemd."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_engine import EngineProcess
from test_engine_client import GREEDY, first_piece, user, wait_until

from appliance.config import EngineConfig
from appliance.engine_address import EngineAddress
from appliance.errors import ConfigurationError, EngineUnavailableError
from appliance.host.notify import Notifier
from web.engine.command import bundle_path, engine_config, run_engine
from web.engine.listening import listening_socket

STOPS_WITHIN_S = 20.0
"""Less than systemd's 90, with room for a busy machine; it takes half a second, or five with a model that hangs."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sock"


def ready(process: EngineProcess) -> EngineProcess:
    wait_until(lambda: process.client.health().status == "ready")
    return process


def answer(process: EngineProcess) -> str:
    with process.client.generate(user("it answers again"), GREEDY) as stream:
        *_, generation = stream
    return str(getattr(generation, "text", None))


def test_killed_in_mid_answer_is_noticed_at_once_and_a_new_one_answers_on_the_same_socket(path: Path) -> None:
    with EngineProcess("--socket", str(path), "--stall-after", "1") as first:
        with ready(first).client.generate(user("a b c"), GREEDY) as stream:
            assert first_piece(stream).text == "a"
            first.signal(signal.SIGKILL)
            killed_at_s = time.monotonic()
            with pytest.raises(EngineUnavailableError, match="died before the answer was complete"):
                list(stream)
            assert time.monotonic() - killed_at_s < 1
        with pytest.raises(EngineUnavailableError, match="not running"):
            first.client.health()
        assert path.exists()
        with EngineProcess("--socket", str(path)) as second:
            assert answer(ready(second)) == "it answers again"


def test_killed_and_restarted_again_and_again_on_one_port() -> None:
    port = "0"
    for _ in range(3):
        with EngineProcess("--port", port, "--stall-after", "1") as process:
            port = str(process.address.port)
            with ready(process).client.generate(user("a b"), GREEDY) as stream:
                assert first_piece(stream).text == "a"
                process.kill()
                with pytest.raises(EngineUnavailableError):
                    list(stream)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_answer_and_the_process_with_status_0(path: Path, number: signal.Signals) -> None:
    with EngineProcess("--socket", str(path), "--stall-after", "2") as process:
        with ready(process).client.generate(user("a b c d"), GREEDY) as stream:
            assert first_piece(stream).text == "a"
            process.signal(number)
            *_, generation = stream
            assert getattr(generation, "finish_reason", None) == "cancelled"
        assert process.terminate(STOPS_WITHIN_S) == 0
        assert process.stderr == ""
    assert not path.exists()


def test_a_stop_signal_ends_even_a_model_that_hangs(path: Path) -> None:
    with (
        EngineProcess("--socket", str(path), "--stall-after", "1", "--deaf") as process,
        ready(process).client.generate(user("a b"), GREEDY) as stream,
    ):
        assert first_piece(stream).text == "a"
        assert process.terminate(STOPS_WITHIN_S) == 0
        with pytest.raises(EngineUnavailableError):
            list(stream)
    assert not path.exists()


def test_a_failed_bundle_is_said_over_http_until_the_process_is_stopped(path: Path) -> None:
    with EngineProcess("--socket", str(path), "--fail", "There is no model bundle at /x.") as process:
        wait_until(lambda: process.client.health().status == "failed")
        assert process.client.health().error == "There is no model bundle at /x."
        with pytest.raises(EngineUnavailableError, match="There is no model bundle at /x"):
            process.client.generate(user("a"), GREEDY)
        assert process.terminate(STOPS_WITHIN_S) == 0


def test_the_socket_is_for_owner_and_group_only(path: Path) -> None:
    with EngineProcess("--socket", str(path)):
        status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660


def test_a_socket_that_somebody_answers_on_is_left_alone(path: Path) -> None:
    with EngineProcess("--socket", str(path)) as first:
        with pytest.raises(ConfigurationError, match="another process answers there"):
            listening_socket(EngineAddress(socket=str(path)))
        assert answer(ready(first)) == "it answers again"


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("records")
    with pytest.raises(ConfigurationError, match="a file that is not a socket is there"):
        listening_socket(EngineAddress(socket=str(path)))
    assert path.read_text() == "records"


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        listening_socket(EngineAddress(socket=str(tmp_path / "none" / "engine.sock")))


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ConfigurationError, match="in use"):
        listening_socket(EngineAddress(port=server.getsockname()[1]))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "::"], "loopback only"),
        (["--host", "192.168.1.5"], "loopback only"),
        (["--port", "70000"], "port"),
        (["--socket", "/tmp/e", "--port", "80"], "not on both"),
        (["--threads", "0"], "threads"),
        (["--context-length", "3"], "context_length"),
    ],
)
def test_the_real_command_refuses_what_it_must_not_do(flags: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "appliance", "engine", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_flags_go_before_the_settings() -> None:
    settings = EngineConfig(socket="/run/e.sock", bundle="/models/m", threads=2)
    assert engine_config(settings, {"port": 9}).socket is None
    assert engine_config(settings, {"threads": 3}) == EngineConfig(socket="/run/e.sock", bundle="/models/m", threads=3)
    assert str(bundle_path(settings)) == "/models/m"
    assert bundle_path(EngineConfig()).parts[-3:] == ("appliance", "demo", "bundle")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(10)
        yield receiver


def test_systemd_hears_ready_then_the_models_state_then_stopping(systemd: socket.socket, path: Path) -> None:
    environment = {**os.environ, "NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "100000"}
    script = Path(__file__).with_name("scripted_engine.py")
    with subprocess.Popen(
        [sys.executable, script, "--socket", str(path)], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        heard = [systemd.recv(4096).decode() for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard.append(systemd.recv(4096).decode())
    assert "READY=1\nSTATUS=loading the model" in heard
    assert "STATUS=the model is ready" in heard
    assert "WATCHDOG=1" in heard
    assert process.returncode == 0


class CountingNotifier(Notifier):
    """Counts what systemd would hear."""

    def __init__(self) -> None:
        super().__init__(None, watchdog_interval_s=0.01)
        self.pings = threading.Semaphore(0)

    def watchdog(self) -> None:
        self.pings.release()


def test_the_watchdog_falls_silent_when_the_model_hangs() -> None:
    from scripted_engine import ScriptedModel

    from web.engine.command import _watch
    from web.engine.job_queue import STALL_GRACE_S
    from web.engine.jobs import AnswerJob
    from web.engine.limits import EngineLimits
    from web.engine.model_host import ModelHost
    from web.engine.service import EngineService

    model, limits = ScriptedModel(), EngineLimits(deadline_s=120)
    service = EngineService(ModelHost(lambda: model), limits)
    now_s = [1000.0]
    service.queue._clock = lambda: now_s[0]
    notifier, done = CountingNotifier(), threading.Event()
    watchdog = threading.Thread(target=_watch, args=(service, notifier, done))
    service.start()
    model.hold()
    service.queue.submit(AnswerJob("a", model, user("a b"), GREEDY, 2))
    wait_until(lambda: model.running == 1)
    watchdog.start()
    try:
        now_s[0] += 120 + STALL_GRACE_S - 1
        assert notifier.pings.acquire(timeout=5)
        assert service.health().status == "ready"
        now_s[0] += 2
        assert service.health().status == "failed"
        assert "stuck for 151 s" in str(service.health().error)
        wait_until(lambda: _falls_silent(notifier))
        model.let_go()
        assert notifier.pings.acquire(timeout=5)
        assert service.health().status == "ready"
    finally:
        done.set()
        watchdog.join()
        assert service.close()


def _falls_silent(notifier: CountingNotifier) -> bool:
    while notifier.pings.acquire(blocking=False):
        pass
    return not notifier.pings.acquire(timeout=0.1)


def test_run_engine_refuses_before_it_loads() -> None:
    def load() -> None:
        raise AssertionError("loaded")

    with pytest.raises(ConfigurationError):
        run_engine(EngineConfig(host="10.0.0.1"), load, Notifier(None))  # type: ignore[arg-type] # never called
