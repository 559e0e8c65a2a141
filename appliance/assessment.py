"""The model's statement about one lesion: its prompt, its JSON schema and its strict reader.

Model text has no authority here: it is read into closed vocabularies, and anything else is refused. What a statement
means for urgency is decided elsewhere, by rules.
Source: ABCD rule of dermoscopy (asymmetry in no, one or two axes; border; colours) and the clinic photo standard.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.errors import DermstationError

ASSESSMENT_PROMPT: Final = "Assess this picture of the skin. Answer with JSON."

QUALITIES: Final = ("ok", "blurred", "too dark", "glare")
SKIN_TONES: Final = ("light", "medium", "dark")
NUMBERS: Final = ("none", "single", "several")
ASYMMETRIES: Final = ("symmetric", "one axis", "two axes")
BORDERS: Final = ("regular", "irregular")
COLOURS: Final = ("light brown", "dark brown", "black", "red", "blue-grey", "white")
DIAMETERS_MM: Final = ("<3", "3-6", "6-10", ">10")
SURFACES: Final = ("flat", "raised", "scaly", "ulcerated")
DESCRIPTION_MAX_LENGTH: Final = 400

FOLLOW_UP_QUESTIONS: Final = (
    "Is the picture good enough?",
    "How many lesions are there?",
    "How large is the lesion?",
    "Which colours does it have?",
    "Is the border regular?",
)
"""What the kiosk offers to ask; any other question may be typed."""


def _one_of(values: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_FINDINGS: Final[dict[str, Any]] = {
    "skin_tone": _one_of(SKIN_TONES),
    "number": _one_of(NUMBERS),
    "asymmetry": _one_of(ASYMMETRIES),
    "border": _one_of(BORDERS),
    "colours": {"type": "array", "items": _one_of(COLOURS), "minItems": 1, "maxItems": len(COLOURS)},
    "diameter_mm": _one_of(DIAMETERS_MM),
    "surface": _one_of(SURFACES),
}
_DESCRIPTION: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": DESCRIPTION_MAX_LENGTH}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


ASSESSMENT_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "dermstation assessment",
    # Three closed shapes, so that what cannot be seen cannot be stated.
    "anyOf": [
        _object(
            {"quality": _one_of(("ok",)), **_FINDINGS, "number": _one_of(NUMBERS[1:]), "description": _DESCRIPTION}
        ),
        _object(
            {
                "quality": _one_of(("ok",)),
                "skin_tone": _one_of(SKIN_TONES),
                "number": _one_of(NUMBERS[:1]),
                "description": _DESCRIPTION,
            }
        ),
        _object({"quality": _one_of(QUALITIES[1:]), "description": _DESCRIPTION}),
    ],
}
"""JSON schema (draft 2020-12) that constrains the model; property order is the order in which it writes."""


class AssessmentError(DermstationError):
    """The model's text is not an assessment; it is kept for the audit and not shown as a finding."""

    message_key = "error.assessment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What the model states about one picture; `None` where it states nothing."""

    quality: str
    skin_tone: str | None = None
    number: str | None = None
    asymmetry: str | None = None
    border: str | None = None
    colours: tuple[str, ...] = ()
    diameter_mm: str | None = None
    surface: str | None = None
    description: str

    @property
    def is_assessable(self) -> bool:
        """Whether the model found the picture good enough to describe."""
        return self.quality == "ok"


def assessment_from_json(text: str) -> Assessment:
    """Read one assessment, refusing everything that `ASSESSMENT_SCHEMA` does not allow.

    Raises:
        AssessmentError: The text is not JSON, has an unknown key, a missing key or a value outside its vocabulary.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise AssessmentError(f"The model's answer is not JSON: {error}.") from error
    for shape in ASSESSMENT_SCHEMA["anyOf"]:
        if _matches(value, shape):
            return Assessment(**{**value, "colours": tuple(value.get("colours", ()))})
    raise AssessmentError("The model's answer is JSON, but not one of the three shapes of an assessment.")


def _matches(value: object, schema: dict[str, Any]) -> bool:
    """Check the few JSON schema keywords that ASSESSMENT_SCHEMA uses; tests compare with a full validator."""
    match schema["type"]:
        case "object":
            properties = schema["properties"]
            return (
                isinstance(value, dict)
                and value.keys() == properties.keys()
                and all(_matches(value[key], properties[key]) for key in properties)
            )
        case "array":
            return (
                isinstance(value, list)
                and schema["minItems"] <= len(value) <= schema["maxItems"]
                and all(_matches(item, schema["items"]) for item in value)
            )
        case _:
            if not isinstance(value, str) or value not in schema.get("enum", [value]):
                return False
            return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
