"""What the demonstration model is taught to say about a drawing whose truth is known.

The assessment is the product's JSON (`appliance.assessment`), compact, keys in schema order, with one sentence as its
last value. Questions get one short sentence.
"""

import json
from collections.abc import Callable
from typing import Final

from appliance.assessment import FOLLOW_UP_QUESTIONS
from export.demo.scene import Attributes

CANNOT_TELL: Final = "I cannot tell from this picture."
NO_LESION: Final = "There is no lesion."
OUT_OF_SCOPE: Final = "I can only answer questions about what is drawn in this picture."

_FAULTS: Final = {"blurred": "is blurred", "too dark": "is too dark", "glare": "has glare"}
_ASYMMETRY_PHRASES: Final = {
    "symmetric": "symmetric",
    "one axis": "asymmetric in one axis",
    "two axes": "asymmetric in two axes",
}
_SIZE_PHRASES: Final = {"<3": "under 3 mm", "3-6": "3 to 6 mm", "6-10": "6 to 10 mm", ">10": "over 10 mm"}


def assessment_answer(truth: Attributes) -> str:
    """Return the assessment of a drawing as one compact JSON object."""
    return json.dumps(assessment_object(truth), separators=(",", ":"))


def assessment_object(truth: Attributes) -> dict[str, str | list[str]]:
    """Return the assessment of a drawing; what cannot be seen is left out, as the schema demands."""
    if not truth.is_ok:
        fault = _FAULTS[truth.quality]
        return {
            "quality": truth.quality,
            "description": f"The picture {fault} and cannot be assessed. Please take another one.",
        }
    seen: dict[str, str | list[str]] = {
        "quality": truth.quality,
        "skin_tone": truth.skin_tone,
        "number": truth.number,
    }
    if not truth.has_lesion:
        return {**seen, "description": f"No lesion is seen on {truth.skin_tone} skin."}
    return {
        **seen,
        "asymmetry": str(truth.asymmetry),
        "border": str(truth.border),
        "colours": list(truth.colours),
        "diameter_mm": str(truth.diameter_mm),
        "surface": str(truth.surface),
        "description": _description(truth),
    }


def follow_up_answer(question: str, truth: Attributes) -> str:
    """Return the short answer to one of `ANSWERABLE_QUESTIONS`."""
    return _ANSWERS[question](truth)


def _description(truth: Attributes) -> str:
    article = "an" if truth.surface == "ulcerated" else "a"
    lead = f"Several lesions; the largest is {article}" if truth.number == "several" else article.capitalize()
    border = "an irregular" if truth.border == "irregular" else "a regular"
    return (
        f"{lead} {truth.surface} lesion of {_SIZE_PHRASES[str(truth.diameter_mm)]} on {truth.skin_tone} skin, "
        f"{_ASYMMETRY_PHRASES[str(truth.asymmetry)]}, with {border} border, coloured {_listed(truth.colours)}."
    )


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _is_good_enough(truth: Attributes) -> str:
    return "Yes." if truth.is_ok else f"No, it {_FAULTS[truth.quality]}."


def _how_many(truth: Attributes) -> str:
    if not truth.is_ok:
        return CANNOT_TELL
    return {"none": NO_LESION, "single": "One lesion.", "several": "Several lesions."}[truth.number]


def _about_lesion(say: Callable[[Attributes], str]) -> Callable[[Attributes], str]:
    """Answer only where there is a lesion that can be seen."""
    return lambda truth: CANNOT_TELL if not truth.is_ok else say(truth) if truth.has_lesion else NO_LESION


def _about_skin(truth: Attributes) -> str:
    return f"The skin is {truth.skin_tone}." if truth.is_ok else CANNOT_TELL


def _is_symmetric(truth: Attributes) -> str:
    answer = "Yes" if truth.asymmetry == "symmetric" else "No"
    return f"{answer}, it is {_ASYMMETRY_PHRASES[str(truth.asymmetry)]}."


def _is_regular(truth: Attributes) -> str:
    return "Yes, it is regular." if truth.border == "regular" else "No, it is irregular."


_FOLLOW_UP_ANSWERS: Final = (
    _is_good_enough,
    _how_many,
    _about_lesion(lambda truth: f"{_SIZE_PHRASES[str(truth.diameter_mm)]}.".capitalize()),
    _about_lesion(lambda truth: f"{_listed(truth.colours)}.".capitalize()),
    _about_lesion(_is_regular),
)
_ANSWERS: Final[dict[str, Callable[[Attributes], str]]] = {
    **dict(zip(FOLLOW_UP_QUESTIONS, _FOLLOW_UP_ANSWERS, strict=True)),
    "Is it symmetric?": _about_lesion(_is_symmetric),
    "What is its surface like?": _about_lesion(lambda truth: f"It is {truth.surface}."),
    "What is the skin tone?": _about_skin,
    "Describe the lesion.": _about_lesion(_description),
}

ANSWERABLE_QUESTIONS: Final = tuple(_ANSWERS)
"""The kiosk's follow-up questions first, then what people are likely to type beside them."""
