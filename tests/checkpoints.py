"""Tiny Gemma 3 checkpoints with random weights, written as Hugging Face folders; needs neither torch nor transformers.

Every dimension is a parameter, so that tests meet shapes nobody tuned for. Weights are scaled so that every part of the
network changes the result. The tokenizer is a byte-fallback BPE like Gemma's, with the same special tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from checkpoint_files import IMAGE_TOKEN, make_tokenizer, write_json, write_safetensors
from numpy.typing import NDArray
from tokenizers import Tokenizer

Style = Literal["hub", "saved", "new"]
"""`hub`: as in the published files; `saved`: as transformers 5 saves; `new`: every tensor name begins with `model.`."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else "
    "message['role'] %}{{ '<start_of_turn>' + role + '\n' }}{% if message['content'] is string %}"
    "{{ message['content'] | trim }}{% else %}{% for item in message['content'] %}{% if item['type'] == 'image' %}"
    "{{ '<start_of_image>' }}{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}"
    "{% endif %}{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}"
    "{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Every dimension of a checkpoint; names are the configuration's."""

    vision: bool = True
    tie_word_embeddings: bool = True
    layers: int = 4
    hidden_size: int = 64
    intermediate_size: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    vocab_size: int = 512
    sliding_window: int = 16
    layer_types: tuple[str, ...] | None = None
    """One a layer; `None` makes every `sliding_window_pattern`th layer full."""
    sliding_window_pattern: int = 2
    query_pre_attn_scalar: float = 16
    rope_theta: float = 1_000_000.0
    rope_factor: float = 8.0
    """Linear factor of full layers; 1.0 writes no scaling."""
    rope_local_base_freq: float = 10_000.0
    rms_norm_eps: float = 1e-6
    vision_layers: int = 2
    vision_hidden_size: int = 32
    vision_intermediate_size: int = 48
    vision_heads: int = 2
    image_size: int = 32
    patch_size: int = 4
    mm_tokens_per_image: int = 16

    def types(self) -> tuple[str, ...]:
        """Return the kind of each layer."""
        if self.layer_types is not None:
            return self.layer_types
        pattern = self.sliding_window_pattern
        return tuple("full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(self.layers))


def make_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    style: Style = "hub",
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    shards: int = 1,
    **shape: Any,
) -> Path:
    """Write a random checkpoint; the same arguments give the same bytes.

    Args:
        folder: Where to; made if missing.
        seed: Of the weights.
        style: Generation of tensor names and configuration keys.
        dtype: Of every stored tensor.
        shards: Number of safetensors files; more than one come with an index.
        shape: Fields of `Shape`.

    Returns:
        `folder`.
    """
    dimensions = replace(Shape(), **shape)
    if dimensions.layer_types is not None and "layers" not in shape:
        dimensions = replace(dimensions, layers=len(dimensions.layer_types))
    describe_checkpoint(folder, dimensions, style=style, dtype=dtype)
    rng = np.random.default_rng(seed)
    tensors = {tensor_name(key, style, dimensions): value for key, value in _weights(dimensions, rng)}
    write_safetensors(folder, tensors, dtype=dtype, shards=shards)
    return folder


def describe_checkpoint(
    folder: Path, shape: Shape, *, style: Style, dtype: str, tokenizer: Tokenizer | None = None
) -> None:
    """Write everything but the weights, with the tests' own tokenizer unless one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or make_tokenizer(shape.vocab_size, image_token=shape.vision)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", _configuration(shape, style, dtype, tokenizer))
    _write_side_files(folder, shape, style, tokenizer)


def _weights(shape: Shape, rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield canonical names, as the parts are called inside their module, with values."""
    for name, dimensions in tensor_shapes(shape):
        if name.endswith("norm.weight") and not name.startswith("vision."):
            yield name, rng.normal(0, 0.2, dimensions).astype(np.float32)
        elif "norm" in name and name.endswith("weight"):
            yield name, rng.normal(1, 0.2, dimensions).astype(np.float32)
        elif len(dimensions) == 1:
            yield name, rng.normal(0, 0.1, dimensions).astype(np.float32)
        else:
            fan_in = dimensions[0] if "mm_input" in name else int(np.prod(dimensions[1:]))
            yield name, rng.normal(0, fan_in**-0.5, dimensions).astype(np.float32)


def tensor_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield canonical names, as the parts are called inside their module, with their dimensions."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    yield "text.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.layers):
        prefix = f"text.layers.{layer}"
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{prefix}.{norm}_layernorm.weight", (hidden,)
        for part, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
            yield f"{prefix}.self_attn.{part}_proj.weight", (heads * shape.head_dim, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, shape.heads * shape.head_dim)
        for part in ("q", "k"):
            yield f"{prefix}.self_attn.{part}_norm.weight", (shape.head_dim,)
        for part in ("gate", "up"):
            yield f"{prefix}.mlp.{part}_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
    yield "text.norm.weight", (hidden,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, hidden)
    if shape.vision:
        yield from _vision_dimensions(shape)


