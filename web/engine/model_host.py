"""The model while it loads, once it is ready, and after it failed to load or to pass its self-test.

The process answers in all of these. A model that is loaded takes questions at once; none is answered before the
self-test is passed (`on_tested`).

It does not queue and does not generate.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from appliance.engine_wire import EngineStatus, ModelSummary, SelfTest
from appliance.errors import DermstationError, EngineUnavailableError
from appliance.medgemma.bundle import Bundle
from appliance.medgemma.generation import Generation, GenerationOptions, Message, Piece
from appliance.medgemma.plan import MemoryPlan
from appliance.medgemma.vision import ImageFeatures

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What this face needs of `MedGemma`."""

    bundle: Bundle
    context_length: int
    load_s: float
    plan: MemoryPlan

    @property
    def placement(self) -> dict[str, int]:
        """Nodes by what runs them."""

    @property
    def providers(self) -> tuple[str, ...]:
        """What runs them, the one with most of them first."""

    def prepare(self) -> None:
        """Do what the first photo and the first schema would wait for."""

    def self_test(self) -> int:
        """Compare the model with its golden answers; returns how many there are."""

    def encode_image(self, content: bytes) -> ImageFeatures:
        """Encode one photo, or return its features from the cache."""

    def read_ahead(self, messages: Sequence[Message], *, cancel: threading.Event | None = None) -> int:
        """Read the beginning of a conversation, up to its last photo; returns its tokens."""

    def forget(self) -> None:
        """Forget every photo and prompt."""

    def check_prompt(self, messages: Sequence[Message]) -> int:
        """Count the prompt's tokens, from any thread."""

    def generate(
        self, messages: Sequence[Message], options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Piece | Generation]:
        """Answer: pieces, then one generation."""

    def close(self) -> None:
        """Free everything."""


class ModelHost:
    """Owns the model from its loading thread to its end."""

    def __init__(self, load: Callable[[], Model], on_change: Callable[[str], None] = lambda _: None) -> None:
        """Keep the loader for `start`.

        Args:
            load: Opens the bundle; a `DermstationError` from it is told to every client.
            on_change: Called with one sentence when loading, and when the self-test has ended.
        """
        self._load = load
        self._self_test: SelfTest = "waiting"
        self._on_tested: Callable[[EngineUnavailableError | None], None] = lambda _: None
        self._on_change = on_change
        self._model: Model | None = None
        self._error: str | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-loader", daemon=True)

    def start(self, on_tested: Callable[[EngineUnavailableError | None], None] = lambda _: None) -> None:
        """Begin to load, without waiting for it.

        Args:
            on_tested: Called once the model may answer, or with the reason why it never will.
        """
        self._on_tested = on_tested
        self._thread.start()

    @property
    def self_test(self) -> "SelfTest":
        """How far the self-test is."""
        return self._self_test

    @property
    def status(self) -> EngineStatus:
        """Where the model stands."""
        if self._error is not None:
            return "failed"
        return "ready" if self._model is not None else "loading"

    @property
    def error(self) -> str | None:
        """The sentence why there is no model, if loading has failed."""
        return self._error

    @property
    def model(self) -> Model | None:
        """The model, once it is ready."""
        return self._model

    def require(self) -> Model:
        """Return the model.

        Raises:
            EngineUnavailableError: It is still loading, or loading has failed; the sentence says why.
        """
        if self._model is not None:
            return self._model
        raise EngineUnavailableError(self._error or "The model is still loading.")

    def wait(self, timeout_s: float) -> bool:
        """Wait until loading has ended, well or badly; False when it has not by then."""
        return self._loaded.wait(timeout_s)

    @property
    def has_ended(self) -> bool:
        """Whether the loading thread is gone."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Free the model; one that is still loading is freed when it arrives."""
        with self._lock:
            self._is_closed = True
            model, self._model = self._model, None
        if model is not None:
            model.close()

    def _run(self) -> None:
        try:
            model = self._load()
        except DermstationError as error:
            logger.error("model failed: %s", error)  # noqa: TRY400 - the sentence is made for this, a traceback adds nothing
            self._error = str(error)
        except Exception:  # the edge of a thread: without it /health would say "loading" for ever
            logger.exception("model failed")
            self._error = "The model cannot be loaded; the engine's log says why."
        else:
            self._accept(model)
        self._loaded.set()
        self._on_change(self._error or "the model is loaded")
        if self._model is not None:
            self._test(self._model)
        self._on_tested(None if self._error is None else EngineUnavailableError(self._error))

    def _test(self, model: Model) -> None:
        """Have the model prove itself; one that fails is closed, and stays so."""
        self._self_test = "running"
        try:
            # The kiosk's first question is about a photo and has a schema: its nurse should not wait for this.
            model.prepare()
            answers = model.self_test()
        except Exception as error:  # the edge of a thread, and whatever it is: such a model must not answer
            if isinstance(error, DermstationError):
                logger.error("self-test failed: %s", error)  # noqa: TRY400 - the sentence is made for this
                self._error = str(error)
            else:
                logger.exception("self-test failed")
                self._error = "The model's self-test failed, so the model is off; the engine's log says why."
            self._self_test = "failed"
            self.close()
        else:
            self._self_test = "passed" if answers else "none"
            logger.info("self-test %s: answers=%s", self._self_test, answers)
        self._on_change(self._error or "the model is ready")

    def _accept(self, model: Model) -> None:
        logger.info("model ready: name=%s load_s=%.1f", model.bundle.manifest.name, model.load_s)
        with self._lock:
            if not self._is_closed:
                self._model = model
                return
        model.close()


def summary_of(model: Model) -> ModelSummary:
    """Return what every face says about a model."""
    manifest = model.bundle.manifest
    return ModelSummary(
        name=manifest.name,
        sha256=model.bundle.sha256,
        warning=manifest.warning,
        precision=manifest.precision,
        context_length=model.context_length,
        takes_images=manifest.architecture.vision is not None,
    )
