"""MedGemma on this machine: from a bundle to an answer, in one page.

It has no records, no network and no queue: one generation at a time, the caller decides whose.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.config import Provider
from appliance.errors import EngineUnavailableError, PromptError
from appliance.medgemma.bundle import Bundle, read_bundle
from appliance.medgemma.generation import Generation, GenerationOptions, Message, Piece
from appliance.medgemma.interrupt import Interrupt
from appliance.medgemma.openvino_tower import tower_runtimes
from appliance.medgemma.parts import Parts, Settings, open_parts
from appliance.medgemma.plan import MemoryPlan, available_bytes, plan_memory
from appliance.medgemma.prompt import Prompt
from appliance.medgemma.run import Run, check_options
from appliance.medgemma.self_test import check_golden_answers
from appliance.medgemma.sessions import Brake, Compute, InterruptedRunError, available_cores
from appliance.medgemma.vision import ImageFeatures

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """How to run a bundle on this machine."""

    threads: int | None = None
    """Compute threads; `None` is one a physical core that this process may use."""
    context_length: int | None = None
    """Tokens in the KV cache; `None` is 4096, or less where the model or the board's memory allows no more."""
    prefill_chunk_tokens: int = 256
    """Prompt tokens in one run of the decoder; an image is never split, so a chunk may be longer. At the 4B shape 512
    are no faster and take 75 MB more."""
    feature_cache_images: int = 16
    """Photos whose features are kept."""
    prefix_cache_bytes: int | None = None
    """Memory for the beginnings of prompts that were read ahead; `None` is that of four photos, or what there is."""
    provider: Provider = "auto"
    available_bytes: int | None = None
    """Memory that the model may take; `None` is what the board has free."""


