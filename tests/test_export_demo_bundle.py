"""What ships: the demonstration bundle with its card, and pictures that it answers rightly in our own runtime."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA, COLOURS, FOLLOW_UP_QUESTIONS
from appliance.demo import bundle_path, pictures_path
from appliance.medgemma.bundle import load_bundle
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import GenerationOptions, ImagePart, Message, TextPart
from export.demo.answers import OUT_OF_SCOPE, assessment_answer, follow_up_answer
from export.demo.card import ATTRIBUTES
from export.demo.shipped import SHIPPED, shipped_drawing
from export.demo.tokens import CHAT_TEMPLATE

_BUNDLE_MAX_BYTES = 15_000_000
_PICTURES_MAX_BYTES = 1_500_000


@pytest.fixture(scope="module")
def model() -> Iterator[MedGemma]:
    with MedGemma.load(bundle_path(), RuntimeOptions(threads=1)) as model:
        yield model


def _ask(model: MedGemma, stem: str, question: str, *, is_constrained: bool = False) -> str:
    parts = (ImagePart(content=(pictures_path() / f"{stem}.jpg").read_bytes()), TextPart(text=question))
    options = GenerationOptions(max_tokens=160, json_schema=ASSESSMENT_SCHEMA if is_constrained else None)
    *_, generation = model.generate([Message(role="user", parts=parts)], options)
    return str(getattr(generation, "text", ""))


def test_bundle_says_that_it_is_a_demonstration() -> None:
    manifest = load_bundle(bundle_path()).manifest
    assert manifest.warning == "demonstration model: trained on drawings, not for patients"
    assert manifest.licence.name == "Apache-2.0"
    assert manifest.chat_template == CHAT_TEMPLATE


def test_bundle_and_pictures_stay_small() -> None:
    assert sum(path.stat().st_size for path in bundle_path().iterdir()) < _BUNDLE_MAX_BYTES
    assert sum(path.stat().st_size for path in pictures_path().glob("*.jpg")) < _PICTURES_MAX_BYTES


def test_card_meets_what_was_asked_for() -> None:
    card = load_bundle(bundle_path()).manifest.card
    assert card is not None
    assert card["pictures"] >= 1000
    assert set(card["attributes"]) == set(ATTRIBUTES)
    assert set(card["each_colour"]) == set(COLOURS)
    assert card["mean"]["quantized"] >= 0.94
    assert card["mean"]["quantized"] >= card["mean"]["float32"] - 0.01
    assert min(shares["quantized"] for shares in card["attributes"].values()) >= 0.80
    assert min(card["follow_ups"][question]["quantized"] for question in FOLLOW_UP_QUESTIONS) >= 0.85
    assert min(shares["quantized"] for shares in card["skin_tones"].values()) >= card["mean"]["quantized"] - 0.04


def test_every_shipped_picture_is_there() -> None:
    assert {path.stem for path in pictures_path().glob("*.jpg")} == set(SHIPPED)


def test_shipped_picture_is_what_its_seed_draws() -> None:
    stem = next(iter(SHIPPED))
    with Image.open(pictures_path() / f"{stem}.jpg") as picture:
        stored = np.asarray(picture, np.float32)
    # JPEG of quality 89 blurs the grain and nothing else.
    assert np.abs(stored - shipped_drawing(stem).pixels).mean() < 5


@pytest.mark.parametrize("stem", SHIPPED)
def test_shipped_picture_is_assessed_rightly(model: MedGemma, stem: str) -> None:
    expected = assessment_answer(shipped_drawing(stem).attributes)
    assert _ask(model, stem, ASSESSMENT_PROMPT, is_constrained=True) == expected
    assert _ask(model, stem, ASSESSMENT_PROMPT) == expected


@pytest.mark.parametrize("stem", SHIPPED)
def test_follow_ups_about_a_shipped_picture_are_answered_rightly(model: MedGemma, stem: str) -> None:
    truth = shipped_drawing(stem).attributes
    answers = {question: _ask(model, stem, question) for question in FOLLOW_UP_QUESTIONS}
    assert answers == {question: follow_up_answer(question, truth) for question in FOLLOW_UP_QUESTIONS}


@pytest.mark.parametrize("question", ["Is it cancer?", "should i call a doctor", "WHO ARE YOU?"])
def test_question_that_no_picture_answers_is_declined(model: MedGemma, question: str) -> None:
    assert _ask(model, next(iter(SHIPPED)), question) == OUT_OF_SCOPE


@pytest.mark.parametrize(
    ("typed", "meant"), [("is the border regular", 4), ("How big is it?", 2), ("what colours do you see", 3)]
)
def test_question_may_be_typed_carelessly(model: MedGemma, typed: str, meant: int) -> None:
    truth = shipped_drawing("01-medium-raised").attributes
    assert _ask(model, "01-medium-raised", typed) == follow_up_answer(FOLLOW_UP_QUESTIONS[meant], truth)
