"""`vision.onnx`: pixels become the soft tokens that stand for an image in the decoder.

SigLIP's tower without its pooling head, then Gemma 3's projector: average pool, norm, projection. Everything but the
large matrices is float32.
Source: transformers 5.23 `modeling_siglip.py`, `Gemma3MultiModalProjector`.
"""

from typing import Final

import numpy as np

from appliance.medgemma.bundle import IMAGE_FEATURES, PIXEL_VALUES
from appliance.medgemma.spec import VisionSpec
from export.checkpoint import Checkpoint
from export.external_data import ExternalDataFile
from export.graph_builder import FLOAT, MICROSOFT, GraphBuilder
from export.matrix import MatrixPrecision, Rows, Transposed, Zeros, add_linear, store_matrix

_INLINE_MAX_BYTES: Final = 1 << 16
"""Larger constants, such as the position embeddings, go beside the graph."""


def build_vision(
    spec: VisionSpec, hidden_size: int, checkpoint: Checkpoint, data: ExternalDataFile, precision: MatrixPrecision
) -> GraphBuilder:
    """Build the graph and write its matrices.

    Args:
        spec: The tower's shape.
        hidden_size: Of the decoder, which the projector leads to.
        checkpoint: Where the weights come from.
        data: The graph's own external-data file.
        precision: Of the tower's and the projector's matrices.
    """
    return _Vision(spec, checkpoint, data, precision).build(hidden_size)


