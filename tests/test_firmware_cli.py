"""The command line and flashing; avrdude itself writes to an imitation of the board's boot loader where installed."""

import os
import select
import shutil
import stat
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from firmware_bridge import flash as flash_module
from firmware_bridge.cli import cli
from firmware_bridge.codes import Board, OffReason
from firmware_bridge.errors import FlashError
from firmware_bridge.flash import FlashPlan, flash, hand_over, write_firmware
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import PtyServer

IMAGE = ":10000000" + "0C945C00" * 4 + "00"
PAGE_BYTES = 128


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(SimulatedDevice()) as running:
        yield running


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_ping_names_the_board_and_counts_answers(server: PtyServer) -> None:
    output = run("ping", "--port", server.path, "--count", "2")
    assert "board SIMULATOR firmware 1.0.0" in output
    assert output.count(" ms  up ") == 2


def test_monitor_shows_the_state(server: PtyServer) -> None:
    assert "state ready" in run("monitor", "--port", server.path, "--seconds", "1.5")


def test_simulate_prints_where_it_is() -> None:
    assert run("simulate", "--seconds", "0.1", "--noise", "0.1").startswith("/dev/")


def test_simulate_serves_a_socket(tmp_path: Path) -> None:
    assert run("simulate", "--seconds", "0.1", "--socket", str(tmp_path / "s")).strip() == str(tmp_path / "s")


def test_absent_device_is_one_sentence_and_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge", "flash", "--port", "/dev/none", "/nowhere.hex"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PATH": ""},
    )
    assert done.returncode == 69
    assert done.stderr == "avrdude is not installed: install the Debian package avrdude, then flash again.\n"


def test_hand_over_refuses_another_board(server: PtyServer) -> None:
    with pytest.raises(FlashError, match="board 3, not 2"):
        hand_over(server.path)


def test_hand_over_locks_the_light(server: PtyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_module, "Board", _SimulatorIsTheBoard)
    assert hand_over(server.path)
    assert server.device.state.updating_since_ms is not None
    assert server.device.state.light.off_reason in (OffReason.NEVER_ON, OffReason.UPDATE)


class _SimulatorIsTheBoard:
    ATMEGA328P = Board.SIMULATOR


def fake_avrdude(folder: Path, status: int) -> Path:
    script = folder / "avrdude"
    script.write_text(f'#!/bin/sh\necho "$@" > {folder}/arguments\necho "<b>from the device</b>" >&2\nexit {status}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder / "arguments"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    written = tmp_path / "firmware.hex"
    written.write_text(IMAGE)
    return written


def test_flash_calls_avrdude_and_checks_what_runs(
    server: PtyServer, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = fake_avrdude(image.parent, 0)
    monkeypatch.setenv("PATH", f"{image.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(flash_module, "Board", _SimulatorIsTheBoard)
    assert flash(FlashPlan(image=image, port=server.path)) == (1, 0, 0)
    assert arguments.read_text().split()[2:] == [
        *("-p", "atmega328p", "-c", "arduino", "-P", server.path, "-b", "115200", "-D", "-U", f"flash:w:{image}:i")
    ]


def test_failure_of_avrdude_is_our_sentence_not_its_output(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_avrdude(image.parent, 1)
    monkeypatch.setenv("PATH", f"{image.parent}:{os.environ['PATH']}")
    with pytest.raises(FlashError, match=r"^avrdude failed with status 1; the boot loader is intact, flash again\.$"):
        write_firmware(FlashPlan(image=image, port="/dev/none"))


def test_missing_image_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(FlashError, match="make -C firmware avr"):
        write_firmware(FlashPlan(image=tmp_path / "none.hex", port="/dev/none"))


class BootLoader:
    """Enough of STK500v1 (Atmel AVR061) for avrdude: signature, address, page write, page read; can lose power.

    It imitates the boot loader of an Arduino; it is not that program.
    """

    def __init__(self, cut_after_pages: int | None = None) -> None:
        self.flash = bytearray(b"\xff" * 32_768)
        self._cut_after_pages = cut_after_pages
        self._line, self._host_end = os.openpty()
        tty.setraw(self._host_end)
        self.path = os.ttyname(self._host_end)
        self._address = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        os.close(self._line)
        os.close(self._host_end)

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count and not self._stop.is_set():
            if select.select([self._line], [], [], 0.05)[0]:
                taken += os.read(self._line, count - len(taken))
        return taken

    def _run(self) -> None:
        while not self._stop.is_set():
            command = self._take(1)
            if command:
                self._obey(command)

    def _obey(self, command: bytes) -> None:
        actions: dict[bytes, Callable[[], bytes]] = {
            b"A": lambda: {0x81: b"\x08", 0x82: b"\x00"}.get(self._take(1)[0], b"\x03"),
            b"B": lambda: self._take(20)[:0],
            b"E": lambda: self._take(5)[:0],
            b"V": lambda: self._take(4)[:1],
            b"U": self._set_address,
            b"u": lambda: b"\x1e\x95\x0f",
            b"d": self._write_page,
            b"t": self._read_page,
        }
        answer = actions.get(command, lambda: b"")()
        if not self._stop.is_set():
            self._take(1)
            os.write(self._line, b"\x14" + answer + b"\x10")

    def _set_address(self) -> bytes:
        self._address = int.from_bytes(self._take(2), "little") * 2
        return b""

    def _write_page(self) -> bytes:
        size = int.from_bytes(self._take(2), "big")
        data = self._take(1 + size)[1:]
        if self._cut_after_pages == 0:
            data = data[: size // 2]
            self._stop.set()
        elif self._cut_after_pages is not None:
            self._cut_after_pages -= 1
        self.flash[self._address : self._address + len(data)] = data
        return b""

    def _read_page(self) -> bytes:
        size = int.from_bytes(self._take(2), "big")
        self._take(1)
        return bytes(self.flash[self._address : self._address + size])


def intel_hex(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        row = bytes([len(data[at : at + 16]), at >> 8, at & 0xFF, 0]) + data[at : at + 16]
        lines.append(":" + (row + bytes([-sum(row) & 0xFF])).hex().upper())
    return "\n".join([*lines, ":00000001FF", ""])


def test_avrdude_writes_and_verifies_the_image_and_again_after_a_cut(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("avrdude"):
        pytest.skip("needs the Debian package avrdude")
    data = bytes(index * 7 % 251 for index in range(4 * PAGE_BYTES))
    image = tmp_path / "firmware.hex"
    image.write_text(intel_hex(data))
    cut = BootLoader(cut_after_pages=seed % 4)
    with monkeypatch.context() as patch:
        # After the cut avrdude would go on asking for minutes.
        patch.setattr(flash_module, "AVRDUDE_TIMEOUT_S", 2.0)
        with pytest.raises(FlashError):
            write_firmware(FlashPlan(image=image, port=cut.path))
    torn = bytes(cut.flash)
    cut.close()
    assert torn[: len(data)] != data
    whole = BootLoader()
    whole.flash[:] = torn
    write_firmware(FlashPlan(image=image, port=whole.path))
    assert whole.flash[: len(data)] == data
    whole.close()
