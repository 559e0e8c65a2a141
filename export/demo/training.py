"""The recipe of the demonstration model, from drawings to a Hugging Face folder.

Everything is counted in steps and drawn from seeds; every phase leaves its state behind, so that a run can be resumed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from export.demo.checkpoint import load_state, save_hugging_face, save_state
from export.demo.heads import labels_of
from export.demo.model import build_model
from export.demo.phases import Phase, Report, make_trainee, train_decoder, train_jointly, train_vision
from export.demo.pictures import HELD_OUT_STREAM, TRAINING_STREAM, PictureSet, draw_set, load_set
from export.demo.tokens import train_tokenizer

TRAINING_FOLDER: Final = "training"
HELD_OUT_FOLDER: Final = "held-out"
MODEL_FOLDER: Final = "dermstation-demo"
_TOKENIZER_FILE: Final = "tokenizer.json"
_TOKENIZER_PICTURES: Final = 6000

StageReport = Callable[[str], Report]
"""Told the name of a stage that begins; returns what reports its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every number of the training that is not a weight of a loss."""

    seed: int = 1
    training_pictures: int = 36_000
    held_out_pictures: int = 1_500
    decoder_pictures: int = 9_000
    vision: Phase = field(default_factory=lambda: Phase(steps=2_400, learning_rate=2e-3))
    decoder: Phase = field(default_factory=lambda: Phase(steps=500, learning_rate=2e-3))
    joint: Phase = field(default_factory=lambda: Phase(steps=800, learning_rate=8e-4, warm_up=50))
    is_compiled: bool = True


def draw_pictures(work: Path, recipe: Recipe, processes: int) -> None:
    """Draw the training set and the held-out set, unless they are there."""
    for folder, stream, count in (
        (HELD_OUT_FOLDER, HELD_OUT_STREAM, recipe.held_out_pictures),
        (TRAINING_FOLDER, TRAINING_STREAM, recipe.training_pictures),
    ):
        if not (work / folder / "attributes.json").exists():
            draw_set(work / folder, stream=stream, count=count, processes=processes)


def train(work: Path, recipe: Recipe, on_stage: StageReport) -> None:
    """Train in three phases on the drawings in `work`; leave the model in `work`/dermstation-demo.

    A phase whose state is there already is not run again.
    """
    pictures = load_set(work / TRAINING_FOLDER)
    labels = labels_of(pictures)
    tokenizer = _tokenizer(work, pictures)
    trainee = make_trainee(build_model(recipe.seed), tokenizer, is_compiled=recipe.is_compiled)
    few = _first(pictures, recipe.decoder_pictures)
    stages: tuple[tuple[str, Callable[[Report], None]], ...] = (
        ("vision", lambda report: train_vision(trainee, pictures, labels, recipe.vision, recipe.seed, report)),
        ("decoder", lambda report: train_decoder(trainee, few, recipe.decoder, recipe.seed + 1, report)),
        ("joint", lambda report: train_jointly(trainee, pictures, labels, recipe.joint, recipe.seed + 2, report)),
    )
    for name, run in stages:
        state = work / f"{name}.safetensors"
        if state.exists():
            load_state(trainee, state)
            continue
        run(on_stage(name))
        save_state(trainee, state)
        if name != "vision":
            save_hugging_face(trainee.model, tokenizer, work / MODEL_FOLDER)


def _tokenizer(work: Path, pictures: PictureSet) -> Tokenizer:
    path = work / _TOKENIZER_FILE
    if not path.exists():
        train_tokenizer(pictures.attributes[:_TOKENIZER_PICTURES]).save(str(path))
    return Tokenizer.from_file(str(path))


def _first(pictures: PictureSet, count: int) -> PictureSet:
    return replace(
        pictures,
        pixels=pictures.pixels[:count],
        maps=pictures.maps[:count],
        attributes=pictures.attributes[:count],
    )
