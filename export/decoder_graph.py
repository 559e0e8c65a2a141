"""`decoder.onnx`: embeddings, positions, masks and caches become logits. One function a module of the reference.

What a run may see is told by two additive biases: text sees what came before, an image also the rest of itself. The
attention itself hides nothing (`causal=0`). Residual stream, norms and softmax are float32.
Source: transformers 5.23 `modeling_gemma3.py`; ONNX Runtime `docs/ContribOperators.md`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.medgemma import bundle
from appliance.medgemma.spec import CachePrecision, LayerType, TextSpec
from export.cache_scales import key_scales, value_scales
from export.checkpoint import Checkpoint
from export.external_data import ExternalDataFile
from export.graph_builder import FLOAT, INT8, INT32, INT64, MICROSOFT, GraphBuilder
from export.matrix import MatrixPrecision, StoredMatrix, add_linear, store_matrix
from export.safetensors_file import StoredTensor
from export.table import EmbeddingTable, add_coarse_head

_LENGTHS_AND_BIAS: Final[dict[LayerType, tuple[str, str, str]]] = {
    "full_attention": (bundle.SEQLENS_K, bundle.TOTAL_SEQUENCE_LENGTH, bundle.ATTENTION_BIAS),
    "sliding_attention": (
        bundle.SEQLENS_K_SLIDING,
        bundle.TOTAL_SEQUENCE_LENGTH_SLIDING,
        bundle.ATTENTION_BIAS_SLIDING,
    ),
}
"""What the attention of a layer is told. Apart, because a sliding layer's cache need not hold more than its window."""

PrecisionOf = Callable[[str], MatrixPrecision]
"""Tells the precision of a matrix by its name, such as `layers.0.mlp.down_proj`."""


def build_decoder(
    spec: TextSpec,
    checkpoint: Checkpoint,
    data: ExternalDataFile,
    head: EmbeddingTable,
    precision_of: PrecisionOf,
    cache: CachePrecision,
) -> GraphBuilder:
    """Build the graph and write its matrices.

    Args:
        spec: The decoder's shape.
        checkpoint: Where the weights come from.
        data: The graph's own external-data file.
        head: The table that turns hidden states into logits, tied or not.
        precision_of: Tells the precision of each of the layers' matrices.
        cache: Precision of keys and values.
    """
    return _Decoder(spec, checkpoint, data, precision_of, cache).build(head)


def inverse_frequencies(theta: float, head_dim: int, factor: float) -> NDArray[np.float32]:
    """Return the rotary frequencies: float32 [head_dim / 2], in radians a position.

    Computed in float32 step by step as the reference does: at position 100,000 the last bit is a hundredth of a radian.
    """
    exponents = np.arange(0, head_dim, 2).astype(np.float32) / np.float32(head_dim)
    inverse: NDArray[np.float32] = np.float32(1) / np.float32(theta) ** exponents
    return inverse / np.float32(factor)


