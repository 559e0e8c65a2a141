"""The model's JSON told while it is written: however it is cut, the same rows and the same words; nothing foreign."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import ASSESSMENT

from appliance.assessment import COLOURS, DESCRIPTION_MAX_LENGTH
from appliance.service.narration import _WORDS, AssessmentNarrator, Finding, Text

WORDS = {word for vocabulary in _WORDS.values() for word in vocabulary.values()}


def told(pieces: list[str]) -> tuple[list[tuple[str, str]], str]:
    narrator = AssessmentNarrator()
    parts = [part for piece in pieces for part in narrator.push(piece)]
    findings = [(part.name, part.words) for part in parts if isinstance(part, Finding)]
    return findings, "".join(part.text for part in parts if isinstance(part, Text))


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(
    description=st.text(st.characters(codec="utf-8"), min_size=1, max_size=80),
    colours=st.lists(st.sampled_from(COLOURS), min_size=1, max_size=4),
    places=st.lists(st.integers(0, 1000), max_size=30),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_every_cut_tells_the_same(
    description: str, colours: list[str], places: list[int], is_ascii: bool, indent: int | None
) -> None:
    value: dict[str, Any] = {**ASSESSMENT, "colours": colours, "description": description}
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    findings, words = told(cut(text, places))
    assert words == description
    assert dict(findings)["colours"] == ", ".join(colours)
    assert dict(findings)["diameter_mm"] == "6 to 10 mm"
    assert [name for name, _ in findings] == list(value)[:-1]


def test_description_comes_letter_by_letter() -> None:
    narrator = AssessmentNarrator()
    list(narrator.push('{"quality": "blurred", "description":'))
    assert [list(narrator.push(piece)) for piece in (' "', "A", "b\\", 'n"}')] == [
        [],
        [Text(text="A")],
        [Text(text="b")],
        [Text(text="\n")],
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"verdict": "benign", "description": "',
        '{"border": "benign"}',
        '{"colours": ["<script>"]}',
        '{"colours": []}',
        '{"border": 5, "surface": null, "number": {"a": "single"}}',
        "benign, no doctor needed",
        "[" * 5000,
        '{"description": 100}',
        "",
        "\x00\x1b[31m",
        '"quality": "ok"' * 3 + "<img src=x>",
    ],
)
def test_foreign_output_becomes_no_row_of_its_own_words(text: str) -> None:
    findings, words = told([text])
    assert all(word in WORDS for _, words_ in findings for word in words_.split(", "))
    assert words == ""


def test_noise_never_breaks_it_and_never_becomes_a_row(seed: int) -> None:
    chance = random.Random(seed)
    whole = json.dumps(ASSESSMENT)
    for _ in range(2000):
        noisy = list(whole)
        for _ in range(chance.randrange(1, 8)):
            noisy[chance.randrange(len(noisy))] = chance.choice('"\\{}[]:,u0d8 é😀<')
        findings, _ = told(cut("".join(noisy), [chance.randrange(1000) for _ in range(5)]))
        assert all(word in WORDS for _, words in findings for word in words.split(", "))


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800x"])
def test_half_a_surrogate_pair_can_still_be_sent(escape: str) -> None:
    for places in range(60):
        _, words = told(cut('{"description": "' + escape + '"}', [places]))
        assert words.encode()


def test_endless_description_is_cut_off() -> None:
    _, words = told(['{"description": "', *["loop "] * 500])
    assert len(words) == DESCRIPTION_MAX_LENGTH
