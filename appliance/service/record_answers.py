"""What the model wrote, in the records: each answer bound to its photo, saved before the screen says that it is done.

A cancelled or failed one is kept as what it is, with however much was written. It asks nothing of the engine.
"""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA
from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    Content,
    NurseImpressionContent,
)
from appliance.records.errors import LockedError, NotSavedError
from appliance.records.store import RecordStore, new_id
from appliance.service.answers import Answer
from appliance.service.errors import LimitError

_RAW_MAX_CHARACTERS: Final = 100_000
_DIGEST_CHARACTERS: Final = 16


class RecordAnswers:
    """Keeps answers in the records; every method may be called from any thread."""

    def __init__(self, records: Callable[[], RecordStore]) -> None:
        """Take the records, locked or not, from a function that raises a sentence when there are none."""
        self._records = records

    def require_room(self) -> None:
        """Refuse another answer while there is too little room for it: the clinic can do without.

        Raises:
            LimitError: There is.
        """
        if self._records().space().level in {"short", "full"}:
            raise LimitError("The disk is nearly full, so the model writes nothing more. Photos come first.")

    def keep(self, answer: Answer) -> None:
        """Save an answer, and before the first one of a lesion that the nurse stated no impression.

        Raises:
            NotSavedError: It was not kept, for the reason that the sentence says.
        """
        store = self._records()
        rows = store.clear_rows(CapturedImageContent, capture_id=answer.capture_id)
        if not rows:
            raise NotSavedError("The answer was not saved: its photo is not in the records.")
        # Which lesion the photo shows is said of the photo, and may have been said after it was taken.
        place = {"encounter_id": answer.encounter_id, "lesion_id": rows[0].parents["lesion_id"]}
        records: list[tuple[Content, str, dict[str, str | None], bytes | None]] = []
        impressions = store.clear_rows(NurseImpressionContent, encounter_id=answer.encounter_id)
        if all(row.parents["lesion_id"] != place["lesion_id"] for row in impressions):
            records.append((NurseImpressionContent(is_stated=False), new_id(), place, None))
        records.append((_content(answer), new_id(), {**place, "capture_id": answer.capture_id}, None))
        store.add_all(records, None)

    def of_capture(self, encounter_id: str, capture_id: str) -> tuple[Answer, ...]:
        """Return the whole answers about a photo, in their order; none that cannot be opened while locked."""
        store, found = self._records(), []
        for row in store.clear_rows(AssessmentContent, encounter_id=encounter_id):
            if row.parents["capture_id"] != capture_id:
                continue
            try:
                content = store.get(AssessmentContent, row.record_id).content
            except LockedError:
                continue
            if content.status == "final":
                found.append(_answer(content, encounter_id, capture_id))
        return tuple(found)


def prompt_version(question: str | None) -> str:
    """Name what the model was asked by its digest: nobody has to remember to count a version up."""
    if question is not None:
        return "question, as it stands"
    asked = ASSESSMENT_PROMPT.encode() + msgspec.json.encode(ASSESSMENT_SCHEMA, order="deterministic")
    return f"assessment {hashlib.sha256(asked).hexdigest()[:_DIGEST_CHARACTERS]}"


def _content(answer: Answer) -> AssessmentContent:
    is_assessment = answer.question is None and answer.status == "final"
    return AssessmentContent(
        statement=msgspec.json.decode(answer.raw_text, type=dict) if is_assessment else {},
        raw_text=answer.raw_text[:_RAW_MAX_CHARACTERS],
        model=answer.model,
        providers=answer.providers,
        prompt_version=prompt_version(answer.question),
        status=answer.status,
        question=answer.question or "",
        capture_sha256=answer.capture_sha256,
        asked_by=answer.asked_by or "",
        told=answer.told,
    )


def _answer(content: AssessmentContent, encounter_id: str, capture_id: str) -> Answer:
    return Answer(
        capture_id=capture_id,
        encounter_id=encounter_id,
        capture_sha256=content.capture_sha256,
        question=content.question or None,
        status=content.status,
        raw_text=content.raw_text,
        model=content.model,
        providers=content.providers,
        asked_by=content.asked_by or None,
    )
