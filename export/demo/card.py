"""The accuracy card: how often a model's text about held-out drawings is right, attribute by attribute.

Works on pairs of truth and text, so that every runtime is judged alike. An answer that is no assessment is wrong in
every attribute. Attributes that a fault of the picture hides are not asked for.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.assessment import COLOURS, Assessment, AssessmentError, assessment_from_json
from export.demo.answers import follow_up_answer
from export.demo.scene import Attributes

ATTRIBUTES: Final = ("quality", "skin_tone", "number", "asymmetry", "border", "colours", "diameter_mm", "surface")
_LESION_ATTRIBUTES: Final = ATTRIBUTES[3:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One held-out drawing, and what a model wrote about it."""

    truth: Attributes
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One held-out drawing, a follow-up question about it, and what a model answered."""

    truth: Attributes
    question: str
    text: str


def assessment_scores(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return shares of right statements, 0 to 1: by attribute, their mean, by colour and by skin tone.

    `attributes` counts colours as right if the whole set is right; `each_colour` asks for each colour on its own.
    """
    statements = [(sample.truth, _read(sample.text)) for sample in samples]
    tones: dict[str, list[tuple[Attributes, Assessment | None]]] = {}
    for truth, stated in statements:
        tones.setdefault(truth.skin_tone, []).append((truth, stated))
        tones.setdefault(f"Monk {truth.monk_tone}", []).append((truth, stated))
    attributes = _by_attribute(statements)
    return {
        "attributes": attributes,
        "mean": _mean(attributes.values()),
        "each_colour": _by_colour(statements),
        "skin_tones": {tone: _mean(_by_attribute(tones[tone]).values()) for tone in sorted(tones, key=_tone_order)},
        "valid": _share([stated is not None for _, stated in statements]),
        "all_right": _share([_is_all_right(truth, stated) for truth, stated in statements]),
    }


def majority_scores(truths: Sequence[Attributes]) -> dict[str, Any]:
    """Return what always saying the commonest value would score, by attribute and in the mean."""
    attributes = {}
    for name in ATTRIBUTES:
        counts = Counter(getattr(truth, name) for truth in truths if _is_asked(truth, name))
        attributes[name] = _rounded(counts.most_common(1)[0][1] / counts.total()) if counts else 0.0
    return {"attributes": attributes, "mean": _mean(attributes.values())}


def follow_up_scores(replies: Sequence[Reply]) -> dict[str, float]:
    """Return the share of exactly right answers to each question."""
    right: dict[str, list[bool]] = {}
    for reply in replies:
        is_right = reply.text.strip() == follow_up_answer(reply.question, reply.truth)
        right.setdefault(reply.question, []).append(is_right)
    return {question: _share(hits) for question, hits in right.items()}


def wrong_pairs(samples: Sequence[Sample], name: str) -> list[tuple[str, int]]:
    """Return the commonest confusions of an attribute as `truth -> stated`, with their counts."""
    counts: Counter[str] = Counter()
    for sample in samples:
        stated = _read(sample.text)
        if _is_asked(sample.truth, name) and not _is_right(sample.truth, stated, name):
            counts[f"{getattr(sample.truth, name)} -> {getattr(stated, name, None)}"] += 1
    return counts.most_common(8)


def _read(text: str) -> Assessment | None:
    try:
        return assessment_from_json(text)
    except AssessmentError:
        return None


def _is_asked(truth: Attributes, name: str) -> bool:
    return name == "quality" or (truth.is_ok and (truth.has_lesion or name not in _LESION_ATTRIBUTES))


def _is_right(truth: Attributes, stated: Assessment | None, name: str) -> bool:
    if stated is None:
        return False
    if name == "colours":
        return set(stated.colours) == set(truth.colours)
    return bool(getattr(stated, name) == getattr(truth, name))


def _is_all_right(truth: Attributes, stated: Assessment | None) -> bool:
    return all(_is_right(truth, stated, name) for name in ATTRIBUTES if _is_asked(truth, name))


def _by_attribute(statements: Sequence[tuple[Attributes, Assessment | None]]) -> dict[str, float]:
    hits = {
        name: [_is_right(truth, stated, name) for truth, stated in statements if _is_asked(truth, name)]
        for name in ATTRIBUTES
    }
    return {name: _share(asked) for name, asked in hits.items() if asked}


def _by_colour(statements: Sequence[tuple[Attributes, Assessment | None]]) -> dict[str, float]:
    def is_stated(stated: Assessment | None, colour: str) -> bool:
        return stated is not None and colour in stated.colours

    asked = [(truth, stated) for truth, stated in statements if _is_asked(truth, "colours")]
    return {
        colour: _share([is_stated(stated, colour) == (colour in truth.colours) for truth, stated in asked])
        for colour in COLOURS
    }


def _tone_order(tone: str) -> tuple[int, int | str]:
    words = ("light", "medium", "dark")
    return (0, words.index(tone)) if tone in words else (1, int(tone.removeprefix("Monk ")))


def _share(hits: Sequence[bool]) -> float:
    return _rounded(sum(hits) / len(hits)) if hits else 0.0


def _mean(values: Any) -> float:
    shares = list(values)
    return _rounded(sum(shares) / len(shares))


def _rounded(share: float) -> float:
    """Four decimals: a thousand pictures tell no more."""
    return round(share, 4)