def _vision_dimensions(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = shape.vision_hidden_size, shape.vision_intermediate_size
    yield "vision.embeddings.patch_embedding.weight", (width, 3, shape.patch_size, shape.patch_size)
    yield "vision.embeddings.patch_embedding.bias", (width,)
    yield "vision.embeddings.position_embedding.weight", ((shape.image_size // shape.patch_size) ** 2, width)
    for layer in range(shape.vision_layers):
        prefix = f"vision.encoder.layers.{layer}"
        sizes = [(f"self_attn.{part}_proj", width, width) for part in ("q", "k", "v", "out")]
        for part, rows, columns in [*sizes, ("mlp.fc1", inner, width), ("mlp.fc2", width, inner)]:
            yield f"{prefix}.{part}.weight", (rows, columns)
            yield f"{prefix}.{part}.bias", (rows,)
        for part in ("layer_norm1", "layer_norm2"):
            yield f"{prefix}.{part}.weight", (width,)
            yield f"{prefix}.{part}.bias", (width,)
    yield "vision.post_layernorm.weight", (width,)
    yield "vision.post_layernorm.bias", (width,)
    yield "multi_modal_projector.mm_soft_emb_norm.weight", (width,)
    yield "multi_modal_projector.mm_input_projection_weight", (width, shape.hidden_size)


def tensor_name(key: str, style: Style, shape: Shape) -> str:
    """Turn a canonical name into that of a style."""
    part, _, rest = key.partition(".")
    if not shape.vision:
        return f"model.{rest}" if part == "text" else key
    if part == "text":
        return f"model.language_model.{rest}" if style == "new" else f"language_model.model.{rest}"
    if part == "lm_head":
        return key if style == "new" else f"language_model.{key}"
    if part == "vision":
        tower = "vision_tower.vision_model" if style == "hub" else "vision_tower"
        return f"model.{tower}.{rest}" if style == "new" else f"{tower}.{rest}"
    return f"model.{key}" if style == "new" else key


def _configuration(shape: Shape, style: Style, dtype: str, tokenizer: Tokenizer) -> dict[str, Any]:
    text = _text_configuration(shape, style)
    dtype_key = "torch_dtype" if style == "hub" else "dtype"
    if not shape.vision:
        ids = {"bos_token_id": 2, "pad_token_id": 0, "eos_token_id": 1}
        return {**text, **ids, "architectures": ["Gemma3ForCausalLM"], dtype_key: dtype}
    vision: dict[str, Any] = {
        "model_type": "siglip_vision_model",
        "hidden_size": shape.vision_hidden_size,
        "intermediate_size": shape.vision_intermediate_size,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": shape.vision_heads,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "vision_use_head": False,
    }
    result: dict[str, Any] = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "boi_token_index": tokenizer.token_to_id("<start_of_image>"),
        "eoi_token_index": tokenizer.token_to_id("<end_of_image>"),
        "image_token_index": tokenizer.token_to_id(IMAGE_TOKEN),
        "mm_tokens_per_image": shape.mm_tokens_per_image,
        "text_config": text,
        "vision_config": vision,
        dtype_key: dtype,
    }
    if style == "hub":
        result["eos_token_id"] = [1, tokenizer.token_to_id("<end_of_turn>")]
    if style != "hub" or not shape.tie_word_embeddings:
        result["tie_word_embeddings"] = shape.tie_word_embeddings
    return result


def _text_configuration(shape: Shape, style: Style) -> dict[str, Any]:
    text: dict[str, Any] = {
        "model_type": "gemma3_text",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "query_pre_attn_scalar": shape.query_pre_attn_scalar,
        "sliding_window": shape.sliding_window,
    }
    if shape.rms_norm_eps != 1e-6:
        text["rms_norm_eps"] = shape.rms_norm_eps
    if style != "hub" or not shape.tie_word_embeddings:
        text["tie_word_embeddings"] = shape.tie_word_embeddings
    scaling = {"rope_type": "linear", "factor": shape.rope_factor} if shape.rope_factor != 1.0 else None
    if style == "hub":
        text |= {"rope_theta": shape.rope_theta, "rope_local_base_freq": shape.rope_local_base_freq}
        text["rope_scaling"] = scaling
        if shape.layer_types is None:
            text["sliding_window_pattern"] = shape.sliding_window_pattern
        else:
            text["layer_types"] = list(shape.layer_types)
        return text
    full = scaling or {"rope_type": "default"}
    text["rope_parameters"] = {
        "full_attention": {**full, "rope_theta": shape.rope_theta},
        "sliding_attention": {"rope_type": "default", "rope_theta": shape.rope_local_base_freq},
    }
    text["layer_types"] = list(shape.types())
    return text


def _write_side_files(folder: Path, shape: Shape, style: Style, tokenizer: Tokenizer) -> None:
    end_of_turn = tokenizer.token_to_id("<end_of_turn>")
    write_json(
        folder / "generation_config.json", {"bos_token_id": 2, "eos_token_id": [1, end_of_turn], "pad_token_id": 0}
    )
    tokenizer_config: dict[str, Any] = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>"}
    if style == "hub":
        tokenizer_config["chat_template"] = CHAT_TEMPLATE
    else:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    if shape.vision:
        image_processor = {
            "image_processor_type": "Gemma3ImageProcessor",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "rescale_factor": 1 / 255,
            "size": {"height": shape.image_size, "width": shape.image_size},
        }
        if style == "hub":
            write_json(folder / "preprocessor_config.json", image_processor)
        else:
            write_json(folder / "processor_config.json", {"image_processor": image_processor})
