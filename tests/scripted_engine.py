"""A model that says what it is told, behind MedGemma's interface, and the real engine around it.

Three ways to use it:

* `ScriptedModel` alone, where only the model's interface is wanted;
* `RunningEngine(model)`: the real application and server in this process, on a Unix socket or a loopback port;
* `EngineProcess(...)`: the real command's body in a process of its own, to be killed and started again.

Everything is mutable and counted: set `model.answer`, hold the model with `hold()`, let it write `n` pieces with
`release(n)`, look at `model.generations`. Nothing sleeps: a held model waits for `release` or for its cancel event.
"""

import argparse
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from tiny_shapes import IMAGE_TOKENS, TEXT, VISION

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import BundleError, PromptError
from appliance.imaging.decode import image_from_bytes
from appliance.medgemma.bundle import SCHEMA_VERSION, Bundle, Licence, Manifest, Precision, Preprocessing, Source
from appliance.medgemma.generation import (
    FinishReason,
    Generation,
    GenerationOptions,
    ImagePart,
    Message,
    Piece,
    TextPart,
    Timings,
    TokenLogprob,
)
from appliance.medgemma.plan import MemoryPlan
from appliance.medgemma.preprocess import PadToSquare
from appliance.medgemma.spec import GemmaSpec, TokenSpec
from appliance.medgemma.vision import ImageFeatures
from web.engine.app import create_engine_app
from web.engine.limits import EngineLimits
from web.engine.listening import listening_socket, remove_socket_file
from web.engine.model_host import Model, ModelHost
from web.engine.service import EngineService
from web.engine.serving import engine_server

TOKENS_PER_IMAGE = IMAGE_TOKENS
ASSESSMENT = {
    "quality": "ok",
    "skin_tone": "medium",
    "number": "single",
    "asymmetry": "two axes",
    "border": "irregular",
    "colours": ["dark brown", "black"],
    "diameter_mm": "6-10",
    "surface": "raised",
    "description": "A single dark lesion with an irregular border.",
}
_CANCEL_POLL_S = 0.005


