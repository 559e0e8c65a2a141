"""Auxiliary heads that teach the vision tower to see the attributes; they are thrown away after training.

Global (on the mean of the pooled tokens), per patch (on the lesion), coverage maps, and the camera scale as regression.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from appliance.assessment import (
    ASYMMETRIES,
    BORDERS,
    COLOURS,
    DIAMETERS_MM,
    NUMBERS,
    QUALITIES,
    SKIN_TONES,
    SURFACES,
)
from export.demo.drawings import MAP_CHANNELS
from export.demo.pictures import PictureSet

VOCABULARIES: Final[dict[str, tuple[str, ...]]] = {
    "quality": QUALITIES,
    "skin_tone": SKIN_TONES,
    "number": NUMBERS,
    "asymmetry": ASYMMETRIES,
    "border": BORDERS,
    "diameter_mm": DIAMETERS_MM,
    "surface": SURFACES,
}
_WEIGHTS: Final = {"asymmetry": 3.0, "border": 2.0, "surface": 1.5}
_WHOLE_PICTURE: Final = ("quality", "skin_tone", "number")
_IGNORED: Final = -1
_REGRESSIONS: Final = 3
_MIN_LESION_COVER: Final = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Truths of a set as tensors; -1 where a fault of the picture hides them.

    `classes`: int64 [N] for each attribute. `colours`: float32 [N, 6]. `scales`: float32 [N, 3], logarithms of width in
    px, of px per mm and of width in mm, each around 0. `maps`: uint8 [N, 9, 10, 10].
    """

    classes: dict[str, Any]
    colours: Any
    scales: Any
    has_lesion: Any
    is_ok: Any
    maps: npt.NDArray[np.uint8]


def labels_of(pictures: PictureSet) -> Labels:
    """Turn the truths of a set into training labels."""
    truths = pictures.attributes
    classes = {
        name: torch.tensor(
            [
                words.index(getattr(truth, name))
                if getattr(truth, name) is not None and (truth.is_ok or name == "quality")
                else _IGNORED
                for truth in truths
            ]
        )
        for name, words in VOCABULARIES.items()
    }
    colours = [
        [float(colour in truth.colours) if truth.is_ok and truth.has_lesion else _IGNORED for colour in COLOURS]
        for truth in truths
    ]
    scales = [
        [
            np.log(max(truth.width_mm * truth.px_per_mm, 1) / 65),
            np.log(truth.px_per_mm / 11),
            np.log(max(truth.width_mm, 1) / 5.5),
        ]
        for truth in truths
    ]
    return Labels(
        classes=classes,
        colours=torch.tensor(colours, dtype=torch.float32),
        scales=torch.tensor(np.array(scales), dtype=torch.float32),
        has_lesion=torch.tensor([truth.is_ok and truth.has_lesion for truth in truths]),
        is_ok=torch.tensor([truth.is_ok for truth in truths]),
        maps=pictures.maps,
    )


class Heads(nn.Module):  # type: ignore[misc]  # torch has no type information
    """Linear heads on patch states [B, 100, D] and pooled tokens [B, 25, D]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        outputs = sum(map(len, VOCABULARIES.values())) + len(COLOURS)
        self.norm = nn.LayerNorm(size)
        self.whole = nn.Linear(size, outputs + _REGRESSIONS)
        self.patch = nn.Linear(size, outputs)
        self.cover = nn.Linear(size, MAP_CHANNELS)

    def forward(self, states: Any, pooled: Any, labels: Labels, rows: Any, turn: int) -> tuple[Any, dict[str, float]]:
        """Return the loss over these rows of the set, turned by `turn`, and the share of right guesses by attribute."""
        maps = torch.from_numpy(labels.maps[rows.numpy()]).float().div_(255)
        maps = turned(maps, turn).flatten(2).transpose(1, 2)
        whole = self.whole(self.norm(pooled.mean(1))).float()
        patch = self.patch(states).float()
        is_ok, has_lesion = labels.is_ok[rows], labels.has_lesion[rows]
        on_lesion = maps[:, :, 1] > _MIN_LESION_COVER
        loss, right, start = torch.zeros(()), {}, 0
        for name, words in VOCABULARIES.items():
            stop, truth = start + len(words), labels.classes[name][rows]
            known = truth >= 0
            weight = _WEIGHTS.get(name, 1.0)
            loss = loss + weight * functional.cross_entropy(whole[:, start:stop], truth, ignore_index=_IGNORED)
            right[name] = float((whole[:, start:stop].argmax(1) == truth)[known].float().mean())
            where = (torch.ones_like(on_lesion) if name in _WHOLE_PICTURE else on_lesion) & known[:, None]
            if where.any():
                targets = truth[:, None].expand(-1, states.shape[1])[where]
                loss = loss + 0.4 * weight * functional.cross_entropy(patch[..., start:stop][where], targets)
            start = stop
        stop, truth = start + len(COLOURS), labels.colours[rows]
        guess, truth = whole[has_lesion, start:stop], truth[has_lesion]
        loss = loss + 4 * functional.binary_cross_entropy_with_logits(guess, truth)
        right["colours"] = float(((guess > 0) == (truth > 0.5)).all(1).float().mean())
        scales, ruler = labels.scales[rows], stop + 1
        loss = loss + 2 * functional.smooth_l1_loss(whole[has_lesion, stop:], scales[has_lesion], beta=0.1)
        loss = loss + 2 * functional.smooth_l1_loss(whole[is_ok, ruler], scales[is_ok, 1], beta=0.1)
        cover = self.cover(states).float()[is_ok]
        return loss + 6 * functional.binary_cross_entropy_with_logits(cover, maps[is_ok]), right


def turned(planes: Any, turn: int) -> Any:
    """Return planes [..., H, W] under one of the eight symmetries of the square, 0 to 7."""
    if turn & 4:
        planes = planes.transpose(-2, -1)
    sides = [axis for bit, axis in ((2, -2), (1, -1)) if turn & bit]
    return planes.flip(sides).contiguous() if sides else planes.contiguous()
