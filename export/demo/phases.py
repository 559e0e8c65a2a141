"""The three phases of training: the vision tower with its auxiliary heads, the decoder on frozen features, then both.

Every phase counts steps, draws its order from a seed and reports through a callback; none reads a clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from export.demo.examples import TextBatch, text_batch
from export.demo.heads import Heads, Labels, turned
from export.demo.model import TOKEN_ID, encode_pictures, project
from export.demo.optimiser import Optimiser
from export.demo.pictures import PictureSet

_TEXT_WEIGHT: Final = 3.0
_TEXT_SHARE: Final = 0.5
_FEATURE_BATCH: Final = 100

Report = Callable[[int, dict[str, float]], None]
"""Called after every step with its number, from 1, and its figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How long one phase runs: `steps` of `batch` pictures, at a learning rate with a warm-up of `warm_up` steps."""

    steps: int
    learning_rate: float
    warm_up: int = 100
    batch: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What is trained: a Gemma3ForConditionalGeneration, its auxiliary heads and its tokenizer.

    `encode` maps pixel values [B, 3, 160, 160] to patch states and pooled tokens; it may be compiled.
    """

    model: Any
    heads: Heads
    tokenizer: Tokenizer
    encode: Callable[[Any], tuple[Any, Any]]


def make_trainee(model: Any, tokenizer: Tokenizer, *, is_compiled: bool) -> Trainee:
    """Return a trainee with fresh heads; compiling costs half a minute and gains a fifth on long runs."""
    encode = torch.compile(lambda pixels: encode_pictures(model, pixels)) if is_compiled else None
    return Trainee(
        model=model,
        heads=Heads(model.config.vision_config.hidden_size),
        tokenizer=tokenizer,
        encode=encode or (lambda pixels: encode_pictures(model, pixels)),
    )


def pixel_values(pictures: PictureSet, rows: Any, turn: int = 0) -> Any:
    """Return float32 [B, 3, 160, 160], RGB, range [-1, 1], under one of the symmetries of the square."""
    pixels = torch.from_numpy(pictures.pixels[rows.numpy()]).permute(0, 3, 1, 2)
    return turned(pixels, turn).float().div_(127.5).sub_(1)


def train_vision(
    trainee: Trainee, pictures: PictureSet, labels: Labels, phase: Phase, seed: int, report: Report
) -> None:
    """Phase A: teach the vision tower the attributes through the auxiliary heads."""
    named = [*_named(trainee.model.model.vision_tower, ""), *_named(trainee.heads, "heads.")]
    optimiser = _optimiser(named, phase)
    for step, (rows, turn) in enumerate(_batches(len(pictures), phase, seed), 1):
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = trainee.encode(pixel_values(pictures, rows, turn))
            loss, right = trainee.heads(states, pooled, labels, rows, turn)
        loss.backward()
        optimiser.step()
        report(step, {"loss": loss.item(), **right})


def train_decoder(trainee: Trainee, pictures: PictureSet, phase: Phase, seed: int, report: Report) -> None:
    """Phase B: teach projector and decoder to speak, on features of the frozen tower that are computed once."""
    model = trainee.model
    pooled = torch.empty(len(pictures), *_pooled_shape(model), dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for first in range(0, len(pictures), _FEATURE_BATCH):
            rows = torch.arange(first, min(first + _FEATURE_BATCH, len(pictures)))
            pooled[rows] = encode_pictures(model, pixel_values(pictures, rows))[1].bfloat16()
    named = [*_named(model.model.multi_modal_projector, ""), *_named(model.model.language_model, "")]
    optimiser, rng = _optimiser(named, phase), np.random.default_rng((seed, 1))
    for step, (rows, _) in enumerate(_batches(len(pictures), phase, seed), 1):
        text = text_batch(trainee.tokenizer, rng, [pictures.attributes[row] for row in rows.tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = text_loss(model, project(model, pooled[rows]), text)
        loss.backward()
        optimiser.step()
        report(step, {"text loss": loss.item(), "value tokens": right})


def train_jointly(
    trainee: Trainee, pictures: PictureSet, labels: Labels, phase: Phase, seed: int, report: Report
) -> None:
    """Phase C: train everything; the auxiliary heads stay, and half of each batch is answered in words."""
    model = trainee.model
    optimiser = _optimiser([*_named(model, ""), *_named(trainee.heads, "heads.")], phase)
    rng, spoken = np.random.default_rng((seed, 1)), int(phase.batch * _TEXT_SHARE)
    for step, (rows, turn) in enumerate(_batches(len(pictures), phase, seed), 1):
        text = text_batch(trainee.tokenizer, rng, [pictures.attributes[row] for row in rows[:spoken].tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = trainee.encode(pixel_values(pictures, rows, turn))
            seen, right = trainee.heads(states, pooled, labels, rows, turn)
            said, values = text_loss(model, project(model, pooled[:spoken]), text)
        (seen + _TEXT_WEIGHT * said).backward()
        optimiser.step()
        report(step, {"loss": seen.item(), "text loss": said.item(), "value tokens": values, **right})


def text_loss(model: Any, features: Any, text: TextBatch) -> tuple[Any, float]:
    """Return the weighted cross-entropy of the answers, and the share of value tokens that would be said right."""
    is_image = text.input_ids == TOKEN_ID["<image_soft_token>"]
    embeddings = model.get_input_embeddings()(text.input_ids)
    embeddings = embeddings.masked_scatter(is_image.unsqueeze(-1), features.to(embeddings.dtype))
    hidden = model.model(
        inputs_embeds=embeddings,
        token_type_ids=is_image.long(),
        attention_mask=(text.input_ids != TOKEN_ID["<pad>"]).long(),
        use_cache=False,
    ).last_hidden_state[:, :-1]
    targets, weights = text.input_ids[:, 1:], text.weights[:, 1:]
    counted = weights > 0
    logits, targets, weights = model.lm_head(hidden[counted]).float(), targets[counted], weights[counted]
    losses = functional.cross_entropy(logits, targets, reduction="none")
    right = (logits.argmax(1) == targets)[weights > 1].float().mean()
    return (losses * weights).sum() / weights.sum(), float(right)


def _batches(count: int, phase: Phase, seed: int) -> Iterator[tuple[Any, int]]:
    """Yield the rows of each step and a symmetry of the square; every picture is used once before any twice."""
    rng = np.random.default_rng((seed, 0))
    order = rng.permutation(count)
    for _ in range(phase.steps):
        if len(order) < phase.batch:
            order = rng.permutation(count)
        rows, order = order[: phase.batch], order[phase.batch :]
        yield torch.from_numpy(rows), int(rng.integers(8))


def _named(module: Any, prefix: str) -> list[tuple[str, Any]]:
    return [(prefix + name, parameter) for name, parameter in module.named_parameters()]


def _optimiser(named: list[tuple[str, Any]], phase: Phase) -> Optimiser:
    return Optimiser(named, learning_rate=phase.learning_rate, steps=phase.steps, warm_up=phase.warm_up)


def _pooled_shape(model: Any) -> tuple[int, int]:
    return model.config.mm_tokens_per_image, model.config.vision_config.hidden_size
