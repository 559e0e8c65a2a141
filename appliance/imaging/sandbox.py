"""The near side of the decoding process: starts it, gives it bytes, believes nothing it says, ends it if need be.

One process serves one picture at a time and is replaced after some hundred, after a crash and after a deadline. A
picture that kills it costs one sentence.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import ImageError
from appliance.imaging import worker
from appliance.imaging.codes import CodeAnswer
from appliance.imaging.findings import CardAnswer, CardFinding, ChangeAnswer, ChangeFinding
from appliance.imaging.pixels import MAX_PIXELS, MAX_SIDE_PX
from appliance.imaging.quality import ImageMeasures

T = TypeVar("T")

logger = logging.getLogger(__name__)

DEADLINE_S: Final = 5.0
"""Longest time for one picture; the largest allowed takes 0.7 s on one core of 2020."""
START_S: Final = 20.0
"""Longest start of the process: 0.3 s by itself, more while a box boots."""
JOBS_PER_PROCESS: Final = 200
_SENTENCE_MAX_BYTES: Final = 1000
_GONE: Final = "The image could not be read: decoding it failed. Save it again as a JPEG file."
_TOO_LONG: Final = "The image could not be read: decoding it took too long. Save it again as a JPEG file."


class DecoderGoneError(ImageError):
    """The process did not say what is wrong with the picture: it crashed, or took too long."""


class Sandbox:
    """Decodes pictures in a confined process; safe to call from several threads, which take turns.

    Args:
        deadline_s: Longest time for one picture in seconds.
        jobs_per_process: Pictures after which the process is replaced.
        niceness: How far it stands back for other processes, 0 to 19.
    """

    def __init__(
        self, *, deadline_s: float = DEADLINE_S, jobs_per_process: int = JOBS_PER_PROCESS, niceness: int = 0
    ) -> None:
        self._niceness = niceness
        self._deadline_s = deadline_s
        self._jobs_per_process = jobs_per_process
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._jobs = 0
        self.is_filtered = False
        """Whether the newest process's system calls are filtered; False until the first picture."""

    def __enter__(self) -> Self:
        """Return the sandbox; its process starts with the first picture."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's number while there is one."""
        return self._process.pid if self._process is not None else None

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Decode one JPEG or PNG file, as `pixels.pixels_from_bytes` does.

        Returns:
            uint8 [H, W, 3], RGB, upright.

        Raises:
            ImageError: The picture is refused.
            DecoderGoneError: Decoding it failed or took longer than the deadline.
        """
        return self._ask(worker.DECODE, content, self._pixels)

    def measure(self, content: bytes, *, is_preview: bool) -> ImageMeasures:
        """Measure one frame, as `preview.measure_frame` does.

        Args:
            content: A whole JPEG or PNG file.
            is_preview: Whether it follows the frame before; else it is measured by itself.

        Raises:
            ImageError: As `decode`.
        """
        return self._ask(worker.MEASURE if is_preview else worker.MEASURE_ALONE, content, self._measures)

    def card(self, content: bytes) -> CardFinding | None:
        """Measure by the card in one picture file, as `findings.card_finding`.

        Raises:
            ImageError: As `decode`.
        """
        return self._ask(worker.CARD, content, self._card)

    def balance(self, content: bytes) -> NDArray[np.uint8]:
        """Return one picture as under white light, by the card in it: uint8 [H, W, 3], RGB.

        Raises:
            ImageError: As `decode`, or no card is seen.
        """
        return self._ask(worker.BALANCE, content, self._pixels)

    def change(self, earlier: bytes, later: bytes) -> ChangeFinding | None:
        """Compare two picture files, as `findings.change_finding`.

        Raises:
            ImageError: As `decode`.
        """
        content = worker.LENGTH.pack(len(earlier)) + earlier + later
        return self._ask(worker.CHANGE, content, self._change)

    def code(self, content: bytes) -> str | None:
        """Read the QR code in one picture file, as `codes.code_text`; the text is foreign and may say anything.

        Raises:
            ImageError: As `decode`.
        """
        return self._ask(worker.CODE, content, self._code)

    def _ask(self, operation: int, content: bytes, answer: Callable[[float], T]) -> T:
        with self._turn:
            try:
                return answer(self._send(operation, content))
            except (OSError, ValueError) as error:
                failure = self._failed(error)
                if isinstance(error, TimeoutError) or self._jobs <= 1:
                    raise failure from error
            # It may have died before, or of what an earlier picture did to it: this one gets a process to itself.
            try:
                return answer(self._send(operation, content))
            except (OSError, ValueError) as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """End the process; the next picture starts another."""
        with self._turn:
            self._end()

    def _send(self, operation: int, content: bytes) -> float:
        """Give a job to the process, starting one if need be; return until when it has to be done."""
        connection = self._socket if self._jobs < self._jobs_per_process else None
        if connection is None:
            self._end()
            connection = self._start()
        self._jobs += 1
        deadline_s = time.monotonic() + self._deadline_s
        connection.settimeout(self._deadline_s)
        connection.sendall(worker.JOB.pack(operation, len(content)))
        connection.sendall(content)
        return deadline_s

    def _pixels(self, deadline_s: float) -> NDArray[np.uint8]:
        kind = bytes(self._received(1, deadline_s))
        if kind != worker.PIXELS:
            raise ImageError(self._text(kind, worker.SENTENCE, _SENTENCE_MAX_BYTES, deadline_s))
        height_px, width_px = worker.SIZE.unpack(self._received(worker.SIZE.size, deadline_s))
        # Before memory is set aside: it may say anything.
        if not (0 < height_px <= MAX_SIDE_PX and 0 < width_px <= MAX_SIDE_PX and height_px * width_px <= MAX_PIXELS):
            raise ValueError("an impossible size")
        content = self._received(height_px * width_px * 3, deadline_s)
        return np.frombuffer(content, np.uint8).reshape(height_px, width_px, 3)

    def _json(self, deadline_s: float, kind: type[T]) -> T:
        sent = bytes(self._received(1, deadline_s))
        if sent == worker.SENTENCE:
            raise ImageError(self._text(sent, worker.SENTENCE, _SENTENCE_MAX_BYTES, deadline_s))
        # What is wrong with the JSON is a ValueError too.
        return msgspec.json.decode(self._text(sent, worker.TEXT, _SENTENCE_MAX_BYTES, deadline_s), type=kind)

    def _measures(self, deadline_s: float) -> ImageMeasures:
        return self._json(deadline_s, ImageMeasures)

    def _card(self, deadline_s: float) -> CardFinding | None:
        return self._json(deadline_s, CardAnswer).found

    def _change(self, deadline_s: float) -> ChangeFinding | None:
        return self._json(deadline_s, ChangeAnswer).found

    def _code(self, deadline_s: float) -> str | None:
        return self._json(deadline_s, CodeAnswer).text

    def _text(self, kind: bytes, expected: bytes, max_bytes: int, deadline_s: float) -> str:
        (length,) = worker.LENGTH.unpack(self._received(worker.LENGTH.size, deadline_s))
        if kind != expected or length > max_bytes:
            raise ValueError("not the answer that was expected")
        text = self._received(length, deadline_s).decode(errors="replace")
        return "".join(filter(str.isprintable, text))

    def _received(self, length: int, deadline_s: float) -> bytearray:
        if self._socket is None:
            raise ValueError("there is no process")
        content = bytearray(length)
        view = memoryview(content)
        while view:
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionResetError("it ended")
            view = view[count:]
        return content

    def _start(self) -> socket.socket:
        near, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                # -I: neither the working directory nor the environment decides what is imported.
                [sys.executable, "-I", "-m", worker.__name__],
                stdin=far.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # One thread: more would each reserve address space, and decoding uses none of them.
                env={"OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
                # Ctrl-C in a terminal is for the command; this ends when the command does.
                process_group=0,
            )
        if self._niceness:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._niceness)
        self._socket = near
        ready = self._received(2, time.monotonic() + START_S)
        if ready[:1] != worker.READY:
            raise ValueError("not the word that was expected")
        self.is_filtered = bool(ready[1])
        self._jobs = 0
        logger.debug("decoding process started pid=%s is_filtered=%s", self._process.pid, self.is_filtered)
        return near

    def _failed(self, error: Exception) -> DecoderGoneError:
        """End the process, whatever state it is in, and return the sentence for the picture."""
        logger.warning("decoding process ended early: %s", type(error).__name__)
        self._end()
        return DecoderGoneError(_TOO_LONG if isinstance(error, TimeoutError) else _GONE)

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None
