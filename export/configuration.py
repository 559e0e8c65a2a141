"""A checkpoint's `config.json`, of either generation, as a `GemmaSpec`; whatever is not understood is refused by name.

Old: `rope_theta`, `rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`. New: `rope_parameters` for each
layer type, `layer_types`. The published files
leave out what equals the class default, so the defaults are those classes' own.
Source: transformers 5.23 `configuration_gemma3.py`, `configuration_siglip.py`.
"""

import json
import math
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from appliance.medgemma.spec import LayerType, TextSpec, VisionSpec
from export.checkpoint import read_json
from export.errors import CheckpointError, UnsupportedCheckpointError

MULTIMODAL: Final = "Gemma3ForConditionalGeneration"
TEXT_ONLY: Final = frozenset({"Gemma3ForCausalLM", "Gemma3TextModel"})
_ACTIVATION: Final = "gelu_pytorch_tanh"
_HEAD_DIM_MULTIPLE: Final = 8
"""ONNX Runtime's GroupQueryAttention takes no other head sizes."""
_FULL: Final = "full_attention"
_SLIDING: Final = "sliding_attention"
# Keys that change the result in a way the graphs do not follow: they must be absent, or have one of these values.
_TEXT_ALLOWED: Final[dict[str, tuple[Any, ...]]] = {
    "attention_bias": (False, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "hidden_activation": (_ACTIVATION,),
    "hidden_act": (_ACTIVATION, None),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
    "num_experts": (None, 0),
}
_VISION_ALLOWED: Final[dict[str, tuple[Any, ...]]] = {
    "hidden_act": (_ACTIVATION,),
    "num_channels": (3,),
    "model_type": ("siglip_vision_model",),
}
_Number = TypeVar("_Number", int, float)


def read_configuration(folder: Path) -> dict[str, Any]:
    """Read `config.json` and check that it is a Gemma 3.

    Raises:
        CheckpointError: There is none, or it is not JSON.
        UnsupportedCheckpointError: It is of another architecture, or quantized already.
    """
    configuration = read_json(folder / "config.json")
    if configuration is None:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no config.json.")
    architectures = configuration.get("architectures") or [_architecture_from_type(configuration)]
    known = {MULTIMODAL, *TEXT_ONLY}
    if len(architectures) != 1 or architectures[0] not in known:
        raise UnsupportedCheckpointError(
            f"The architecture {', '.join(map(str, architectures))} is not supported; {MULTIMODAL} and "
            "Gemma3ForCausalLM are."
        )
    if configuration.get("quantization_config") is not None:
        raise UnsupportedCheckpointError(
            "quantization_config: the checkpoint is quantized already; export the original weights."
        )
    return configuration


def is_multimodal(configuration: dict[str, Any]) -> bool:
    """Tell whether the checkpoint takes images."""
    return "text_config" in configuration or configuration.get("model_type") == "gemma3"


def text_spec(configuration: dict[str, Any]) -> TextSpec:
    """Read the decoder's shape.

    Raises:
        CheckpointError: A key has an impossible value.
        UnsupportedCheckpointError: A key asks for something that the graphs do not do.
    """
    text = configuration.get("text_config", {}) if is_multimodal(configuration) else configuration
    _check_allowed(text, _TEXT_ALLOWED, "text_config.")
    layers = _positive(text, "num_hidden_layers", 26)
    layer_types = _layer_types(text, layers)
    theta, factor, local = _rope(text, layer_types)
    heads, kv_heads = _positive(text, "num_attention_heads", 8), _positive(text, "num_key_value_heads", 4)
    if heads % kv_heads:
        raise CheckpointError(f"num_attention_heads is {heads}, not a multiple of num_key_value_heads, {kv_heads}.")
    head_dim = _positive(text, "head_dim", 256)
    if head_dim % _HEAD_DIM_MULTIPLE:
        raise UnsupportedCheckpointError(
            f"head_dim is {head_dim}; only multiples of {_HEAD_DIM_MULTIPLE} are supported."
        )
    # For a multimodal model the outer key decides; the inner one is not looked at.
    tied = configuration.get("tie_word_embeddings", True)
    longest = _positive(text, "max_position_embeddings", 131_072)
    return TextSpec(
        vocab_size=_positive(text, "vocab_size", 262_208),
        hidden_size=_positive(text, "hidden_size", 2304),
        intermediate_size=_positive(text, "intermediate_size", 9216),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=_positive(text, "query_pre_attn_scalar", 256.0),
        rms_norm_eps=_positive(text, "rms_norm_eps", 1e-6),
        layer_types=layer_types,
        sliding_window=_sliding_window(text, layer_types, longest),
        rope_theta=theta,
        rope_scaling_factor=factor,
        rope_local_base_freq=local,
        max_position_embeddings=longest,
        tie_word_embeddings=tied is not False,
    )


def vision_spec(configuration: dict[str, Any]) -> VisionSpec | None:
    """Read the vision tower's shape; `None` for a text-only checkpoint.

    Raises:
        CheckpointError: A key has an impossible value.
        UnsupportedCheckpointError: A key asks for something that the graphs do not do.
    """
    if not is_multimodal(configuration):
        return None
    vision = configuration.get("vision_config")
    if not isinstance(vision, dict):
        raise CheckpointError("config.json has no vision_config.")
    _check_allowed(vision, _VISION_ALLOWED, "vision_config.")
    spec = VisionSpec(
        image_size=_positive(vision, "image_size", 224),
        patch_size=_positive(vision, "patch_size", 16),
        hidden_size=_positive(vision, "hidden_size", 768),
        intermediate_size=_positive(vision, "intermediate_size", 3072),
        num_hidden_layers=_positive(vision, "num_hidden_layers", 12),
        num_attention_heads=_positive(vision, "num_attention_heads", 12),
        layer_norm_eps=_positive(vision, "layer_norm_eps", 1e-6),
        mm_tokens_per_image=_positive(configuration, "mm_tokens_per_image", 256),
    )
    if spec.hidden_size % spec.num_attention_heads:
        raise CheckpointError(
            f"vision_config.hidden_size is {spec.hidden_size}, not a multiple of its {spec.num_attention_heads} heads."
        )
    side, tokens = spec.patches_per_side, spec.tokens_per_side
    if tokens**2 != spec.mm_tokens_per_image or side < tokens or side // (side // tokens) != tokens:
        raise CheckpointError(
            f"mm_tokens_per_image is {spec.mm_tokens_per_image}: {side} x {side} patches cannot be pooled to that."
        )
    return spec


def _architecture_from_type(configuration: dict[str, Any]) -> str:
    model_type = configuration.get("model_type")
    return {"gemma3": MULTIMODAL, "gemma3_text": "Gemma3ForCausalLM"}.get(str(model_type), str(model_type))


def _check_allowed(section: dict[str, Any], allowed: dict[str, tuple[Any, ...]], prefix: str) -> None:
    for key, values in allowed.items():
        if key in section and section[key] not in values:
            raise UnsupportedCheckpointError(f"{prefix}{key} is {json.dumps(section[key])}, which is not supported.")


def _positive(section: dict[str, Any], key: str, default: _Number) -> _Number:
    """Read a positive number of the default's type; a whole number will do for a float."""
    value = section.get(key, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0 or type(default)(value) != value:
        raise CheckpointError(f"{key} is {json.dumps(value)}; it must be a positive {type(default).__name__}.")
    return type(default)(value)


def _layer_types(text: dict[str, Any], layers: int) -> tuple[LayerType, ...]:
    given = text.get("layer_types")
    if given is None:
        pattern = _positive(text, "sliding_window_pattern", 6)
        return tuple(_SLIDING if (layer + 1) % pattern else _FULL for layer in range(layers))
    if not isinstance(given, list) or len(given) != layers:
        raise CheckpointError(f"layer_types must list {layers} layers.")
    for one in given:
        if one not in get_args(LayerType):
            raise UnsupportedCheckpointError(f"layer_types holds {json.dumps(one)}, which is not supported.")
    return tuple(given)


def _sliding_window(text: dict[str, Any], layer_types: tuple[LayerType, ...], longest: int) -> int:
    """Return the window; where no layer slides and none is given, the longest context, which is no window at all."""
    if text.get("sliding_window", 4096) is None and _SLIDING not in layer_types:
        return longest
    return _positive(text, "sliding_window", 4096)


def _rope(text: dict[str, Any], layer_types: tuple[LayerType, ...]) -> tuple[float, float, float]:
    """Return theta and linear factor of full layers, theta of sliding ones."""
    parameters = text.get("rope_parameters") or {}
    if parameters and not parameters.keys() <= set(get_args(LayerType)):
        raise UnsupportedCheckpointError("rope_parameters is not given a layer type, which is not supported.")
    full = {**(parameters.get(_FULL) or {}), **(text.get("rope_scaling") or {})}
    sliding = parameters.get(_SLIDING) or {}
    theta = _positive(full if "rope_theta" in full else text, "rope_theta", 1_000_000.0)
    if "rope_theta" in sliding:
        local = _positive(sliding, "rope_theta", 10_000.0)
    else:
        local = _positive(text, "rope_local_base_freq", 10_000.0)
    factor = _rope_factor(full, _FULL)
    if _rope_factor(sliding, _SLIDING) != 1.0 and _SLIDING in layer_types:
        raise UnsupportedCheckpointError("rope_parameters.sliding_attention is scaled, which is not supported.")
    return theta, factor, local


def _rope_factor(parameters: dict[str, Any], layer_type: str) -> float:
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in {"default", "linear"}:
        raise UnsupportedCheckpointError(f"rope_type of {layer_type} is {json.dumps(kind)}, which is not supported.")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedCheckpointError(f"partial_rotary_factor of {layer_type} is not supported.")
    return _positive(parameters, "factor", 1.0) if kind == "linear" else 1.0