class ScriptedModel:
    """Stands where `MedGemma` stands; a token is a word with the blank before it."""

    def __init__(self, *, name: str = "scripted", takes_images: bool = True, context_length: int = 2048) -> None:
        self.bundle = scripted_bundle(name, takes_images=takes_images)
        self.context_length = context_length
        self.load_s = 0.5
        self.placement = {"CPUExecutionProvider": 1}
        self.plan = MemoryPlan(
            context_length=context_length,
            tower="onnxruntime",
            keeps_vision=True,
            prefix_bytes=0,
            resident_bytes=0,
            peak_bytes=0,
            available_bytes=None,
        )
        self.golden_answers = 0
        self.self_test_error: Exception | None = None
        """Raised by the self-test."""
        self.may_end_self_test = threading.Event()
        self.may_end_self_test.set()
        self.read: list[str] = []
        """SHA-256 of every photo that was read ahead."""
        self.forgotten = 0
        """Calls of `forget`."""
        self.answer: str | None = None
        """What it says; `None` echoes the last user text, or gives `ASSESSMENT` when there is a schema."""
        self.thought = ""
        self.error: Exception | None = None
        """Raised by the next `generate`, at the call."""
        self.late_error: Exception | None = None
        """Raised by the next run, after its first piece."""
        self.generations: list[tuple[tuple[Message, ...], GenerationOptions]] = []
        """Every call of `generate`."""
        self.finish_reasons: list[FinishReason] = []
        """How every run ended."""
        self.encoded: list[str] = []
        """SHA-256 of every photo that was not in the cache."""
        self.running = 0
        """Runs at this moment; more than one is a bug of the caller."""
        self.most_running = 0
        self.pieces_written = threading.Semaphore(0)
        """Released once a piece; `acquire(timeout=...)` to wait for progress."""
        self.is_closed = False
        self._is_held = False
        self._steps = threading.Semaphore(0)
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Make every step (a piece, or the encoding of a photo) wait for `release`."""
        self._is_held = True

    def release(self, steps: int = 1) -> None:
        """Allow some steps."""
        self._steps.release(steps)

    def let_go(self) -> None:
        """Hold no longer."""
        self._is_held = False
        self._steps.release(100_000)

    def encode_image(self, content: bytes) -> ImageFeatures:
        image = image_from_bytes(content)
        if self.bundle.manifest.architecture.vision is None:
            raise BundleError("This model takes text only.")
        sha256 = hashlib.sha256(content).hexdigest()
        self._step(None)
        with self._lock:
            if sha256 not in self.encoded:
                self.encoded.append(sha256)
        return ImageFeatures(
            sha256=sha256,
            values=np.zeros((TOKENS_PER_IMAGE, 8), dtype=np.float32),
            transform=PadToSquare(width_px=image.shape[1], height_px=image.shape[0]),
            vision_s=0.01,
        )

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(self.placement)

    def prepare(self) -> None:
        """There is nothing to prepare."""

    def self_test(self) -> int:
        self.may_end_self_test.wait()
        if self.self_test_error is not None:
            raise self.self_test_error
        return self.golden_answers

    def read_ahead(self, messages: Sequence[Message], *, cancel: threading.Event | None = None) -> int:
        images = [part for message in messages for part in message.parts if isinstance(part, ImagePart)]
        self.read += [hashlib.sha256(image.content).hexdigest() for image in images]
        return len(images) * TOKENS_PER_IMAGE

    def forget(self) -> None:
        self.forgotten += 1
        self.encoded.clear()
        self.read.clear()

    def check_prompt(self, messages: Sequence[Message]) -> int:
        if messages[-1].role != "user":
            raise PromptError("The conversation must end with the user's turn.")
        parts = [part for message in messages for part in message.parts]
        if self.bundle.manifest.architecture.vision is None and any(isinstance(part, ImagePart) for part in parts):
            raise PromptError("This model takes text only, and the prompt has an image.")
        tokens = sum(TOKENS_PER_IMAGE if isinstance(part, ImagePart) else len(words(part.text)) for part in parts)
        if tokens > self.context_length:
            raise PromptError(f"The prompt has {tokens} tokens; the context holds {self.context_length}.")
        return tokens

    def generate(
        self, messages: Sequence[Message], options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Piece | Generation]:
        prompt_tokens = self.check_prompt(messages)
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.generations.append((tuple(messages), options))
        return self._run(messages, options, cancel or threading.Event(), prompt_tokens)

    def close(self) -> None:
        self.is_closed = True

    def _run(
        self, messages: Sequence[Message], options: GenerationOptions, cancel: threading.Event, prompt_tokens: int
    ) -> Iterator[Piece | Generation]:
        self._count(1)
        reason: FinishReason = "cancelled"
        try:
            for message in messages:
                for part in message.parts:
                    if isinstance(part, ImagePart):
                        self.encode_image(part.content)
            text, reason, said = self._text(messages, options), "stop", ""
            tokens = words(text)
            ids: list[int] = []
            for token in tokens:
                if len(ids) == options.max_tokens:
                    reason = "length"
                    break
                if cancel.is_set() or not self._step(cancel):
                    reason = "cancelled"
                    break
                ids.append(token_id(token))
                cut = min((at for stop in options.stop if (at := (said + token).find(stop)) >= 0), default=None)
                new = token if cut is None else (said + token)[len(said) : cut]
                said += new
                self.pieces_written.release()
                yield Piece(text=new, token_ids=(ids[-1],), logprobs=logprobs_of(token, options))
                self._break_late()
                if cut is not None:
                    break
            timings = Timings(
                load_s=self.load_s,
                vision_s=0.01,
                prefill_s=0.02,
                decode_s=0.03,
                prompt_tokens=prompt_tokens,
                generated_tokens=len(ids),
            )
            yield Generation(
                text=said,
                thought=self.thought,
                prompt_token_ids=tuple(range(prompt_tokens)),
                token_ids=tuple(ids),
                finish_reason=reason,
                timings=timings,
            )
        finally:
            self.finish_reasons.append(reason)
            self._count(-1)

    def _break_late(self) -> None:
        error, self.late_error = self.late_error, None
        if error is not None:
            raise error

    def _text(self, messages: Sequence[Message], options: GenerationOptions) -> str:
        if self.answer is not None:
            return self.answer
        if options.json_schema is not None:
            return json.dumps(ASSESSMENT)
        return "".join(part.text for part in messages[-1].parts if isinstance(part, TextPart))

    def _step(self, cancel: threading.Event | None) -> bool:
        """Wait to be released if held; False when cancelled meanwhile."""
        while self._is_held and not self._steps.acquire(timeout=_CANCEL_POLL_S):
            if cancel is not None and cancel.is_set():
                return False
        return True

    def _count(self, change: Literal[1, -1]) -> None:
        with self._lock:
            self.running += change
            self.most_running = max(self.most_running, self.running)


class RunningEngine:
    """The real engine around a model in this process; a context manager that stops it.

    Give `load` instead of a model to watch it loading or failing.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        socket: Path | None = None,
        limits: EngineLimits | None = None,
        **host: object,
    ) -> None:
        self.model = model if model is not None else ScriptedModel()
        self.limits = limits or EngineLimits()
        load = host.get("load") or (lambda: self.model)
        asked = EngineAddress(socket=str(socket)) if socket is not None else EngineAddress(port=0)
        listener, self.address = listening_socket(asked)
        self.service = EngineService(ModelHost(load), self.limits)  # type: ignore[arg-type] # a test's callable
        app = create_engine_app(self.service, over_tcp=socket is None)
        self._server = engine_server(app, listener, self.limits)
        self._thread = threading.Thread(target=self._server.run, name="engine-server")
        self.client = EngineClient(self.address)

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://{self.address.authority}/v1"

    def __enter__(self) -> Self:
        self.service.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join(5)
        remove_socket_file(self.address)
        self.service.close()
        self._server.close()


