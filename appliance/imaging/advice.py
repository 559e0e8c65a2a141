"""The one most useful thing to say about a frame: thresholds in, a message key out.

The keys are what is stored and translated; the English sentences stand here until there are other languages.
"""

from typing import Final, Literal, get_args

from appliance.config import QualityConfig
from appliance.imaging.quality import ImageMeasures

Advice = Literal[
    "quality.good",
    "quality.too_dark",
    "quality.too_bright",
    "quality.glare",
    "quality.moving",
    "quality.blurred",
    "quality.too_far",
    "quality.too_near",
    "quality.off_centre",
    "quality.coloured_light",
]
"""Ordered by nothing; `advice_for` has the order of usefulness."""

SENTENCES: Final[dict[Advice, str]] = {
    "quality.good": "Good. Take the photo.",
    "quality.too_dark": "Too dark: turn on a light.",
    "quality.too_bright": "Too bright: use less light.",
    "quality.glare": "Too much glare: tilt the camera.",
    "quality.moving": "Hold still.",
    "quality.blurred": "Not sharp: move a little closer or away.",
    "quality.too_far": "Move closer.",
    "quality.too_near": "Move back a little.",
    "quality.off_centre": "Bring the spot to the middle.",
    "quality.coloured_light": "The light is coloured: use white light.",
}
ADVICE: Final[tuple[Advice, ...]] = get_args(Advice)

Meter = Literal["focus", "light", "glare", "distance", "centring"]
"""What a screen shows small beside the sentence; distance and centring only while the card is seen."""

_LOWER_SLOPE: Final = 2.5
_UPPER_SLOPE: Final = 0.45

SPOILING: Final[frozenset[Advice]] = frozenset(
    {"quality.too_dark", "quality.too_bright", "quality.glare", "quality.blurred"}
)
"""What makes a photo one that nobody can judge: it is kept only if the nurse says why."""


def advice_for(measures: ImageMeasures, config: QualityConfig) -> Advice:
    """Return what to do next: first what hides everything else, then what the hand can cure, then what is a detail."""
    spread = measures.clipped - measures.glare
    checks: tuple[tuple[bool, Advice], ...] = (
        (measures.brightness < config.brightness_min, "quality.too_dark"),
        # A highlight has a rim of which only some channels are at their end; more than that is no rim.
        (spread > max(config.clipped_max, measures.glare), "quality.too_bright"),
        (measures.glare > config.glare_max, "quality.glare"),
        ((measures.shift or 0.0) > config.shift_max, "quality.moving"),
        (measures.focus < config.focus_min, "quality.blurred"),
        ((measures.frame_height_mm or 0.0) > config.frame_height_max_mm, "quality.too_far"),
        (0.0 < (measures.frame_height_mm or 0.0) < config.frame_height_min_mm, "quality.too_near"),
        ((measures.off_centre or 0.0) > config.off_centre_max, "quality.off_centre"),
        (_is_coloured(measures, config), "quality.coloured_light"),
    )
    return next((advice for is_so, advice in checks if is_so), "quality.good")


def meters_for(measures: ImageMeasures, config: QualityConfig) -> dict[Meter, bool]:
    """Return what is good enough, True or False; what was not measured is left out."""
    spread = measures.clipped - measures.glare
    is_bright = spread > max(config.clipped_max, measures.glare)
    meters: dict[Meter, bool] = {
        "focus": measures.focus >= config.focus_min and (measures.shift or 0.0) <= config.shift_max,
        "light": measures.brightness >= config.brightness_min and not is_bright and not _is_coloured(measures, config),
        "glare": measures.glare <= config.glare_max,
    }
    if measures.frame_height_mm is not None:
        meters["distance"] = config.frame_height_min_mm <= measures.frame_height_mm <= config.frame_height_max_mm
    if measures.off_centre is not None:
        meters["centring"] = measures.off_centre <= config.off_centre_max
    return meters


def _is_coloured(measures: ImageMeasures, config: QualityConfig) -> bool:
    """Tell light under which no skin looks as it does.

    From the palest to the darkest, the more a skin reflects red over green, the less it reflects blue over green. The
    ten Monk tones and the photo of the tests lie between the two lines below; warm light moves skin along them and
    cannot be told without the card.
    """
    red, blue = measures.red_over_green, measures.blue_over_green
    is_green = -(blue + _LOWER_SLOPE * red) > config.green_cast_max
    is_blue = blue + _UPPER_SLOPE * red > config.blue_cast_max
    return is_green or is_blue or -blue > config.yellow_cast_max
