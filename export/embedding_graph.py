"""`embedding.onnx`: token ids become scaled text embeddings, out of the table that the tied head reads too.

Source: transformers 5.23 `Gemma3TextScaledWordEmbedding`, `Gemma3Model.forward`.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from appliance.medgemma.bundle import INPUT_IDS, INPUTS_EMBEDS
from appliance.medgemma.spec import GemmaSpec
from export.graph_builder import FLOAT, INT64, MICROSOFT, GraphBuilder
from export.matrix import StoredMatrix

_TABLE: Final = "embed_tokens.weight"


def build_embedding(spec: GemmaSpec, table: StoredMatrix) -> GraphBuilder:
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
        inside = builder.node("Less", "is_text", [ids, builder.constant("vocab_size", np.array(table.rows))])
        ids = builder.node("Where", "text_ids", [inside, ids, builder.constant("row_0", np.array(0))])
    rows = _lookup(builder, ids, table)
    scale = builder.constant("embed_scale", np.array(math.sqrt(hidden), np.float32))
    builder.node("Mul", INPUTS_EMBEDS, [rows, scale])
    builder.output(INPUTS_EMBEDS, FLOAT, [1, "T", hidden])
    return builder


def _lookup(builder: GraphBuilder, ids: str, table: StoredMatrix) -> str:
    """Add the lookup: float32 [1, T, hidden_size]."""
    if table.scales is None:
        return builder.node("Gather", "embed_tokens", [builder.stored(_TABLE, table.values), ids], axis=0)
    # The bytes of MatMulNBits, seen as rows instead of blocks.
    row_bytes = table.values.size_bytes // table.rows
    flat = replace(table.values, shape=(table.rows, row_bytes))
    inputs = [builder.stored(_TABLE, flat), ids, builder.stored("embed_tokens.scales", table.scales)]
    rows = builder.node(
        "GatherBlockQuantized",
        "embed_tokens",
        inputs,
        domain=MICROSOFT,
        bits=table.bits,
        block_size=table.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if row_bytes * 8 // table.bits == table.columns:
        return rows
    start, stop, axis = (
        builder.constant(name, np.array([value], np.int64))
        for name, value in (("first", 0), ("hidden_size", table.columns), ("last_axis", 2))
    )
    return builder.node("Slice", "embed_tokens/unfilled", [rows, start, stop, axis])
