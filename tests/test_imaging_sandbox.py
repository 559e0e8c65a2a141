"""The decoding process: it can do nothing but decode, and whatever becomes of it the caller gets a sentence."""

import contextlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_images import hostile_files
from PIL import Image

from appliance.errors import ImageError
from appliance.imaging import worker
from appliance.imaging.pixels import pixels_from_bytes
from appliance.imaging.sandbox import START_S, Sandbox

HOSTILE_FILES = 3_000
HOSTILE_FILES_SLOW = 100_000
WORKER_MAX_MIB = 400
PARENT_GROWTH_MAX_MIB = 20
HANG_S = 5.0
ATTEMPTS = """
import mmap, os, signal, socket, sys
from appliance.confinement import confine
kept = os.open("/dev/null", os.O_RDWR)
attempts = {
    "open": lambda: open("/etc/hostname"),
    "list": lambda: os.listdir("/"),
    "socket": lambda: socket.socket(),
    "fork": lambda: os.fork() or os._exit(0),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "duplicate": lambda: os.dup(kept),
    "memory": lambda: bytearray(700 << 20),
}
if "exec" not in sys.argv:
    del attempts["exec"]
if "free" not in sys.argv:
    assert confine(memory_bytes=640 << 20, cpu_s=10)
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError):
        continue
    os.write(1, (name + " ").encode())
os.write(1, b"end")
"""


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width_px: int = 40, height_px: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (height_px, width_px, 3), np.uint8))


