"""Measures a speaker on held-out drawings and puts the figures of several together in one card."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from appliance.assessment import ASSESSMENT_PROMPT
from export.demo.answers import ANSWERABLE_QUESTIONS
from export.demo.card import Reply, Sample, assessment_scores, follow_up_scores, majority_scores
from export.demo.pictures import HELD_OUT_STREAM, PictureSet
from export.demo.speakers import Speaker

FOLLOW_UP_PICTURES: Final = 300
"""Pictures that every answerable question is asked about; the first of the set."""

CARD_NOTE: Final = (
    "Shares of right statements about held-out procedural drawings. They say nothing about real skin: the model was "
    "trained on drawings only."
)


def assess_all(speaker: Speaker, pictures: PictureSet, count: int, on_answer: Callable[[], None]) -> list[Sample]:
    """Have the first `count` pictures assessed."""
    samples = []
    answers = speaker(pictures.pixels[:count], ASSESSMENT_PROMPT)
    for truth, text in zip(pictures.attributes[:count], answers, strict=True):
        samples.append(Sample(truth=truth, text=text))
        on_answer()
    return samples


def ask_all(speaker: Speaker, pictures: PictureSet, on_answer: Callable[[], None]) -> list[Reply]:
    """Have every answerable question answered about the first pictures."""
    replies = []
    for question in ANSWERABLE_QUESTIONS:
        answers = speaker(pictures.pixels[:FOLLOW_UP_PICTURES], question)
        for truth, text in zip(pictures.attributes[:FOLLOW_UP_PICTURES], answers, strict=True):
            replies.append(Reply(truth=truth, question=question, text=text))
            on_answer()
    return replies


def scores_of(samples: list[Sample], replies: list[Reply]) -> dict[str, Any]:
    """Return all shares of one speaker."""
    return {**assessment_scores(samples), "follow_ups": follow_up_scores(replies)}


def compose_card(pictures: PictureSet, count: int, measured: Mapping[str, dict[str, Any]], date: str) -> dict[str, Any]:
    """Return the card: every figure beside the majority guess and beside its counterpart of the other runs.

    Args:
        pictures: The held-out set.
        count: How many of its pictures were assessed.
        measured: Scores by the name of the run, such as `float32` and `quantized`.
        date: Day of the measurement, ISO 8601.
    """
    majority = majority_scores(pictures.attributes[:count])
    runs = {"majority": majority, **measured}
    return {
        "note": CARD_NOTE,
        "measured_on": date,
        "held_out_stream": HELD_OUT_STREAM,
        "pictures": count,
        "pictures_per_follow_up": FOLLOW_UP_PICTURES,
        "mean": {run: scores["mean"] for run, scores in runs.items()},
        **{part: _side_by_side(part, runs) for part in ("attributes", "each_colour", "skin_tones", "follow_ups")},
        "valid": {run: scores["valid"] for run, scores in measured.items()},
        "all_right": {run: scores["all_right"] for run, scores in measured.items()},
    }


def _side_by_side(part: str, runs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Turn run -> name -> share into name -> run -> share."""
    rows: dict[str, dict[str, float]] = {}
    for run, scores in runs.items():
        for name, share in scores.get(part, {}).items():
            rows.setdefault(name, {})[run] = share
    return rows
