"""What a screen says of a measured photo: no more than was measured, and what it may be off by.

Source of the limits: `tests/test_imaging_registration.py`, an unchanged lesion under other light, turn and distance.
"""

from typing import Final

from appliance.imaging.findings import CardFinding
from appliance.service.measuring import Comparison

AREA_SHARE: Final = 0.1
"""An unchanged lesion came out within 4 %, one that had grown within 6 % of its growth."""
COLOUR: Final = 6.0
"""L*a*b*; an unchanged lesion stayed below 4."""
BORDER_SHARE: Final = 0.12
"""An unchanged lesion stayed below 6 %."""
_TINT: Final = 0.1
"""Natural logarithm: a tenth more of one colour."""
SAME: Final = "no difference that can be measured"
NOT_COMPARED: Final = (
    "The two photos could not be compared: they do not show the same skin, or from too different a side."
)
NO_LESION: Final = (
    "The photos lie over each other, but the lesion does not stand out enough from the skin to be measured."
)
NO_DIAMETER: Final = "The card is seen, but nothing inside its angle stands out enough to be measured."


def short_size(card: CardFinding | None) -> str | None:
    """Return a size as it stands in a list: "7.0 mm"."""
    if card is None or card.long_diameter_mm is None:
        return None
    return f"{card.long_diameter_mm:.1f} mm"


def card_rows(card: CardFinding) -> list[tuple[str, str]]:
    """Return what the card says, as names and words."""
    rows = []
    if card.long_diameter_mm is not None and card.short_diameter_mm is not None and card.off_by_mm is not None:
        rows.append(("Longest", f"{card.long_diameter_mm:.1f} mm, give or take {card.off_by_mm:.1f} mm"))
        rows.append(("Shortest", f"{card.short_diameter_mm:.1f} mm, give or take {card.off_by_mm:.1f} mm"))
        rows.append(("Area", f"about {card.area_mm2:.0f} mm²"))
    if card.gains is not None and card.cast is not None:
        rows.append(("Light", _light_words(card.gains, card.cast)))
    return rows


def change_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what changed, as names and words; nothing that was not measured."""
    rows = []
    diameter = _diameter_words(comparison.earlier_card, comparison.card)
    if diameter is not None:
        rows.append(("Longest", diameter))
    change = comparison.change
    if change is None or change.area_ratio is None:
        return rows
    rows.append(("Area", _area_words(change.area_ratio)))
    if change.colour_difference is not None:
        rows.append(("Colour", "different now" if change.colour_difference > COLOUR else SAME))
    if change.border_moved_share is not None:
        rows.append(("Border", "runs differently now" if change.border_moved_share > BORDER_SHARE else SAME))
    return rows


def change_sentence(comparison: Comparison) -> str | None:
    """Return why something is missing; None when all was measured or is still worked on."""
    if comparison.state == "working":
        return None
    if comparison.change is None:
        return NOT_COMPARED
    return NO_LESION if comparison.change.area_ratio is None else None


def _diameter_words(earlier: CardFinding | None, later: CardFinding | None) -> str | None:
    if earlier is None or later is None:
        return None
    first, second = earlier.long_diameter_mm, later.long_diameter_mm
    if first is None or second is None or earlier.off_by_mm is None or later.off_by_mm is None:
        return None
    off_by_mm = (earlier.off_by_mm**2 + later.off_by_mm**2) ** 0.5
    what = f"{first:.1f} mm then, {second:.1f} mm now"
    if abs(second - first) <= off_by_mm:
        return f"{what}: {SAME}"
    word = "larger" if second > first else "smaller"
    return f"{what}: {word} by {abs(second - first):.1f} mm, give or take {off_by_mm:.1f} mm"


def _area_words(ratio: float) -> str:
    if abs(ratio - 1) <= AREA_SHARE:
        return SAME
    percent = round(abs(ratio - 1) * 20) * 5
    return f"about {percent} % {'larger' if ratio > 1 else 'smaller'}"


def _light_words(gains: tuple[float, float, float], cast: float) -> str:
    if cast < _TINT:
        return "white"
    red, _, blue = gains
    return "yellowish; taken out in the second picture" if blue > red else "bluish; taken out in the second picture"
