"""What is asked of the engine about kept photos: encoding at once, the assessment, follow-up questions; one at a time.

The engine may die at any moment. Then what was shown of an answer is withdrawn, the job waits, and it runs again by
itself once the engine is back. Each question is composed afresh from the photo: the model was not made for long talks.
Source: `web/DESIGN.md`, "A waiting job is not a failed one"; MedGemma 1.5's model card (several turns not evaluated).
"""

import logging
import queue
import threading
from typing import Final, Literal, Protocol, Self

from appliance.assessment import AssessmentError
from appliance.errors import DermstationError, EngineUnavailableError, ImageError, PromptError
from appliance.records.content import AssessmentStatus
from appliance.service.answers import SAVED_WORDS, Answer, AnswerStore, job_of
from appliance.service.attempt import Attempt, Engine
from appliance.service.engine_watch import EngineWatch
from appliance.service.errors import LimitError, NotFoundError
from appliance.service.jobs import Job
from appliance.types import CapturedImage

logger = logging.getLogger(__name__)

QUESTION_MAX_CHARACTERS: Final = 200
_JOBS_MAX: Final = 256
_WAITING_MAX: Final = 16
_RETRY_S: Final = 1.0
_DEATHS_MAX: Final = 3
"""An engine that dies so often over one photo will do so again."""
_POLL_S: Final = 0.5

WAITING_WORDS: Final = "The model is away. The answer comes by itself when it is back."
UNUSABLE_WORDS: Final = "The model's answer was not usable and is not shown. Ask again."


