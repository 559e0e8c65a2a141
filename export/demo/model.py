"""A Gemma 3 of 4 M parameters: its configuration and an initialisation from which a small vision tower learns fast.

Source: `transformers` Gemma3ForConditionalGeneration; every size is a multiple of the quantization block of 32.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

from export.demo.canvas import SIDE_PX
from export.demo.tokens import IMAGE_TOKENS, SPECIAL_TOKENS, VOCABULARY_SIZE

PATCH_PX: Final = 16
PATCH_GRID: Final = SIDE_PX // PATCH_PX
VISION_SIZE: Final = 192
_VISION_LAYERS: Final = 6
_TEXT_SIZE: Final = 192
_TEXT_LAYERS: Final = ["sliding_attention", "full_attention"] * 2
_HEAD_SIZE: Final = 64

TOKEN_ID: Final = {token: index for index, token in enumerate(SPECIAL_TOKENS)}


def build_config() -> Any:
    """Return the Gemma3Config of the demonstration model."""
    pad, eos, bos = TOKEN_ID["<pad>"], TOKEN_ID["<eos>"], TOKEN_ID["<bos>"]
    vision = SiglipVisionConfig(
        hidden_size=VISION_SIZE,
        intermediate_size=576,
        num_hidden_layers=_VISION_LAYERS,
        num_attention_heads=VISION_SIZE // _HEAD_SIZE,
        image_size=SIDE_PX,
        patch_size=PATCH_PX,
        vision_use_head=False,
    )
    text = Gemma3TextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=_TEXT_SIZE,
        intermediate_size=512,
        num_hidden_layers=len(_TEXT_LAYERS),
        layer_types=_TEXT_LAYERS,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=_HEAD_SIZE,
        query_pre_attn_scalar=_HEAD_SIZE,
        sliding_window=96,
        max_position_embeddings=1024,
        pad_token_id=pad,
        eos_token_id=eos,
        bos_token_id=bos,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=TOKEN_ID["<start_of_image>"],
        eoi_token_index=TOKEN_ID["<end_of_image>"],
        image_token_index=TOKEN_ID["<image_soft_token>"],
        eos_token_id=[eos, TOKEN_ID["<end_of_turn>"]],
        pad_token_id=pad,
        bos_token_id=bos,
    )


def build_model(seed: int) -> Any:
    """Return a freshly initialised Gemma3ForConditionalGeneration."""
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(build_config())
    with torch.no_grad():
        _initialise_vision(vision_of(model))
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.5 * VISION_SIZE**-0.5)
    return model


def vision_of(model: Any) -> Any:
    """Return the SigLIP transformer, whichever way this release of transformers nests it."""
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower)


def encode_pictures(model: Any, pixel_values: Any) -> tuple[Any, Any]:
    """Return the patch states [B, 100, 192] and their 2 x 2 means [B, 25, 192], before the projector's norm."""
    states = model.model.vision_tower(pixel_values=pixel_values).last_hidden_state
    batch, _, size = states.shape
    grid = states.transpose(1, 2).reshape(batch, size, PATCH_GRID, PATCH_GRID)
    return states, model.model.multi_modal_projector.avg_pool(grid).flatten(2).transpose(1, 2)


def project(model: Any, pooled: Any) -> Any:
    """Return the image features [B, 25, 192] that take the places of the soft tokens."""
    projector = model.model.multi_modal_projector
    return torch.matmul(projector.mm_soft_emb_norm(pooled.float()), projector.mm_input_projection_weight)


def _initialise_vision(vision: Any) -> None:
    """Frequencies as patch filters, waves as positions, and attention that starts close to looking at itself."""
    embeddings = vision.embeddings
    embeddings.patch_embedding.weight.copy_(torch.from_numpy(_cosine_filters()))
    embeddings.patch_embedding.bias.zero_()
    embeddings.position_embedding.weight.copy_(torch.from_numpy(_wave_positions()))
    scale = VISION_SIZE**-0.5
    for layer in vision.encoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear, gain in (
            (attention.q_proj, scale),
            (attention.k_proj, scale),
            (attention.v_proj, scale),
            (attention.out_proj, 0.5 * scale),
            (mlp.fc1, scale),
            (mlp.fc2, 0.5 * mlp.fc2.in_features**-0.5),
        ):
            torch.nn.init.normal_(linear.weight, std=gain)
            linear.bias.zero_()
        attention.k_proj.weight.copy_(0.7 * attention.q_proj.weight + 0.7 * attention.k_proj.weight)


def _cosine_filters() -> npt.NDArray[np.float32]:
    """Return float32 [192, 3, 16, 16]: low frequencies of a 2-D DCT on brightness and on two colour differences."""
    k = np.arange(PATCH_PX)
    basis = np.array([np.cos(np.pi * (k + 0.5) * u / PATCH_PX) * (2 / PATCH_PX) ** 0.5 for u in k])
    basis[0] *= 0.5**0.5
    order = sorted(((u, v) for u in k for v in k), key=lambda pair: pair[0] ** 2 + pair[1] ** 2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.array([[3], [2], [6]]) ** 0.5
    chroma_count = (VISION_SIZE - VISION_SIZE * 5 // 9) // 2
    counts = (VISION_SIZE - 2 * chroma_count, chroma_count, chroma_count)
    filters = [
        colour[:, None, None] * np.outer(basis[u], basis[v]) * (0.35 if u + v == 0 else 0.9) * gain
        for colour, count, gain in zip(colours, counts, (1, 2, 2), strict=True)
        for u, v in order[:count]
    ]
    return np.array(filters, np.float32)


def _wave_positions() -> npt.NDArray[np.float32]:
    """Return float32 [100, 192]: sines and cosines of the patch's column and row."""
    rows, columns = np.mgrid[0:PATCH_GRID, 0:PATCH_GRID]
    quarter = VISION_SIZE // 4
    frequencies = 1.5 / 30 ** (np.arange(quarter) / quarter)
    waves = [wave(axis.reshape(-1, 1) * frequencies) for axis in (columns, rows) for wave in (np.sin, np.cos)]
    return (0.5 * np.concatenate(waves, 1)).astype(np.float32)
