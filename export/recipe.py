"""Which matrices get how many bits: named recipes, chosen by what they lose and what they cost a token.

Measured in `export/DESIGN.md`, "Recipes".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from appliance.medgemma.spec import CachePrecision
from export.matrix import MatrixPrecision

_ATTENTION: Final = ("layers.*.self_attn.*",)
_FIRST_LAYER: Final = ("layers.0.*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Precision of each part."""

    decoder: Literal["int4", "int8", "float32"] = "int4"
    embedding: Literal["int4", "int8", "float32"] = "int8"
    vision: Literal["int8", "float16", "float32"] = "int8"
    decoder_int8: tuple[str, ...] = ()
    """Shell patterns of matrix names, such as `layers.0.*`, that keep 8 bits in an int4 decoder."""
    cache: CachePrecision = "int8"


RECIPES: Final[dict[str, Recipe]] = {
    "plain": Recipe(),
    "balanced": Recipe(decoder_int8=_FIRST_LAYER),
    "fine": Recipe(decoder_int8=(*_FIRST_LAYER, *_ATTENTION)),
}
DEFAULT_RECIPE: Final = "balanced"


def decoder_precision(matrix: str, decoder: MatrixPrecision, int8: Sequence[str]) -> MatrixPrecision:
    """Return the precision of one decoder matrix.

    Args:
        matrix: Its name, such as `layers.0.mlp.down_proj`.
        decoder: Precision of the decoder.
        int8: Patterns of the matrices that keep 8 bits where the others have 4.
    """
    if decoder == "int4" and any(fnmatchcase(matrix, pattern) for pattern in int8):
        return "int8"
    return decoder
