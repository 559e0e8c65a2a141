"""What becomes of an answer once the model has written it: the protocol between the jobs and whoever keeps them.

It knows neither the engine nor the records, so that a station without records needs none.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from appliance.records.content import AssessmentStatus
from appliance.service.jobs import Job
from appliance.service.narration import AssessmentNarrator, Finding

SAVED_WORDS: Final = "Done. Saved in this visit."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model wrote about one photo, and with what."""

    capture_id: str
    encounter_id: str
    capture_sha256: str
    question: str | None
    """None for the assessment itself."""
    status: AssessmentStatus
    raw_text: str
    told: str = ""
    """The sentence with which it ended, where it did not end well."""
    model: str = ""
    """Name and digest of the bundle."""
    providers: tuple[str, ...] = ()
    """Execution providers that ran it."""
    asked_by: str | None = None
    """Id of the user who asked."""


class AnswerStore(Protocol):
    """Where answers are kept."""

    def require_room(self) -> None:
        """Refuse another answer while there is too little room for it.

        Raises:
            LimitError: There is.
        """

    def keep(self, answer: Answer) -> None:
        """Keep an answer; once this returns, it is kept.

        Raises:
            NotSavedError: It was not, for the reason that the sentence says.
        """

    def of_capture(self, encounter_id: str, capture_id: str) -> tuple[Answer, ...]:
        """Return the whole answers about a photo that can be read, in their order."""


def job_of(answer: Answer) -> Job:
    """Make the job that a kept answer came from: over, and told as it was told then."""
    job = Job(answer.capture_id, answer.encounter_id, answer.question)
    if answer.question is not None:
        job.tell("text", text=answer.raw_text)
    else:
        for part in AssessmentNarrator().push(answer.raw_text):
            if isinstance(part, Finding):
                job.tell("finding", name=part.name, label=part.label, words=part.words)
            else:
                job.tell("text", text=part.text)
    job.enter("done", SAVED_WORDS)
    return job
