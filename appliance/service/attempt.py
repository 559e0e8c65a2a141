"""One attempt at one job: the request to the engine, and its stream told into the job.

It never repeats itself; `questions` decides whether a lost attempt is made again.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA, AssessmentError, assessment_from_json
from appliance.engine_client import GenerationStream, QueuePosition
from appliance.engine_wire import EncodedImage
from appliance.errors import EngineUnavailableError
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, TextPart
from appliance.service.engine_watch import EngineWatch
from appliance.service.jobs import Job
from appliance.service.narration import AssessmentNarrator, Finding

_ASSESSMENT_MAX_TOKENS: Final = 512
_ANSWER_MAX_TOKENS: Final = 256


class Engine(Protocol):
    """The part of the engine's client that is needed here."""

    def encode_image(self, content: bytes) -> EncodedImage:
        """Encode a photo now."""

    def forget_images(self) -> None:
        """Forget every photo."""

    def generate(self, messages: tuple[Message, ...], options: GenerationOptions) -> GenerationStream:
        """Start an answer."""


class Attempt:
    """One attempt at one job."""

    def __init__(
        self, engine: Engine, watch: EngineWatch, job: Job, content: bytes, keep: Callable[[str], str]
    ) -> None:
        """Take a job.

        Args:
            engine: Whom to ask.
            watch: How the engine is.
            job: What is asked, and where it is told.
            content: The photo.
            keep: Keeps a whole answer's text and returns the sentence that says so, or why it was not kept.
        """
        self._engine = engine
        self._watch = watch
        self._job = job
        self._content = content
        self._keep = keep
        self.text = ""
        """What it wrote so far."""
        self._narrator = AssessmentNarrator() if job.question is None else None
        self.has_begun = False
        """Whether the engine took it: one that is busy or still loading has not died over this photo."""

    def run(self) -> None:
        """Stream the answer into the job.

        Raises:
            EngineUnavailableError: The engine died, or refuses for now.
            AssessmentError: What it wrote is no assessment.
        """
        started_s = time.monotonic()
        with self._engine.generate(*self._request()) as stream:
            self.has_begun = True
            self._job.run_by(stream.close)
            try:
                generation = self._follow(stream)
            except EngineUnavailableError:
                if not self._job.is_cancelled:
                    raise
                generation = None
            finally:
                self._job.run_by(None)
        self._finish(generation, time.monotonic() - started_s)

    def _request(self) -> tuple[tuple[Message, ...], GenerationOptions]:
        image = ImagePart(content=self._content)
        question = self._job.question
        if question is None:
            options = GenerationOptions(max_tokens=_ASSESSMENT_MAX_TOKENS, json_schema=ASSESSMENT_SCHEMA)
            return (Message(role="user", parts=(image, TextPart(text=ASSESSMENT_PROMPT))),), options
        options = GenerationOptions(max_tokens=_ANSWER_MAX_TOKENS, ban_thought=True)
        return (Message(role="user", parts=(image, TextPart(text=question))),), options

    def _follow(self, stream: GenerationStream) -> Generation | None:
        for item in stream:
            if isinstance(item, Generation):
                return item
            if isinstance(item, QueuePosition):
                self._job.enter("queued", f"{item.before} before you.", before=item.before)
                continue
            if self._job.state != "running":
                seconds_left = self._watch.answer_s if self._narrator is not None else None
                self._job.enter("running", "Writing…", seconds_left=seconds_left)
            self._tell(item)
        return None

    def _tell(self, piece: Piece) -> None:
        self.text += piece.text
        if self._narrator is None:
            if piece.text:
                self._job.tell("text", text=piece.text)
            return
        for part in self._narrator.push(piece.text):
            if isinstance(part, Finding):
                self._job.tell("finding", name=part.name, label=part.label, words=part.words)
            else:
                self._job.tell("text", text=part.text)

    def _finish(self, generation: Generation | None, seconds: float) -> None:
        if self._job.is_cancelled:
            self._job.enter("cancelled", "Cancelled.")
        elif generation is None or generation.finish_reason == "cancelled":
            # Nobody here cancelled it: the engine is being stopped.
            raise EngineUnavailableError("The engine ended without an answer.")
        elif generation.finish_reason in {"length", "deadline"}:
            raise AssessmentError(f"The model did not finish: {generation.finish_reason}.")
        else:
            if self._narrator is not None:
                assessment_from_json(generation.text)
                self._watch.remember_run(seconds)
            self._job.enter("done", self._keep(generation.text))