class _Vision:
    """What all layers share while the graph is built."""

    def __init__(
        self, spec: VisionSpec, checkpoint: Checkpoint, data: ExternalDataFile, precision: MatrixPrecision
    ) -> None:
        self.spec = spec
        self.checkpoint = checkpoint
        self.data = data
        self.precision = precision
        self.builder = GraphBuilder("vision")

    def build(self, hidden_size: int) -> GraphBuilder:
        builder, size = self.builder, self.spec.image_size
        pixels = builder.input(PIXEL_VALUES, FLOAT, ["N", 3, size, size])
        value = self._embeddings(pixels)
        for layer in range(self.spec.num_hidden_layers):
            value = self._layer(f"vision_tower.encoder.layers.{layer}", value)
        value = self._layer_norm("vision_tower.post_layernorm", value)
        value = self._projector(value)
        builder.node("Identity", IMAGE_FEATURES, [value])
        builder.output(IMAGE_FEATURES, FLOAT, ["N", self.spec.mm_tokens_per_image, hidden_size])
        return builder

    def _embeddings(self, pixels: str) -> str:
        """Add patches and their places: float32 [N, patches, hidden_size]."""
        builder, spec, path = self.builder, self.spec, "vision_tower.embeddings"
        width, side, patch = spec.hidden_size, spec.patches_per_side, spec.patch_size
        weight = self._constant(f"{path}.patch_embedding.weight")
        bias = self._constant(f"{path}.patch_embedding.bias")
        kernel = [patch, patch]
        inputs = [pixels, weight, bias]
        patches = builder.node("Conv", f"/{path}/patch_embedding", inputs, kernel_shape=kernel, strides=kernel)
        rows = builder.node("Reshape", f"/{path}/rows", [patches, builder.shape(0, width, side * side)])
        rows = builder.node("Transpose", f"/{path}/patches", [rows], perm=[0, 2, 1])
        positions = self._constant(f"{path}.position_embedding.weight")
        return builder.node("Add", f"/{path}", [rows, positions])

    def _layer(self, path: str, value: str) -> str:
        """Add one encoder layer, norms before attention and MLP."""
        builder = self.builder
        attended = self._attention(f"{path}.self_attn", self._layer_norm(f"{path}.layer_norm1", value))
        value = builder.node("Add", f"/{path}/attended", [value, attended])
        outer = self._mlp(f"{path}.mlp", self._layer_norm(f"{path}.layer_norm2", value))
        return builder.node("Add", f"/{path}", [value, outer])

    def _mlp(self, path: str, value: str) -> str:
        """Add the MLP: fc2(gelu(fc1(x))), gelu in its tanh form.

        What fills fc2's last block is filled in fc1's outputs too, for gelu(0) is 0. Otherwise OpenVINO must cut the
        filling off, for which it keeps the matrix in 16 bits: 0.4 GB more at the 4B shape.
        """
        fc2 = store_matrix(self.data, f"{path}.fc2", [self.checkpoint.tensor(f"{path}.fc2.weight")], self.precision)
        inner = self._linear(f"{path}.fc1", ["fc1"], value, filling=fc2.filling)
        inner = self.builder.node("FastGelu", f"/{path}/gelu", [inner], domain=MICROSOFT)
        bias = self._constant(f"{path}.fc2.bias")
        return add_linear(self.builder, f"/{path}.fc2", inner, fc2.filled(), bias)

    def _attention(self, path: str, value: str) -> str:
        """Add attention of every patch to every patch."""
        builder, width = self.builder, self.spec.hidden_size
        packed = self._linear(f"{path}.qkv_proj", ["q_proj", "k_proj", "v_proj"], value)
        sizes = builder.constant("qkv_sizes", np.array([width, width, width]))
        names = [f"/{path}/{part}" for part in ("query", "key", "value")]
        parts = builder.nodes("Split", f"/{path}/split", [packed, sizes], names, axis=2)
        attended = builder.node(
            "MultiHeadAttention", f"/{path}", parts, domain=MICROSOFT, num_heads=self.spec.num_attention_heads
        )
        return self._linear(f"{path}.out_proj", ["out_proj"], attended)

    def _projector(self, value: str) -> str:
        """Add pooling, norm and projection: float32 [N, mm_tokens_per_image, decoder's hidden_size]."""
        builder, spec, path = self.builder, self.spec, "multi_modal_projector"
        width, side, tokens = spec.hidden_size, spec.patches_per_side, spec.tokens_per_side
        kernel = [side // tokens, side // tokens]
        value = builder.node("Transpose", f"/{path}/channels", [value], perm=[0, 2, 1])
        value = builder.node("Reshape", f"/{path}/image", [value, builder.shape(0, width, side, side)])
        value = builder.node("AveragePool", f"/{path}/avg_pool", [value], kernel_shape=kernel, strides=kernel)
        value = builder.node("Reshape", f"/{path}/pooled", [value, builder.shape(0, width, tokens * tokens)])
        value = builder.node("Transpose", f"/{path}/tokens", [value], perm=[0, 2, 1])
        name = f"{path}.mm_soft_emb_norm.weight"
        weight = builder.constant(name, np.float32(1) + self.checkpoint.tensor(name).read())
        value = builder.node(
            "SimplifiedLayerNormalization",
            f"/{path}/mm_soft_emb_norm",
            [value, weight],
            axis=-1,
            epsilon=spec.layer_norm_eps,
            stash_type=1,
        )
        # Stored [inputs, outputs], unlike every other matrix.
        projection = Transposed(tensor=self.checkpoint.tensor(f"{path}.mm_input_projection_weight"))
        matrix = store_matrix(self.data, f"{path}.mm_input_projection", [projection], self.precision)
        return add_linear(builder, f"/{path}/mm_input_projection", value, matrix)

    def _linear(self, name: str, parts: list[str], value: str, *, filling: int = 0) -> str:
        """Add one linear layer with bias, made of one or more of the checkpoint's that read the same input.

        `filling` outputs that are 0 come after theirs.
        """
        module = name.rpartition(".")[0]
        rows: list[Rows] = [self.checkpoint.tensor(f"{module}.{part}.weight") for part in parts]
        biases = [self.checkpoint.tensor(f"{module}.{part}.bias").read() for part in parts]
        if filling:
            rows.append(Zeros(shape=(filling, rows[0].shape[1])))
            biases.append(np.zeros(filling, np.float32))
        bias = self.builder.constant(f"{name}.bias", np.concatenate(biases))
        return add_linear(self.builder, f"/{name}", value, store_matrix(self.data, name, rows, self.precision), bias)

    def _layer_norm(self, name: str, value: str) -> str:
        inputs = [value, self._constant(f"{name}.weight"), self._constant(f"{name}.bias")]
        return self.builder.node("LayerNormalization", f"/{name}", inputs, axis=-1, epsilon=self.spec.layer_norm_eps)

    def _constant(self, name: str) -> str:
        value = self.checkpoint.tensor(name).read()
        if value.nbytes <= _INLINE_MAX_BYTES:
            return self.builder.constant(name, value)
        return self.builder.stored(name, self.data.store(name, value.shape, [value]))
