"""`embedding.onnx`: token ids become scaled text embeddings, out of the table that the tied head reads too.

Source: transformers 5.23 `Gemma3TextScaledWordEmbedding`, `Gemma3Model.forward`.
"""

import math

import numpy as np

from appliance.medgemma.bundle import INPUT_IDS, INPUTS_EMBEDS
from appliance.medgemma.spec import GemmaSpec
from export.graph_builder import FLOAT, INT64, GraphBuilder
from export.table import EmbeddingTable, add_lookup


def build_embedding(spec: GemmaSpec, table: EmbeddingTable) -> GraphBuilder:
    """Build the graph.

    The factor sqrt(hidden_size) is applied in float32, as the reference does for a model loaded in float32; loaded in
    bfloat16 it would round the factor (50.5 instead of 50.596 for 2560).
    """
    hidden = spec.text.hidden_size
    builder = GraphBuilder("embedding")
    ids = builder.input(INPUT_IDS, INT64, [1, "T"])
    image_token_id = spec.tokens.image_token_id
    if image_token_id is not None and image_token_id >= spec.text.vocab_size:
        # Its row is overwritten by image features anyway, but the table has none: take row 0 instead.
        inside = builder.node("Less", "is_text", [ids, builder.constant("vocab_size", np.array(spec.text.vocab_size))])
        ids = builder.node("Where", "text_ids", [inside, ids, builder.constant("row_0", np.array(0))])
    rows = add_lookup(builder, "embed_tokens", ids, table)
    scale = builder.constant("embed_scale", np.array(math.sqrt(hidden), np.float32))
    builder.node("Mul", INPUTS_EMBEDS, [rows, scale])
    builder.output(INPUTS_EMBEDS, FLOAT, [1, "T", hidden])
    return builder
