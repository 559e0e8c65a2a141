"""Photos to image features: the vision graph behind a small cache keyed by the photo's digest."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma.preprocess import PadToSquare


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """One encoded photo, ready to be put where its soft tokens stand."""

    sha256: str
    """Lower-case hexadecimal digest of the photo's bytes."""
    values: NDArray[np.float32] = field(repr=False)
    """`image_features` of this photo: float32 [M, H], not scaled."""
    transform: PadToSquare
    vision_s: float
    """Seconds that decoding, preprocessing and the vision graph took."""