class _Decoder:
    """What all layers share while the graph is built."""

    def __init__(
        self,
        spec: TextSpec,
        checkpoint: Checkpoint,
        data: ExternalDataFile,
        precision_of: PrecisionOf,
        cache: CachePrecision,
    ) -> None:
        self.spec = spec
        self.checkpoint = checkpoint
        self.data = data
        self.precision_of = precision_of
        self.cache_type = {"int8": INT8, "float32": FLOAT}[cache]
        self.builder = GraphBuilder("decoder")
        self.rotary: dict[LayerType, tuple[str, str]] = {}

    def build(self, head: EmbeddingTable) -> GraphBuilder:
        builder, hidden = self.builder, self.spec.hidden_size
        embeds = builder.input(bundle.INPUTS_EMBEDS, FLOAT, [1, "T", hidden])
        self._declare_inputs()
        residual = embeds
        normed = self._norm("layers.0.input_layernorm", embeds)
        for layer in range(self.spec.num_hidden_layers):
            residual, normed = self._layer(layer, residual, normed)
        builder.node("Identity", bundle.HIDDEN_STATES, [normed])
        self._head(head)
        builder.output(bundle.HIDDEN_STATES, FLOAT, [1, "K", hidden])
        for layer in range(self.spec.num_hidden_layers):
            for name in (bundle.present_name(layer, "key"), bundle.present_name(layer, "value")):
                builder.output(name, self.cache_type, self._cache_shape(layer))
        return builder

    def _head(self, head: EmbeddingTable) -> None:
        """Add the logits, under the name that says whether they are exact."""
        builder = self.builder
        if isinstance(head, StoredMatrix):
            name, logits = bundle.LOGITS, add_linear(builder, "lm_head", bundle.HIDDEN_STATES, head)
        else:
            name, logits = bundle.COARSE_LOGITS, add_coarse_head(builder, "lm_head", bundle.HIDDEN_STATES, head)
        builder.node("Identity", name, [logits])
        builder.output(name, FLOAT, [1, "K", self.spec.vocab_size])

    def _cache_shape(self, layer: int) -> list[int | str]:
        length = "W" if self.spec.layer_types[layer] == "sliding_attention" else "C"
        return [1, self.spec.num_key_value_heads, length, self.spec.head_dim]

    def _declare_inputs(self) -> None:
        builder = self.builder
        builder.input(bundle.POSITION_IDS, INT64, [1, "T"])
        for layer_type, length in (("full_attention", "S"), ("sliding_attention", "R")):
            if layer_type in self.spec.layer_types:
                seqlens_k, total_sequence_length, bias = _LENGTHS_AND_BIAS[layer_type]
                builder.input(bias, FLOAT, [1, 1, "T", length])
                builder.input(seqlens_k, INT32, [1])
                builder.input(total_sequence_length, INT32, [])
        builder.input(bundle.LOGITS_INDICES, INT64, ["K"])
        for layer in range(self.spec.num_hidden_layers):
            for name in (bundle.past_name(layer, "key"), bundle.past_name(layer, "value")):
                builder.input(name, self.cache_type, self._cache_shape(layer))

    def _layer(self, layer: int, residual: str, normed: str) -> tuple[str, str]:
        """Add one layer; takes and returns the residual stream and its norm for what comes next."""
        path = f"layers.{layer}"
        attended = self._attention(layer, normed)
        if layer == self.spec.num_hidden_layers - 1:
            # After its attention the last layer works on single positions: those nobody asked for can go.
            residual = self._wanted("residual", residual)
            attended = self._wanted("attended", attended)
        attended = self._matrix(f"{path}.self_attn.o_proj", ["o_proj"], attended)
        attended = self._norm(f"{path}.post_attention_layernorm", attended)
        normed, residual = self._add_and_norm(f"{path}.pre_feedforward_layernorm", attended, residual)
        expanded = self._mlp(path, normed)
        expanded = self._norm(f"{path}.post_feedforward_layernorm", expanded)
        following = "norm" if layer == self.spec.num_hidden_layers - 1 else f"layers.{layer + 1}.input_layernorm"
        normed, residual = self._add_and_norm(following, expanded, residual)
        return residual, normed

    def _wanted(self, name: str, value: str) -> str:
        return self.builder.node("Gather", f"/wanted/{name}", [value, bundle.LOGITS_INDICES], axis=1)

    def _attention(self, layer: int, value: str) -> str:
        """Add q, k, v, their norms and rotation, and the attention over the cache: float32 [1, T, heads * head_dim]."""
        spec, builder, path = self.spec, self.builder, f"layers.{layer}.self_attn"
        layer_type = spec.layer_types[layer]
        query_size = spec.num_attention_heads * spec.head_dim
        key_size = spec.num_key_value_heads * spec.head_dim
        packed = self._matrix(f"{path}.qkv_proj", ["q_proj", "k_proj", "v_proj"], value)
        sizes = builder.constant("qkv_sizes", np.array([query_size, key_size, key_size]))
        names = [f"/{path}/{part}" for part in ("query", "key", "value")]
        query, key, values = builder.nodes("Split", f"/{path}/split", [packed, sizes], names, axis=2)
        query = self._rotate(f"{path}.q_norm", query, query_size, layer_type)
        key = self._rotate(f"{path}.k_norm", key, key_size, layer_type)
        return self._attend(layer, [query, key, values])

    def _attend(self, layer: int, packed: Sequence[str]) -> str:
        """Add the attention over the cache, which takes the run's keys and values in.

        Args:
            layer: Its number.
            packed: Query, key and value of the run's tokens.
        """
        spec, builder, path = self.spec, self.builder, f"/layers.{layer}.self_attn/attention"
        layer_type = spec.layer_types[layer]
        seqlens_k, total_sequence_length, bias = _LENGTHS_AND_BIAS[layer_type]
        parts: tuple[Literal["key"], Literal["value"]] = ("key", "value")
        inputs = [*packed, *(bundle.past_name(layer, part) for part in parts), seqlens_k, total_sequence_length]
        inputs += ["", "", "", bias]  # no rotation of its own
        attributes: dict[str, Any] = {
            "causal": 0,
            "num_heads": spec.num_attention_heads,
            "kv_num_heads": spec.num_key_value_heads,
            "scale": float(spec.query_pre_attn_scalar**-0.5),
        }
        scales = self._cache_scales(layer)
        if scales:
            attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        outputs = [path, *(bundle.present_name(layer, part) for part in parts)]
        builder.nodes("GroupQueryAttention", path, [*inputs, *scales], outputs, domain=MICROSOFT, **attributes)
        return path

    def _cache_scales(self, layer: int) -> list[str]:
        """Add what one step of an integer is worth in the cache; returns the inputs after the bias."""
        if self.cache_type == FLOAT:
            return []
        path, heads = f"layers.{layer}", self.spec.num_key_value_heads
        key_norm, norm, matrix = (
            self._tensor(f"{path}.{name}").uncounted()
            for name in ("self_attn.k_norm", "input_layernorm", "self_attn.v_proj")
        )
        keys = key_scales(_norm_values(key_norm), heads)
        values = value_scales(matrix, _norm_values(norm), heads)
        parts = (("key", keys), ("value", values))
        return ["", *(self.builder.constant(f"{path}.self_attn.{part}.scales", scales) for part, scales in parts)]

    def _rotate(self, norm: str, value: str, width: int, layer_type: LayerType) -> str:
        """Add the norm of each head and its rotary embedding: float32 [1, T, width], both ways."""
        builder = self.builder
        heads = builder.node("Reshape", f"/{norm}/heads", [value, builder.shape(1, -1, self.spec.head_dim)])
        heads = self._norm(norm, heads)
        merged = builder.node("Reshape", f"/{norm}/merged", [heads, builder.shape(1, -1, width)])
        # One position means: row 0 of the tables is that of the first token, and so on.
        first = builder.constant("rotary_first_row", np.zeros(1, np.int64))
        inputs = [merged, first, *self._rotary_tables(layer_type)]
        return builder.node("RotaryEmbedding", f"/{norm}/rotated", inputs, domain=MICROSOFT)

    def _rotary_tables(self, layer_type: LayerType) -> tuple[str, str]:
        """Add, once a layer type, cosine and sine of every position of the run: float32 [T, head_dim / 2] each."""
        if layer_type not in self.rotary:
            spec, builder, path = self.spec, self.builder, f"/rotary/{layer_type}"
            theta, factor = spec.rope_theta, spec.rope_scaling_factor
            if layer_type == "sliding_attention":
                theta, factor = spec.rope_local_base_freq, 1.0
            frequencies = inverse_frequencies(theta, spec.head_dim, factor)
            positions = builder.node("Cast", f"{path}/positions", [bundle.POSITION_IDS], to=FLOAT)
            column = builder.node("Reshape", f"{path}/column", [positions, builder.shape(-1, 1)])
            angles = builder.node(
                "Mul", f"{path}/angles", [column, builder.constant(f"inv_freq.{layer_type}", frequencies)]
            )
            cosine, sine = (builder.node(op, f"{path}/{op.lower()}", [angles]) for op in ("Cos", "Sin"))
            self.rotary[layer_type] = cosine, sine
        return self.rotary[layer_type]

    def _mlp(self, path: str, value: str) -> str:
        """Add the gated MLP: down(gelu(gate(x)) * up(x)), gelu in its tanh form."""
        builder, inner = self.builder, self.spec.intermediate_size
        packed = self._matrix(f"{path}.mlp.gate_up_proj", ["gate_proj", "up_proj"], value)
        sizes = builder.constant("gate_up_sizes", np.array([inner, inner]))
        gate, up = builder.nodes(
            "Split", f"/{path}/mlp/split", [packed, sizes], [f"/{path}/mlp/gate", f"/{path}/mlp/up"], axis=2
        )
        gate = builder.node("FastGelu", f"/{path}/mlp/gelu", [gate], domain=MICROSOFT)
        product = builder.node("Mul", f"/{path}/mlp/product", [gate, up])
        return self._matrix(f"{path}.mlp.down_proj", ["down_proj"], product)

    def _matrix(self, name: str, parts: list[str], value: str) -> str:
        """Add one linear layer made of one or more of the checkpoint's matrices that read the same input."""
        module = name.rpartition(".")[0]
        tensors = [self._tensor(f"{module}.{part}") for part in parts]
        return add_linear(
            self.builder, f"/{name}", value, store_matrix(self.data, name, tensors, self.precision_of(name))
        )

    def _tensor(self, name: str) -> StoredTensor:
        return self.checkpoint.tensor(f"language_model.{name}.weight")

    def _norm_weight(self, name: str) -> str:
        return self.builder.constant(f"{name}.weight", _norm_values(self._tensor(name)))

    def _norm(self, name: str, value: str) -> str:
        inputs = [value, self._norm_weight(name)]
        return self.builder.node(
            "SimplifiedLayerNormalization", f"/{name}", inputs, axis=-1, epsilon=self.spec.rms_norm_eps, stash_type=1
        )

    def _add_and_norm(self, name: str, value: str, residual: str) -> tuple[str, str]:
        """Add `value` to the residual stream; returns the norm of the sum, and the sum."""
        normed, _, _, total = self.builder.nodes(
            "SkipSimplifiedLayerNormalization",
            f"/{name}",
            [value, residual, self._norm_weight(name)],
            [f"/{name}", "", "", f"/{name}/sum"],
            domain=MICROSOFT,
            epsilon=self.spec.rms_norm_eps,
        )
        return normed, total


def _norm_values(tensor: StoredTensor) -> NDArray[np.float32]:
    """Return the weight of an RMSNorm, which the checkpoint stores less one: float32 [width]."""
    return np.float32(1) + tensor.read()
