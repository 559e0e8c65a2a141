"""Bundles for the runtime's tests: tiny random checkpoints, exported in float32, beside the transformers reference."""

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from checkpoints import Style, make_checkpoint
from numpy.typing import NDArray
from PIL import Image

from appliance.imaging.decode import image_from_bytes
from appliance.medgemma.bundle import MANIFEST_NAME, Preprocessing, load_bundle, manifest_to_json
from appliance.medgemma.generation import Generation, ImagePart, Message, Piece, TextPart
from appliance.medgemma.preprocess import pixel_values_from_image
from export.checkpoint import CheckpointFolder
from export.exporter import ExportOptions, export_checkpoint

FLOAT32 = ExportOptions(decoder="float32", embedding="float32", vision="float32", licence="CC0-1.0")
GEMMA = Preprocessing(image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5), rescale_factor=1 / 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A checkpoint and its float32 bundle."""

    checkpoint: Path
    bundle: Path


def export_random(
    folder: Path, *, seed: int = 0, style: Style = "saved", options: ExportOptions = FLOAT32, **shape: Any
) -> Exported:
    """Write a random checkpoint and export it."""
    checkpoint = make_checkpoint(folder / "checkpoint", seed=seed, style=style, **shape)
    bundle = export_checkpoint(CheckpointFolder(path=checkpoint, name="random"), folder / "bundle", options)
    return Exported(checkpoint=checkpoint, bundle=bundle)


def random_shape(rng: np.random.Generator) -> dict[str, Any]:
    """Draw dimensions that nobody tuned for, of every ratio that Gemma 3 allows."""
    kv_heads = int(rng.integers(1, 4))
    heads = kv_heads * int(rng.integers(1, 4))
    tokens_per_side = int(rng.integers(1, 5))
    patches_per_side = tokens_per_side * int(rng.integers(1, 4))
    patch_size = int(rng.choice([2, 4, 7]))
    vision_heads = int(rng.integers(1, 4))
    layers = int(rng.integers(2, 6))
    return {
        "layers": layers,
        "hidden_size": heads * 8 * int(rng.integers(1, 4)),  # transformers wants a multiple of the heads
        "intermediate_size": int(rng.integers(3, 16)) * 8,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": int(rng.choice([8, 16, 32])),
        "vocab_size": int(rng.integers(450, 700)),
        "sliding_window": int(rng.integers(3, 40)),
        "sliding_window_pattern": int(rng.integers(1, layers + 2)),
        "query_pre_attn_scalar": int(rng.choice([8, 16, 50])),
        "rope_factor": float(rng.choice([1.0, 8.0])),
        "tie_word_embeddings": bool(rng.integers(2)),
        "vision_layers": int(rng.integers(1, 3)),
        "vision_hidden_size": vision_heads * int(rng.choice([8, 12])),
        "vision_intermediate_size": int(rng.integers(2, 6)) * 8,
        "vision_heads": vision_heads,
        "image_size": patches_per_side * patch_size,
        "patch_size": patch_size,
        "mm_tokens_per_image": tokens_per_side**2,
    }


def user(*parts: str | bytes) -> Message:
    """Make a user's turn: text as str, photos as bytes."""
    return Message(
        role="user",
        parts=tuple(TextPart(text=part) if isinstance(part, str) else ImagePart(content=part) for part in parts),
    )


def take(items: Any) -> tuple[list[Piece], Generation]:
    """Run a generation to its end."""
    *pieces, generation = items
    assert isinstance(generation, Generation)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return pieces, generation


class Reference:
    """The same checkpoint in transformers, float32, eager attention."""

    def __init__(self, checkpoint: Path, *, vision: bool = True) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        kind = transformers.Gemma3ForConditionalGeneration if vision else transformers.Gemma3ForCausalLM
        self._model = kind.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()

    def generate(
        self, prompt_token_ids: Sequence[int], images: Sequence[bytes], eos_token_ids: Sequence[int], max_tokens: int
    ) -> tuple[list[int], NDArray[np.float32]]:
        """Decode greedily.

        Returns:
            The generated ids, and the raw logits of each step: float32 [N, V].
        """
        import torch

        config = self._model.config
        input_ids = torch.tensor([list(prompt_token_ids)])
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        if images:
            size = config.vision_config.image_size
            values = [pixel_values_from_image(image_from_bytes(content), size, GEMMA)[0] for content in images]
            inputs["pixel_values"] = torch.from_numpy(np.concatenate(values))
            inputs["token_type_ids"] = (input_ids == config.image_token_id).long()
        with torch.no_grad():
            output = self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=list(eos_token_ids),
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        token_ids = output.sequences[0, len(prompt_token_ids) :].tolist()
        return token_ids, torch.stack([step[0] for step in output.logits]).float().numpy()


def with_tokens(bundle: Path, target: Path, **tokens: Any) -> Path:
    """Copy a bundle and give some of its token ids another meaning."""
    shutil.copytree(bundle, target)
    manifest = load_bundle(target).manifest
    spec = msgspec.structs.replace(
        manifest.architecture, tokens=msgspec.structs.replace(manifest.architecture.tokens, **tokens)
    )
    content = manifest_to_json(msgspec.structs.replace(manifest, architecture=spec))
    (target / MANIFEST_NAME).write_bytes(content)
    return target


def png(width_px: int = 20, height_px: int = 12, seed: int = 0) -> bytes:
    """Draw noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
