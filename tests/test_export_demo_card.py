"""The accuracy card's arithmetic, on answers made by hand."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from demo_truths import BARE
from demo_truths import LESION as ULCER

from appliance.assessment import ASSESSMENT_PROMPT, FOLLOW_UP_QUESTIONS
from export.demo.answers import ANSWERABLE_QUESTIONS, assessment_answer, assessment_object, follow_up_answer
from export.demo.card import (
    ATTRIBUTES,
    Reply,
    Sample,
    assessment_scores,
    follow_up_scores,
    majority_scores,
    wrong_pairs,
)
from export.demo.evaluation import FOLLOW_UP_PICTURES, ask_all, assess_all, compose_card, scores_of
from export.demo.pictures import PictureSet
from export.demo.scene import Attributes

LESION = replace(ULCER, surface="flat")
GLARE = replace(LESION, quality="glare")


def _said(truth: Attributes, **wrong: object) -> str:
    return json.dumps({**assessment_object(truth), **wrong})


def test_right_answers_score_one_everywhere() -> None:
    truths = [LESION, BARE, GLARE]
    scores = assessment_scores([Sample(truth=truth, text=assessment_answer(truth)) for truth in truths])
    assert scores["attributes"] == dict.fromkeys(ATTRIBUTES, 1.0)
    assert set(scores["each_colour"].values()) == {1.0}
    assert (scores["mean"], scores["valid"], scores["all_right"]) == (1.0, 1.0, 1.0)
    assert scores["skin_tones"] == {"light": 1.0, "dark": 1.0, "Monk 1": 1.0, "Monk 9": 1.0}


def test_one_wrong_attribute_costs_its_share() -> None:
    samples = [
        Sample(truth=LESION, text=assessment_answer(LESION)),
        Sample(truth=LESION, text=_said(LESION, surface="raised")),
    ]
    scores = assessment_scores(samples)
    assert scores["attributes"]["surface"] == 0.5
    assert scores["mean"] == 1 - 0.5 / 8
    assert scores["all_right"] == 0.5
    assert wrong_pairs(samples, "surface") == [("flat -> raised", 1)]


def test_a_missing_colour_spoils_the_set_and_one_colour() -> None:
    scores = assessment_scores([Sample(truth=LESION, text=_said(LESION, colours=["dark brown"]))])
    assert scores["attributes"]["colours"] == 0.0
    assert scores["each_colour"] == {
        "light brown": 1.0,
        "dark brown": 1.0,
        "black": 1.0,
        "red": 0.0,
        "blue-grey": 1.0,
        "white": 1.0,
    }


def test_order_of_colours_does_not_matter() -> None:
    scores = assessment_scores([Sample(truth=LESION, text=_said(LESION, colours=["red", "dark brown"]))])
    assert scores["attributes"]["colours"] == 1.0


def test_text_that_is_no_assessment_is_wrong_in_everything() -> None:
    scores = assessment_scores([Sample(truth=LESION, text="I see a spot.")])
    assert set(scores["attributes"].values()) == {0.0}
    assert (scores["valid"], scores["all_right"]) == (0.0, 0.0)


def test_only_the_quality_of_a_spoilt_picture_is_asked_for() -> None:
    samples = [Sample(truth=LESION, text=assessment_answer(LESION)), Sample(truth=GLARE, text=_said(GLARE))]
    wrong = Sample(truth=GLARE, text=_said(GLARE, quality="blurred"))
    scores = assessment_scores([*samples, wrong])
    assert scores["attributes"]["quality"] == round(2 / 3, 4)
    assert scores["attributes"]["surface"] == 1.0


def test_lesion_where_there_is_none_is_a_wrong_number() -> None:
    stated = assessment_answer(replace(LESION, monk_tone=1))
    scores = assessment_scores([Sample(truth=BARE, text=stated), Sample(truth=LESION, text=assessment_answer(LESION))])
    assert scores["attributes"]["number"] == 0.5
    assert scores["attributes"]["skin_tone"] == 1.0


def test_skin_tones_are_scored_apart() -> None:
    fair = replace(LESION, monk_tone=2)
    samples = [
        Sample(truth=LESION, text=_said(LESION, surface="scaly")),
        Sample(truth=fair, text=assessment_answer(fair)),
    ]
    assert assessment_scores(samples)["skin_tones"] == {
        "light": 1.0,
        "dark": 1 - 1 / 8,
        "Monk 2": 1.0,
        "Monk 9": 1 - 1 / 8,
    }


def test_majority_says_the_commonest_value() -> None:
    scores = majority_scores([LESION, LESION, replace(LESION, surface="raised"), BARE])
    assert scores["attributes"]["surface"] == round(2 / 3, 4)
    assert scores["attributes"]["number"] == 0.75


def test_follow_ups_are_right_word_for_word() -> None:
    question = FOLLOW_UP_QUESTIONS[2]
    replies = [Reply(truth=LESION, question=question, text=text) for text in ("3 to 6 mm.", " 3 to 6 mm.\n", "4 mm.")]
    assert follow_up_scores(replies) == {question: round(2 / 3, 4)}


def test_card_sets_runs_side_by_side() -> None:
    count = FOLLOW_UP_PICTURES
    pictures = PictureSet(
        pixels=np.zeros((count, 160, 160, 3), np.uint8),
        maps=np.zeros((count, 9, 10, 10), np.uint8),
        attributes=(LESION,) * count,
    )

    def speak(pixels: npt.NDArray[np.uint8], question: str) -> Iterator[str]:
        answer = assessment_answer(LESION) if question == ASSESSMENT_PROMPT else follow_up_answer(question, LESION)
        return (answer for _ in pixels)

    answered: list[None] = []
    samples = assess_all(speak, pictures, 10, lambda: answered.append(None))
    replies = ask_all(speak, pictures, lambda: answered.append(None))
    scores = scores_of(samples, replies)
    card = compose_card(pictures, 10, {"float32": scores, "quantized": scores}, "2026-11-22")
    assert len(answered) == 10 + len(ANSWERABLE_QUESTIONS) * count
    assert card["mean"] == {"majority": 1.0, "float32": 1.0, "quantized": 1.0}
    assert card["attributes"]["border"] == {"majority": 1.0, "float32": 1.0, "quantized": 1.0}
    assert card["follow_ups"][FOLLOW_UP_QUESTIONS[0]] == {"float32": 1.0, "quantized": 1.0}
    assert json.loads(json.dumps(card)) == card
