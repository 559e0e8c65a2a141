"""How the checkpoint wants its pictures, from whichever file its generation keeps that in.

Source: transformers 5.23 `image_processing_gemma3.py`: bilinear, 1/255, mean and deviation 0.5 where a key is absent.
"""

from pathlib import Path
from typing import Any, Final

from appliance.medgemma.bundle import Preprocessing
from appliance.medgemma.spec import VisionSpec
from export.checkpoint import read_json
from export.errors import CheckpointError, UnsupportedCheckpointError

_BILINEAR: Final = 2
"""Pillow's number for it."""


def read_preprocessing(folder: Path, vision: VisionSpec | None) -> Preprocessing:
    """Read the normalisation; a text-only checkpoint gets the defaults.

    Raises:
        CheckpointError: A value is impossible or contradicts `vision_config`.
        UnsupportedCheckpointError: Resizing is other than bilinear, or a step is switched off.
    """
    outer = read_json(folder / "processor_config.json") or {}
    content = read_json(folder / "preprocessor_config.json") or outer.get("image_processor") or {}
    if vision is not None:
        _check(content, vision)
    return Preprocessing(
        image_mean=_three(content, "image_mean"),
        image_std=_three(content, "image_std"),
        rescale_factor=float(content.get("rescale_factor") or 1 / 255),
    )


def _check(content: dict[str, Any], vision: VisionSpec) -> None:
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if content.get(key) is False:
            raise UnsupportedCheckpointError(f"{key} is false, which is not supported.")
    if content.get("resample") not in {None, _BILINEAR}:
        raise UnsupportedCheckpointError(
            f"resample is {content['resample']}; only bilinear ({_BILINEAR}) is supported."
        )
    size = content.get("size") or {}
    for side in ("height", "width"):
        if isinstance(size, dict) and size.get(side) not in {None, vision.image_size}:
            raise CheckpointError(f"size.{side} is {size[side]}, but vision_config.image_size is {vision.image_size}.")


def _three(content: dict[str, Any], key: str) -> tuple[float, float, float]:
    value = content.get(key) or [0.5, 0.5, 0.5]
    try:
        red, green, blue = map(float, value)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{key} is {value!r}; it must be three numbers.") from error
    return red, green, blue