class Questions:
    """The jobs of the open encounter; a context manager that owns the thread which runs them."""

    def __init__(self, engine: Engine, watch: EngineWatch, answers: AnswerStore | None = None) -> None:
        """Ask an engine.

        Args:
            engine: Whom to ask.
            watch: How it is.
            answers: Where answers are kept; None keeps none, and says so by not saying that they are.
        """
        self._engine = engine
        self._watch = watch
        self._answers = answers
        self._jobs: dict[str, Job] = {}
        # Held from the look at the jobs to the new one: two screens must not ask the same thing twice.
        self._lock = threading.RLock()
        self._waiting: queue.Queue[tuple[Job, CapturedImage] | None] = queue.Queue(_WAITING_MAX)
        # A photo to encode; FORGET for all of them to be forgotten; None for the thread to end.
        self._photos: queue.Queue[bytes | Literal["forget"] | None] = queue.Queue(_WAITING_MAX)
        self._stop = threading.Event()
        self._threads = (
            threading.Thread(target=self._work, name="questions", daemon=True),
            threading.Thread(target=self._encode, name="encode-on-capture", daemon=True),
        )

    def __enter__(self) -> Self:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what is left and stop the threads."""
        self._stop.set()
        self.forget_all()
        for waiting in (self._waiting, self._photos):
            try:
                waiting.put_nowait(None)
            except queue.Full:
                logger.debug("queue is full at stop: its thread sees the stop event")
        for thread in self._threads:
            thread.join(5)

    def encode(self, image: CapturedImage) -> None:
        """Have a photo encoded in the background, so that its answer can start at once; never waits."""
        try:
            self._photos.put_nowait(image.content)
        except queue.Full:
            logger.info("encoding on capture skipped: queue is full")

    def forget_photos(self) -> None:
        """Have the engine forget the photos of a visit that is over, in the background; never waits."""
        try:
            while self._photos.get_nowait() is not None:
                pass
            self._photos.put_nowait(None)  # it was the end of the thread: leave it there
        except queue.Empty:
            self._photos.put("forget")

    def assess(self, image: CapturedImage, *, again: bool = False, asked_by: str | None = None) -> Job:
        """Ask for a photo's assessment; the job there is already is returned unless it failed and `again` is set.

        Raises:
            LimitError: Too many questions wait, or there is no room for another answer.
        """
        with self._lock:
            self._recall(image)
            known = [job for job in self._jobs.values() if job.capture_id == image.capture_id and job.question is None]
            if known and not (again and known[-1].state in {"failed", "cancelled"}):
                return known[-1]
            return self._submit(image, None, asked_by)

    def ask(self, image: CapturedImage, question: str, *, asked_by: str | None = None) -> Job:
        """Ask a follow-up question about a photo.

        Raises:
            PromptError: The question is empty or too long.
            LimitError: Too many questions wait, or there is no room for another answer.
        """
        question = " ".join(question.split())
        if not question:
            raise PromptError("The question is empty.")
        if len(question) > QUESTION_MAX_CHARACTERS:
            raise PromptError(f"The question has {len(question)} characters; at most {QUESTION_MAX_CHARACTERS} fit.")
        return self._submit(image, question, asked_by)

    def follow_ups(self, image: CapturedImage) -> tuple[Job, ...]:
        """Return the follow-up questions that were asked about a photo, in their order."""
        with self._lock:
            self._recall(image)
            return tuple(job for job in self._jobs.values() if job.capture_id == image.capture_id and job.question)

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: There is none, any more.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError("This answer is not kept any more: its visit is closed.")
        return job

    def forget_encounter(self, encounter_id: str) -> None:
        """Cancel and drop an encounter's jobs."""
        self._forget(lambda job: job.encounter_id == encounter_id)

    def forget_all(self) -> None:
        """Cancel and drop every job."""
        self._forget(lambda _: True)

    def _forget(self, is_meant: "_JobFilter") -> None:
        with self._lock:
            meant = [job for job in self._jobs.values() if is_meant(job)]
            for job in meant:
                del self._jobs[job.job_id]
        for job in meant:
            job.cancel()

    def _recall(self, image: CapturedImage) -> None:
        """Bring back what was answered about a photo before the box was started."""
        if self._answers is None or any(job.capture_id == image.capture_id for job in self._jobs.values()):
            return
        for answer in self._answers.of_capture(image.encounter_id, image.capture_id):
            job = job_of(answer)
            self._jobs[job.job_id] = job

    def _submit(self, image: CapturedImage, question: str | None, asked_by: str | None) -> Job:
        if self._answers is not None:
            self._answers.require_room()
        job = Job(image.capture_id, image.encounter_id, question)
        job.asked_by = asked_by
        with self._lock:
            if len(self._jobs) >= _JOBS_MAX:
                raise LimitError("This visit has too many questions; close it and open a new one.")
            self._jobs[job.job_id] = job
        if self._watch.status.state == "ready":
            job.enter("queued", "The model is asked.")
        else:
            job.enter("waiting", WAITING_WORDS)
        try:
            self._waiting.put_nowait((job, image))
        except queue.Full:
            job.enter("failed", "Too many questions wait. Try again in a moment.")
        return job

    def _encode(self) -> None:
        while (content := self._photos.get()) is not None and not self._stop.is_set():
            try:
                if self._watch.status.state != "ready":
                    continue  # an engine that comes later knows no photos
                if content == "forget":
                    self._engine.forget_images()
                else:
                    self._engine.encode_image(content)
            except DermstationError as error:
                # Only a head start is lost: the question itself brings the photo again; a later photo pushes this out.
                logger.info("encoding on capture failed: error=%s", error)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stop.is_set():
            job, image = item
            try:
                self._run_until_over(job, image)
            except Exception:  # the thread's edge: one broken job must not stop those after it
                logger.exception("job failed unexpectedly")
                job.tell("reset")
                job.enter("failed", "Something went wrong with this answer. Ask again.")

    def _run_until_over(self, job: Job, image: CapturedImage) -> None:
        deaths, written = 0, ""
        status: AssessmentStatus | None = None
        while not job.is_over:
            if not self._wait_for_engine(job):
                break
            attempt = Attempt(
                self._engine, self._watch, job, image.content, lambda text: self._kept(job, image, "final", text)
            )
            try:
                attempt.run()
            except EngineUnavailableError as error:
                logger.warning("engine lost during a job: error=%s", error)
                job.tell("reset")
                deaths += attempt.has_begun
                self._watch.look_again()
                if deaths >= _DEATHS_MAX:
                    job.enter("failed", "The model stopped three times on this photo. Ask again later.")
                else:
                    self._say_away()
                    job.wait_cancelled(_RETRY_S)
            except AssessmentError as error:
                logger.warning("answer refused: error=%s", error)
                status = "unusable"
                job.tell("reset")
                job.enter("failed", UNUSABLE_WORDS)
            except (ImageError, PromptError) as error:
                job.tell("reset")
                job.enter("failed", str(error))
            written = attempt.text or written
        if job.state != "done" and (written or job.state == "failed"):
            self._kept(job, image, status or ("cancelled" if job.state == "cancelled" else "failed"), written)

    def _kept(self, job: Job, image: CapturedImage, status: AssessmentStatus, text: str) -> str:
        """Keep what was written, and return the sentence for the screen."""
        if self._answers is None:
            return "Done."
        model = self._watch.status
        answer = Answer(
            capture_id=image.capture_id, encounter_id=image.encounter_id, capture_sha256=image.sha256,
            question=job.question, status=status, raw_text=text, told="" if status == "final" else job.words,
            model=" ".join(filter(None, (model.name, model.sha256))), providers=model.providers, asked_by=job.asked_by,
        )  # fmt: skip
        try:
            self._answers.keep(answer)
        except DermstationError as error:
            logger.warning("answer not saved: status=%s error=%s", status, type(error).__name__)
            return f"Done. {error}"
        return SAVED_WORDS

    def _wait_for_engine(self, job: Job) -> bool:
        """Wait until there is an engine to ask; False when the job ended meanwhile."""
        while not self._watch.wait_ready(_POLL_S):
            if job.is_cancelled or self._stop.is_set():
                break
            self._say_away()
        if job.is_cancelled or self._stop.is_set():
            job.enter("cancelled", "Cancelled.")
            return False
        return True

    def _say_away(self) -> None:
        """Tell every job that is not over, those behind the first included, that the engine is away."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if not job.is_over and job.state != "waiting"]
        for job in jobs:
            job.enter("waiting", WAITING_WORDS)


class _JobFilter(Protocol):
    def __call__(self, job: Job, /) -> bool: ...
