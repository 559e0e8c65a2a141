"""Write a random checkpoint of MedGemma 1.5 4B's exact shape: 8.6 GB in bfloat16, shard by shard, in little memory.

    python tests/benchmarks/make_checkpoint.py FOLDER [--tokenizer tokenizer.json]

Speed and memory do not depend on what the weights are, so this stands in for the gated ones. Without `--tokenizer` the
tokenizer is the small one of the tests: control tokens have other ids than in the published files, and masks for JSON
schemas are cheaper than with Gemma's 262,145 tokens.
Source: the configuration of the 4B model, read from public descriptions of it.
"""

import argparse
import json
import struct
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoint_files import write_json
from checkpoints import Shape, describe_checkpoint, tensor_name, tensor_shapes

MEDGEMMA_4B = Shape(
    layers=34,
    hidden_size=2560,
    intermediate_size=10240,
    heads=8,
    kv_heads=4,
    head_dim=256,
    vocab_size=262_208,
    sliding_window=1024,
    sliding_window_pattern=6,
    query_pre_attn_scalar=256,
    vision_layers=27,
    vision_hidden_size=1152,
    vision_intermediate_size=4304,
    vision_heads=16,
    image_size=896,
    patch_size=14,
    mm_tokens_per_image=256,
)
SHARDS = 4
POOL_VALUES = 1 << 22
"""Normal numbers that are drawn once and written again and again, from another start each time."""

Entry = tuple[str, tuple[int, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="Gemma 3's tokenizer.json.")
    parser.add_argument("--seed", type=int, default=0)
    values = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(values.tokenizer)) if values.tokenizer else None
    describe_checkpoint(values.folder, MEDGEMMA_4B, style="hub", dtype="bfloat16", tokenizer=tokenizer)
    entries = list(tensor_shapes(MEDGEMMA_4B))
    rng = np.random.default_rng(values.seed)
    weight_map = {}
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = entries[number::SHARDS]
        write_shard(values.folder / name, part, rng)
        weight_map.update({tensor_name(key, "hub", MEDGEMMA_4B): name for key, _ in part})
        print(name)
    total = sum(2 * int(np.prod(shape)) for _, shape in entries)
    write_json(
        values.folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def write_shard(path: Path, entries: list[Entry], rng: np.random.Generator) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, shape in entries:
        end = offset + 2 * int(np.prod(shape))
        header[tensor_name(key, "hub", MEDGEMMA_4B)] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    pool = rng.normal(0, 1, POOL_VALUES).astype(np.float32)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, shape in entries:
            # Small enough that activations stay finite through 34 layers.
            scale = 0.1 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
            scaled = (pool * np.float32(scale)).astype(ml_dtypes.bfloat16)
            left = int(np.prod(shape))
            while left > 0:
                start = int(rng.integers(POOL_VALUES // 2))
                piece = scaled[start : start + left]
                file.write(piece.tobytes())
                left -= len(piece)


if __name__ == "__main__":
    main()