class EngineProcess:
    """`dermstation engine` with a scripted model, or with a real bundle, in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        """Start it and wait until it listens.

        Args:
            arguments: Of `main` below, such as `--socket PATH --stall-after 3`.
        """
        self.stderr = ""
        """What it wrote there, once it has ended."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        listening = re.search(r"listens on (\S+)", line)
        if listening is None:
            self.kill()
            raise AssertionError(f"the engine did not start: {line!r} {self.stderr}")
        self.address = EngineAddress.parse(listening[1])
        self.client = EngineClient(self.address)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL, if it still runs."""
        self._process.kill()
        self._wait()

    def terminate(self, timeout_s: float = 30) -> int:
        """Ask it to end, and return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        self._process.send_signal(number)

    def _wait(self, timeout_s: float = 30) -> int:
        _, stderr = self._process.communicate(timeout=timeout_s)
        self.stderr += stderr
        return self._process.returncode


def words(text: str) -> list[str]:
    """Split a text into the scripted model's tokens."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)


def token_id(token: str) -> int:
    """Return the same id for the same token."""
    return int.from_bytes(hashlib.sha256(token.encode()).digest()[:2], "big")


def logprobs_of(token: str, options: GenerationOptions) -> tuple[TokenLogprob, ...]:
    """Return a token's logprob with one sure and then impossible alternatives."""
    if options.top_logprobs is None:
        return ()
    alternatives = ((token_id(token), token, -0.25), (1, "never", float("-inf")))
    return (
        TokenLogprob(token_id=token_id(token), text=token, logprob=-0.25, top=alternatives[: options.top_logprobs]),
    )


def scripted_bundle(name: str, *, takes_images: bool = True) -> Bundle:
    """Describe a bundle that is nowhere."""
    tokens = TokenSpec(bos_token_id=2, pad_token_id=0, eos_token_ids=(1,))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        exporter="tests",
        source=Source(checkpoint="scripted", revision=None, files={}),
        architecture=GemmaSpec(text=TEXT, tokens=tokens, vision=VISION if takes_images else None),
        precision=Precision(decoder="int4", embedding="int8", vision="float32" if takes_images else None, cache="int8"),
        preprocessing=Preprocessing(image_mean=(0.5,) * 3, image_std=(0.5,) * 3, rescale_factor=1 / 255),
        chat_template="",
        licence=Licence(name="none", notice_file="NOTICE", modification_statement="none"),
        graphs={},
        tokenizer_file="tokenizer.json",
        files={},
        warning="Scripted: not a model.",
    )
    return Bundle(path=Path("/nowhere"), manifest=manifest, sha256=hashlib.sha256(name.encode()).hexdigest())


def main() -> None:
    """Run the engine's command with a scripted model; what `EngineProcess` starts."""
    from appliance.config import EngineConfig
    from appliance.host.notify import Notifier
    from web.engine.command import run_engine

    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer", help="what the model says")
    parser.add_argument("--stall-after", type=int, help="pieces after which the model waits for ever")
    parser.add_argument("--deaf", action="store_true", help="a stalled model does not hear that it is cancelled")
    parser.add_argument("--fail", help="the sentence with which loading fails")
    arguments = parser.parse_args()
    model = ScriptedModel()
    model.answer = arguments.answer
    if arguments.stall_after is not None:
        model.hold()
        model.release(arguments.stall_after)
    if arguments.deaf:
        model._step = lambda cancel: model._steps.acquire()  # type: ignore[method-assign] # that is its purpose

    def load() -> ScriptedModel:
        if arguments.fail:
            raise BundleError(arguments.fail)
        return model

    run_engine(EngineConfig(socket=arguments.socket, port=arguments.port), load, Notifier.from_environment())


if __name__ == "__main__":
    main()
