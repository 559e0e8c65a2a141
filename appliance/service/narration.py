"""The model's JSON, told to a person while it is being written: rows of findings, then the description by letters.

It trusts nothing: only known keys with values of the closed vocabularies become rows, in our words. Whether the whole
is an assessment is decided at the end, by `assessment_from_json`; what was told before is withdrawn if it is not.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.assessment import (
    ASYMMETRIES,
    BORDERS,
    COLOURS,
    DESCRIPTION_MAX_LENGTH,
    DIAMETERS_MM,
    NUMBERS,
    QUALITIES,
    SKIN_TONES,
    SURFACES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row: what was looked at, and what the model says of it in plain words."""

    name: str
    """Key of the assessment."""
    label: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of the description."""

    text: str


def _words(values: tuple[str, ...], *words: str) -> dict[str, str]:
    return dict(zip(values, words, strict=True))


_LABELS: Final = {
    "quality": "Picture",
    "skin_tone": "Skin",
    "number": "Lesions",
    "asymmetry": "Shape",
    "border": "Border",
    "colours": "Colours",
    "diameter_mm": "Size",
    "surface": "Surface",
}
_WORDS: Final = {
    "quality": _words(QUALITIES, "good enough", "blurred", "too dark", "glare on the skin"),
    "skin_tone": _words(SKIN_TONES, "light tone", "medium tone", "dark tone"),
    "number": _words(NUMBERS, "none seen", "one", "several"),
    "asymmetry": _words(ASYMMETRIES, "symmetric", "asymmetric in one axis", "asymmetric in two axes"),
    "border": _words(BORDERS, "regular", "irregular"),
    "colours": {colour: colour for colour in COLOURS},
    "diameter_mm": _words(DIAMETERS_MM, "under 3 mm", "3 to 6 mm", "6 to 10 mm", "over 10 mm"),
    "surface": _words(SURFACES, "flat", "raised", "scaly", "ulcerated"),
}
_DESCRIPTION: Final = "description"
_KEY: Final = re.compile(r'[\s{,]*"([a-z_]+)"\s*:\s*')
_UNFINISHED_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{0,3})?$")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_HIGH_SURROGATE: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(\\(u[0-9a-fA-F]{0,3})?)?$")


class AssessmentNarrator:
    """Reads one assessment as it comes; bounded by what an assessment may hold."""

    def __init__(self) -> None:
        self._text = ""
        self._position = 0
        self._told = 0
        """Characters of the description that were told."""
        self._is_in_description = False
        self._decoder = json.JSONDecoder()

    @property
    def text(self) -> str:
        """All that was pushed."""
        return self._text

    def push(self, text: str) -> Iterator[Finding | Text]:
        """Take the next piece of JSON and yield what it completes."""
        self._text += text
        while not self._is_in_description:
            key = _KEY.match(self._text, self._position)
            if key is None:
                return
            if key[1] == _DESCRIPTION:
                self._is_in_description = True
                self._position = key.end()
                break
            try:
                value, end = self._decoder.raw_decode(self._text, key.end())
            except json.JSONDecodeError:
                return
            self._position = end
            yield from _finding(key[1], value)
        yield from self._describe()

    def _describe(self) -> Iterator[Text]:
        # The blank after the colon may come with the next piece.
        described = _string_so_far(self._text[self._position :].lstrip())[:DESCRIPTION_MAX_LENGTH]
        if len(described) > self._told:
            yield Text(text=described[self._told :])
            self._told = len(described)


def _finding(name: str, value: Any) -> Iterator[Finding]:
    values = value if isinstance(value, list) else [value]
    vocabulary = _WORDS.get(name)
    if not values or vocabulary is None or not all(isinstance(item, str) and item in vocabulary for item in values):
        return
    yield Finding(name=name, label=_LABELS[name], words=", ".join(vocabulary[item] for item in values))


def _string_so_far(source: str) -> str:
    """Decode the beginning of a JSON string that may not be finished: whole characters only."""
    if not source.startswith('"'):
        return ""
    body = re.match(r'(?:[^"\\]|\\.)*', source[1:], re.DOTALL)
    inner = body[0] if body is not None else ""
    is_finished = source[1 + len(inner) :].startswith('"')
    for unfinished in () if is_finished else (_HIGH_SURROGATE, _UNFINISHED_ESCAPE):
        inner = unfinished.sub("", inner)
    try:
        decoded = json.loads(f'"{inner}"', strict=False)
    except json.JSONDecodeError:
        return ""
    # Half a pair that stays half is no character: it could not even be sent to the screen.
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", decoded) if isinstance(decoded, str) else ""
