"""What stands in the engine's queue (an answer, a photo to encode, all photos to forget), and the events it sends."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.engine_wire import EncodedImage
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, Timings
from web.engine.model_host import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The job has left the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job has ended without a result."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Photos and prompts are gone."""


Event = Started | Piece | Generation | EncodedImage | Forgotten | Failed
ENDS = (Generation, EncodedImage, Forgotten, Failed)
"""After one of these no other event comes."""


class Job:
    """One thing for the model to do; made in a request's thread, run in the worker's."""

    def __init__(self, job_id: str) -> None:
        self.id = job_id
        self.cancelled = threading.Event()
        # Bounded by the tokens of the context: nothing else is ever put here.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run(self) -> Iterator[Event]:
        """Do it, in the worker's thread."""
        raise NotImplementedError

    def ended_early(self) -> Event:
        """Return the end of a job that is cancelled before it starts."""
        raise NotImplementedError

    def put(self, event: Event) -> None:
        """Send an event to the request's thread."""
        self._events.put(event)

    def next_event(self, timeout_s: float) -> Event | None:
        """Wait for the next event; None when there is none in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None


class AnswerJob(Job):
    """A generation; the model has agreed to it when this is made, and starts when it is run."""

    def __init__(
        self,
        job_id: str,
        model: Model,
        messages: Sequence[Message],
        options: GenerationOptions,
        prompt_tokens: int,
    ) -> None:
        """Prepare the run.

        Raises:
            PromptError: The model refuses the prompt, an option or the schema.
        """
        super().__init__(job_id)
        self._load_s = model.load_s
        self._prompt_tokens = prompt_tokens
        self._items = model.generate(messages, options, cancel=self.cancelled)

    def run(self) -> Iterator[Event]:
        """Generate."""
        return self._items

    def ended_early(self) -> Event:
        """Return a generation of nothing, so that a cancelled run looks alike wherever it stood."""
        timings = Timings(
            load_s=self._load_s,
            vision_s=0.0,
            prefill_s=0.0,
            decode_s=0.0,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=0,
        )
        return Generation(
            text="", thought="", prompt_token_ids=(), token_ids=(), finish_reason="cancelled", timings=timings
        )


class EncodingJob(Job):
    """A photo to be encoded ahead of the question about it."""

    def __init__(self, job_id: str, model: Model, content: bytes) -> None:
        super().__init__(job_id)
        self._model = model
        self._content = content

    def run(self) -> Iterator[Event]:
        """Encode, and read the prompt as far as the photo."""
        features = self._model.encode_image(self._content)
        image = Message(role="user", parts=(ImagePart(content=self._content),))
        yield EncodedImage(
            sha256=features.sha256,
            tokens=features.values.shape[0],
            vision_s=features.vision_s,
            read_ahead_tokens=self._model.read_ahead([image], cancel=self.cancelled),
        )

    def ended_early(self) -> Event:
        """Say that nothing was encoded."""
        return Failed(error=CancelledError("The request was cancelled before it started."))


class ForgetJob(Job):
    """Every photo and prompt to be forgotten, after the jobs that came before."""

    def __init__(self, job_id: str, model: Model) -> None:
        super().__init__(job_id)
        self._model = model

    def run(self) -> Iterator[Event]:
        """Forget."""
        self._model.forget()
        yield Forgotten()

    def ended_early(self) -> Event:
        """Say that nothing was forgotten."""
        return Failed(error=CancelledError("The request was cancelled before it started."))


class CancelledError(Exception):
    """The client no longer wants the result."""
