"""The shape of one Gemma 3 checkpoint, as numbers that both the exporter and the runtime read.

It holds no defaults for a particular model: every number comes from the checkpoint's own configuration.
Source: Hugging Face `Gemma3Config`, `Gemma3TextConfig`, `SiglipVisionConfig`; names are theirs.
"""

import math
from typing import Literal

import msgspec

LayerType = Literal["sliding_attention", "full_attention"]
CachePrecision = Literal["int8", "float32"]
"""Of the keys and values that a decoder keeps."""


class VisionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SigLIP tower and the projector behind it; lengths in pixels or channels."""

    image_size: int
    """Side of the square input in pixels."""
    patch_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    mm_tokens_per_image: int
    """Image soft tokens that one image becomes; a square number."""

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens_per_side(self) -> int:
        """Soft tokens along one side of the image, after average pooling."""
        return math.isqrt(self.mm_tokens_per_image)


class TextSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    """Attention scores are scaled by its inverse square root."""
    rms_norm_eps: float
    layer_types: tuple[LayerType, ...]
    """One entry a layer, from the first."""
    sliding_window: int
    """Keys that a sliding layer's query sees, itself included."""
    rope_theta: float
    """Base of the rotary embedding in full layers."""
    rope_scaling_factor: float
    """Linear position scaling in full layers; 1.0 for none."""
    rope_local_base_freq: float
    """Base of the rotary embedding in sliding layers, never scaled."""
    max_position_embeddings: int
    tie_word_embeddings: bool


class TokenSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token ids, looked up by their strings when the bundle is made."""

    bos_token_id: int
    pad_token_id: int
    eos_token_ids: tuple[int, ...]
    """Generation stops on any of them: `<eos>` and `<end_of_turn>`."""
    boi_token_id: int | None = None
    """`<start_of_image>`; the three image tokens are absent from a text-only bundle."""
    image_token_id: int | None = None
    """`<image_soft_token>`, repeated `mm_tokens_per_image` times."""
    eoi_token_id: int | None = None
    thought_start_token_id: int | None = None
    """`<unused94>`, with which MedGemma 1.5 may open a thought unprompted."""
    thought_end_token_id: int | None = None


class GemmaSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole checkpoint's shape; `vision` is absent from a text-only one."""

    text: TextSpec
    tokens: TokenSpec
    vision: VisionSpec | None = None