class MedGemma:
    """A loaded model; a context manager. `encode_image` and `generate` may be called from different threads."""

    def __init__(self, bundle: Bundle, plan: MemoryPlan, parts: Parts, load_s: float) -> None:
        """Put opened parts together; `load` is the way in."""
        self.bundle = bundle
        self.plan = plan
        """What was decided about memory."""
        self.context_length = plan.context_length
        """Tokens that a prompt and its answer may have together."""
        self.load_s = load_s
        """Seconds that `load` took."""
        self._open_parts: Parts | None = parts
        self._turn = threading.Lock()

    @classmethod
    def load(cls, path: Path, options: RuntimeOptions | None = None) -> Self:
        """Plan the memory, check a bundle from end to end and open all of it but the vision tower.

        That is opened by `prepare`, or by the first photo.

        Raises:
            BundleError: The bundle is missing, damaged or does not open.
            EngineUnavailableError: There is too little memory for it; nothing was opened.
        """
        started_s = time.monotonic()
        options = options or RuntimeOptions()
        bundle = read_bundle(path)
        available = options.available_bytes if options.available_bytes is not None else available_bytes()
        plan = plan_memory(
            bundle.manifest,
            available,
            context_length=options.context_length,
            chunk_tokens=options.prefill_chunk_tokens,
            towers=tower_runtimes(options.provider, bundle.manifest),
        )
        logger.info("memory planned: %s", plan.sentence)
        compute = Compute(threads=options.threads or available_cores(), provider=options.provider)
        settings = Settings(
            chunk_tokens=options.prefill_chunk_tokens,
            feature_cache_images=options.feature_cache_images,
            prefix_bytes=options.prefix_cache_bytes,
        )
        parts = open_parts(bundle, compute, plan, settings)
        model = cls(bundle, plan, parts, time.monotonic() - started_s)
        logger.info("bundle loaded name=%s load_s=%.2f", bundle.manifest.name, model.load_s)
        return model

    @property
    def placement(self) -> dict[str, int]:
        """Nodes of the decoder, and of the vision tower once it was opened, by what runs them."""
        parts = self._open_parts
        return {} if parts is None else dict(parts.placement)

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs them, the one with most of them first."""
        placement = self.placement
        return tuple(sorted(placement, key=lambda name: -placement[name]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def encode_image(self, content: bytes) -> ImageFeatures:
        """Encode one photo, or return its features from the cache.

        Args:
            content: The bytes of a JPEG or PNG file.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            PromptError: The model takes text only.
        """
        return self._parts.encode_image(content, Brake())

    def prepare(self) -> None:
        """Do now what the first photo and the first schema would wait for.

        At MedGemma 1.5 4B's shape that is 1.2 to 1.4 s, and 3.4 to 4.2 where OpenVINO runs the tower.

        Raises:
            BundleError: The vision tower does not open.
        """
        self._parts.prepare()

    def read_ahead(self, messages: Sequence[Message], *, cancel: threading.Event | None = None) -> int:
        """Read the beginning of a conversation, up to its last photo, so that a question after it starts at once.

        It waits for a generation that is going on, and is done in full or, when cancelled, not at all.

        Args:
            messages: The conversation as far as it is known.
            cancel: Once set, the reading ends.

        Returns:
            Tokens that later prompts with this beginning need not read.

        Raises:
            PromptError: As `check_prompt`.
            ImageError: A photo is unreadable.
            InferenceError: A graph fails.
        """
        parts, prompt = self._parts, self._prompt(messages).until_last_image()
        brake = Brake()
        with Interrupt(cancel, None, brake.pull) as interrupt:
            try:
                features = [parts.encode_image(image.content, brake) for image in prompt.images]
                if not features or not interrupt.acquire(self._turn):
                    return 0
                try:
                    parts.decoder.prefill(prompt, features, brake)
                    parts.decoder.keep_prefix(len(prompt.token_ids))
                finally:
                    self._turn.release()
            except InterruptedRunError:
                return 0
        return len(prompt.token_ids)

    def check_prompt(self, messages: Sequence[Message]) -> int:
        """Count the prompt's tokens without running anything.

        Raises:
            PromptError: The prompt does not fit into the context, or the chat template refuses it.
        """
        return len(self._prompt(messages).token_ids)

    def generate(
        self, messages: Sequence[Message], options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Piece | Generation]:
        """Answer: pieces as they come, then exactly one `Generation` as the last item.

        Closing the iterator ends the run. A second run waits until the first is over.

        Args:
            messages: The conversation, ending with the user's turn.
            options: How to generate.
            cancel: Once set, the run ends within one token, with finish reason `cancelled`.

        Raises:
            PromptError: As `check_prompt`, or an option or the schema makes no sense; at the call.
            ImageError: A photo is unreadable; at the first item.
            InferenceError: A graph fails; at an item.
        """
        check_options(options)
        parts, prompt = self._parts, self._prompt(messages)
        constraint = None if options.json_schema is None else parts.constraints.compile(options.json_schema)
        run = Run(prompt, options, parts.tokenizer, self.bundle.manifest.architecture.tokens, constraint)
        return self._answer(parts, run, cancel)

    def self_test(self) -> int:
        """Compare the model with the golden answers of its bundle; returns how many there were.

        Raises:
            SelfTestError: It does not answer as it did when the bundle was made.
        """
        return check_golden_answers(self)

    def forget(self) -> None:
        """Forget every photo and prompt, once a run that has begun is over, and give their memory back."""
        parts = self._parts
        if parts.vision is not None:
            parts.vision.forget()
        with self._turn:
            parts.decoder.forget()

    def close(self) -> None:
        """Free the sessions and the cache, once a run that has begun is over; the model takes no new one."""
        self._open_parts = None

    def _answer(self, parts: Parts, run: Run, cancel: threading.Event | None) -> Iterator[Piece | Generation]:
        brake = Brake()
        with Interrupt(cancel, run.options.deadline_s, brake.pull) as interrupt:
            if interrupt.acquire(self._turn):
                try:
                    yield from self._pieces(parts, run, interrupt, brake)
                finally:
                    self._turn.release()
            yield from run.end(interrupt.reason, self.load_s)

    def _pieces(self, parts: Parts, run: Run, interrupt: Interrupt, brake: Brake) -> Iterator[Piece]:
        """Yield the answer token by token until it ends or is interrupted."""
        try:
            with run.measure("vision"):
                features = [parts.encode_image(image.content, brake) for image in run.prompt.images]
            with run.measure("prefill"):
                logits, run.reused_tokens = parts.decoder.prefill(run.prompt, features, brake)
            while True:
                with run.measure("decode"):
                    pieces = run.choose(logits, parts.decoder.room, parts.decoder.settle)
                yield from pieces
                if run.is_over or interrupt.reason is not None:
                    return
                with run.measure("decode"):
                    logits = parts.decoder.append([piece.token_ids[0] for piece in pieces], brake)
        except InterruptedRunError:
            return

    @property
    def _parts(self) -> Parts:
        if self._open_parts is None:
            raise EngineUnavailableError("The model is closed.")
        return self._open_parts

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        prompt = self._parts.prompts.build(messages)
        if len(prompt.token_ids) > self.context_length:
            raise PromptError(
                f"The prompt has {len(prompt.token_ids)} tokens; the context takes at most {self.context_length}."
            )
        return prompt
