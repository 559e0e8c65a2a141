"""Which tensors a Gemma 3 of a given shape has, by our names, and how large each is.

Source: transformers 5.23 `modeling_gemma3.py`, `modeling_siglip.py`.
"""

from collections.abc import Iterator

from appliance.medgemma.spec import GemmaSpec, TextSpec, VisionSpec
from export.checkpoint import EMBEDDING, HEAD

Shape = tuple[int, ...]


def expected_shapes(spec: GemmaSpec) -> dict[str, Shape]:
    """List every tensor with its shape; matrices are outputs by inputs."""
    shapes = dict(_text(spec.text))
    if spec.vision is not None:
        shapes.update(_vision(spec.vision))
        width = spec.vision.hidden_size
        shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = (width,)
        # The one matrix that is inputs by outputs.
        shapes["multi_modal_projector.mm_input_projection_weight"] = (width, spec.text.hidden_size)
    return shapes


def _text(spec: TextSpec) -> Iterator[tuple[str, Shape]]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    query, key = spec.num_attention_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim
    yield EMBEDDING, (spec.vocab_size, hidden)
    if not spec.tie_word_embeddings:
        yield HEAD, (spec.vocab_size, hidden)
    for layer in range(spec.num_hidden_layers):
        path = f"language_model.layers.{layer}"
        yield f"{path}.self_attn.q_proj.weight", (query, hidden)
        yield f"{path}.self_attn.k_proj.weight", (key, hidden)
        yield f"{path}.self_attn.v_proj.weight", (key, hidden)
        yield f"{path}.self_attn.o_proj.weight", (hidden, query)
        yield f"{path}.self_attn.q_norm.weight", (spec.head_dim,)
        yield f"{path}.self_attn.k_norm.weight", (spec.head_dim,)
        yield f"{path}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{path}.mlp.up_proj.weight", (inner, hidden)
        yield f"{path}.mlp.down_proj.weight", (hidden, inner)
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{path}.{norm}_layernorm.weight", (hidden,)
    yield "language_model.norm.weight", (hidden,)


def _vision(spec: VisionSpec) -> Iterator[tuple[str, Shape]]:
    width, inner, path = spec.hidden_size, spec.intermediate_size, "vision_tower.embeddings"
    yield f"{path}.patch_embedding.weight", (width, 3, spec.patch_size, spec.patch_size)
    yield f"{path}.patch_embedding.bias", (width,)
    yield f"{path}.position_embedding.weight", (spec.patches_per_side**2, width)
    for layer in range(spec.num_hidden_layers):
        path = f"vision_tower.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{path}.self_attn.{part}.weight", (width, width)
            yield f"{path}.self_attn.{part}.bias", (width,)
        yield f"{path}.mlp.fc1.weight", (inner, width)
        yield f"{path}.mlp.fc1.bias", (inner,)
        yield f"{path}.mlp.fc2.weight", (width, inner)
        yield f"{path}.mlp.fc2.bias", (width,)
        for norm in ("layer_norm1", "layer_norm2"):
            yield f"{path}.{norm}.weight", (width,)
            yield f"{path}.{norm}.bias", (width,)
    yield "vision_tower.post_layernorm.weight", (width,)
    yield "vision_tower.post_layernorm.bias", (width,)
