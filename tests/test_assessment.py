"""The assessment's reader accepts exactly what its schema allows, as a full JSON schema validator sees it."""

import copy
import json
import random

import jsonschema
import pytest

from appliance.assessment import (
    ASSESSMENT_SCHEMA,
    ASYMMETRIES,
    BORDERS,
    COLOURS,
    DIAMETERS_MM,
    SKIN_TONES,
    SURFACES,
    AssessmentError,
    assessment_from_json,
)

VALIDATOR = jsonschema.Draft202012Validator(ASSESSMENT_SCHEMA)
FULL: dict[str, object] = {
    "quality": "ok",
    "skin_tone": SKIN_TONES[2],
    "number": "single",
    "asymmetry": ASYMMETRIES[1],
    "border": BORDERS[0],
    "colours": [COLOURS[0], COLOURS[3]],
    "diameter_mm": DIAMETERS_MM[3],
    "surface": SURFACES[0],
    "description": "A flat lesion.",
}
EMPTY: dict[str, object] = {
    "quality": "ok",
    "skin_tone": "light",
    "number": "none",
    "description": "No lesion is seen.",
}
BAD: dict[str, object] = {"quality": "blurred", "description": "Take another picture."}


@pytest.mark.parametrize("value", [FULL, EMPTY, BAD])
def test_each_shape_is_read(value: dict[str, object]) -> None:
    assessment = assessment_from_json(json.dumps(value))
    assert VALIDATOR.is_valid(value)
    assert assessment.description == value["description"]
    assert assessment.is_assessable == (value["quality"] == "ok")
    assert assessment.colours == tuple(value.get("colours", ()))  # type: ignore[arg-type]  # a list of strings here


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"ok"', "{}", '{"quality":"ok"}', json.dumps(FULL) + "x"])
def test_what_is_no_assessment_is_refused(text: str) -> None:
    with pytest.raises(AssessmentError):
        assessment_from_json(text)


def test_a_blurred_picture_cannot_carry_findings() -> None:
    with pytest.raises(AssessmentError):
        assessment_from_json(json.dumps({**FULL, "quality": "blurred"}))


def test_reader_agrees_with_the_validator_on_mutated_values(seed: int) -> None:
    generator = random.Random(seed)
    pool: list[object] = [
        None,
        1,
        True,
        "",
        "ok",
        "none",
        "light brown",
        "x" * 401,
        [],
        ["red"],
        ["pink"],
        {},
        ["red"] * 7,
    ]
    accepted = 0
    for _ in range(5_000):
        value: dict[str, object] = copy.deepcopy(generator.choice([FULL, EMPTY, BAD]))
        for _ in range(generator.randrange(3)):
            key = generator.choice([*FULL, "extra"])
            if generator.random() < 0.3:
                value.pop(key, None)
            else:
                value[key] = generator.choice(pool)
        try:
            assessment_from_json(json.dumps(value))
            read = True
        except AssessmentError:
            read = False
        assert read == VALIDATOR.is_valid(value), value
        accepted += read
    assert 0 < accepted < 5_000