def memory_mib(pid: int, field: str) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def done_by(*arguments: str) -> list[str]:
    command = [sys.executable, "-c", ATTEMPTS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_confined_process_can_reach_nothing() -> None:
    assert done_by("exec") == ["end"]


def test_the_same_attempts_succeed_without_confinement() -> None:
    # The control: otherwise the test above would show no more than that the attempts are badly written.
    done = done_by("free")
    assert {"open", "list", "socket", "fork", "kill", "code", "duplicate", "memory", "end"} <= set(done)


def test_decoding_process_is_the_confined_one(sandbox: Sandbox) -> None:
    sandbox.decode(encoded(noise()))
    assert sandbox.pid is not None
    assert sandbox.is_filtered
    status = Path(f"/proc/{sandbox.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    limits = Path(f"/proc/{sandbox.pid}/limits").read_text()
    assert f"Max address space         {worker.MEMORY_BYTES}" in limits


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_are_those_of_decoding_here(sandbox: Sandbox, kind: str) -> None:
    content = encoded(noise(301, 199), kind)
    np.testing.assert_array_equal(sandbox.decode(content), pixels_from_bytes(content))


def test_process_that_died_unnoticed_costs_no_picture(sandbox: Sandbox) -> None:
    sandbox.decode(encoded(noise()))
    assert sandbox.pid is not None
    os.kill(sandbox.pid, signal.SIGKILL)
    assert sandbox.decode(encoded(noise())).shape == (30, 40, 3)


def test_hang_ends_at_the_deadline_and_the_next_picture_is_decoded() -> None:
    with Sandbox(deadline_s=0.5) as sandbox:
        sandbox.decode(encoded(noise()))
        assert sandbox.pid is not None
        os.kill(sandbox.pid, signal.SIGSTOP)
        with pytest.raises(ImageError, match="took too long"):
            sandbox.decode(encoded(noise()))
        assert sandbox.decode(encoded(noise())).shape == (30, 40, 3)


def test_processes_are_replaced_and_none_is_left_behind() -> None:
    with Sandbox(jobs_per_process=2) as sandbox:
        pids = []
        for _ in range(5):
            sandbox.decode(encoded(noise()))
            pids.append(sandbox.pid)
    assert len(set(pids)) == 3
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


def test_threads_take_turns(sandbox: Sandbox) -> None:
    pictures = [noise(20 + n, 10) for n in range(8)]
    shapes: dict[int, tuple[int, ...]] = {}

    def decode(number: int) -> None:
        shapes[number] = sandbox.decode(encoded(pictures[number])).shape

    threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert shapes == {number: (10, 20 + number, 3) for number in range(8)}


class LyingSandbox(Sandbox):
    """Its process was taken over and answers as its attacker likes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(deadline_s=2)
        self._answer = answer

    def _start(self) -> socket.socket:
        self._socket, far = socket.socketpair()
        far.sendall(self._answer)
        far.shutdown(socket.SHUT_WR)
        self._far = far
        self._jobs = 0
        return self._socket


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"?",
        worker.PIXELS + worker.SIZE.pack(0, 5),
        worker.PIXELS + worker.SIZE.pack(2**32 - 1, 2**32 - 1),
        worker.PIXELS + worker.SIZE.pack(7_000, 7_000),
        worker.PIXELS + worker.SIZE.pack(10, 10) + b"short",
        worker.SENTENCE + worker.LENGTH.pack(2**32 - 1),
        b"Q" + worker.LENGTH.pack(2) + b"{}",
    ],
)
def test_nothing_that_the_process_says_is_believed(answer: bytes) -> None:
    sandbox = LyingSandbox(answer)
    with pytest.raises(ImageError, match="could not be read") as caught:
        sandbox.decode(b"picture")
    sandbox._far.close()
    assert str(caught.value).count(".") == 2


def test_its_sentence_is_capped_to_printable_characters() -> None:
    sentence = "<b>\x1b[31m\u202eno\n"
    content = sentence.encode()
    sandbox = LyingSandbox(worker.SENTENCE + worker.LENGTH.pack(len(content)) + content)
    with pytest.raises(ImageError) as caught:
        sandbox.decode(b"picture")
    sandbox._far.close()
    sandbox.close()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("mode", "options"), [("RGB", {"progressive": True}), ("CMYK", {"quality": 30})])
def test_largest_pictures_stay_within_the_memory(sandbox: Sandbox, mode: str, options: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turning needs a second copy
    picture = Image.linear_gradient("L").resize((6_000, 4_000)).convert(mode)
    assert sandbox.decode(encoded(picture, "JPEG", exif=exif, **options)).shape == (6_000, 4_000, 3)
    assert sandbox.pid is not None
    assert memory_mib(sandbox.pid, "VmHWM") < WORKER_MAX_MIB


def assert_survives(sandbox: Sandbox, rng: random.Random, count: int) -> None:
    decoded = refused = 0
    sentences: set[str] = set()
    longest_s = most_mib = 0.0
    sandbox.decode(encoded(noise()))
    before_mib = memory_mib(os.getpid(), "VmRSS")
    for content in hostile_files(rng, count):
        started_s = time.monotonic()
        try:
            sandbox.decode(content)
            decoded += 1
        except ImageError as error:
            refused += 1
            sentences.add(str(error))
        longest_s = max(longest_s, time.monotonic() - started_s)
        if sandbox.pid is not None and refused % 50 == 0:
            most_mib = max(most_mib, memory_mib(sandbox.pid, "VmHWM"))
    growth_mib = memory_mib(os.getpid(), "VmRSS") - before_mib
    # Both, or the files are not hostile, or not files.
    assert decoded > count // 50
    assert refused > count // 4
    assert not [sentence for sentence in sentences if "canary" in sentence or not sentence.isprintable()]
    # No picture brought the process down or held it until its deadline; a busy machine's slow start of one is neither.
    assert not [sentence for sentence in sentences if "could not be read" in sentence]
    assert longest_s < HANG_S + START_S
    assert most_mib < WORKER_MAX_MIB
    assert growth_mib < PARENT_GROWTH_MAX_MIB


def test_hostile_files_bring_nothing_down(sandbox: Sandbox, seed: int) -> None:
    assert_survives(sandbox, random.Random(seed), HOSTILE_FILES)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_many_hostile_files_bring_nothing_down(sandbox: Sandbox, seed: int) -> None:
    assert_survives(sandbox, random.Random(seed), HOSTILE_FILES_SLOW)


def test_frames_are_measured_by_one_process_and_hostile_ones_are_refused(sandbox: Sandbox, seed: int) -> None:
    frames = [encoded(noise(64 + n, 48), "JPEG") for n in range(3)]
    assert sandbox.measure(frames[0], is_preview=True).shift is None
    pid = sandbox.pid
    for frame in frames[1:]:
        assert sandbox.measure(frame, is_preview=True).shift is not None
    assert sandbox.measure(frames[0], is_preview=False).shift is None
    # All that measuring needs was loaded before the process was shut in.
    assert sandbox.pid == pid
    for content in hostile_files(random.Random(seed), 60):
        with contextlib.suppress(ImageError):
            assert sandbox.measure(content, is_preview=True).focus >= 0


@pytest.mark.parametrize("answer", [b"{}", b'{"focus": "high"}', b"[", b'{"focus": 1e999}'])
def test_measures_that_are_none_are_not_believed(answer: bytes) -> None:
    sandbox = LyingSandbox(worker.TEXT + worker.LENGTH.pack(len(answer)) + answer)
    with pytest.raises(ImageError, match="could not be read"):
        sandbox.measure(b"frame", is_preview=True)
    sandbox._far.close()
