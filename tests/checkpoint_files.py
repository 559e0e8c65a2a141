"""The files of a test checkpoint: safetensors written and read by hand, and a byte-fallback tokenizer like Gemma's."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

SPECIAL_TOKENS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<unused94>",
    "<unused95>",
)
IMAGE_TOKEN = "<image_soft_token>"
WORDS = ("the", "lesion", "is", "a", "and", "pigmented", "what", "do", "you", "see", "user", "model", "\n\n", "▁▁")
_DTYPES: dict[str, tuple[str, Any]] = {
    "float32": ("F32", np.float32),
    "float16": ("F16", np.float16),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
}


def write_safetensors(
    folder: Path, tensors: dict[str, NDArray[Any]], *, dtype: str = "float32", shards: int = 1
) -> None:
    """Write tensors as one `model.safetensors`, or as several with their index."""
    if shards == 1:
        _write_shard(folder / "model.safetensors", tensors, dtype)
        return
    names = list(tensors)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number::shards]
        _write_shard(folder / file, {name: tensors[name] for name in part}, dtype)
        weight_map.update(dict.fromkeys(part, file))
    total = sum(value.size * np.dtype(_DTYPES[dtype][1]).itemsize for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read one file that `write_safetensors` wrote, as float32."""
    content = path.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    kinds = dict(_DTYPES.values())
    result = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        raw = np.frombuffer(content[8 + length + start : 8 + length + end], dtype=kinds[entry["dtype"]])
        result[name] = raw.reshape(entry["shape"]).astype(np.float32)
    return result


def make_tokenizer(vocab_size: int = 512, *, image_token: bool = True) -> Tokenizer:
    """Make a byte-fallback BPE with Gemma's special tokens.

    Ids: specials from 0, 256 byte tokens, printable ASCII and a few words; `<image_soft_token>` is the last one that
    fits, as in Gemma 3, whose padding rows come after it.
    """
    vocabulary = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    for value in range(256):
        vocabulary[f"<0x{value:02X}>"] = len(vocabulary)
    for character in ["▁", "\n", *map(chr, range(33, 127))]:
        vocabulary.setdefault(character, len(vocabulary))
    merges = list(_merges(vocabulary))
    if len(vocabulary) + 1 > vocab_size:
        raise ValueError(f"the tokenizer needs a vocabulary of {len(vocabulary) + 1} tokens, got {vocab_size}")
    specials = list(SPECIAL_TOKENS)
    if image_token:
        vocabulary[IMAGE_TOKEN] = len(vocabulary)
        specials.append(IMAGE_TOKEN)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return tokenizer


def _merges(vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                yield word[: end - 1], word[end - 1]


def _write_shard(path: Path, tensors: dict[str, NDArray[Any]], dtype: str) -> None:
    label, kind = _DTYPES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, value in tensors.items():
        size = value.size * np.dtype(kind).itemsize
        header[name] = {"dtype": label, "shape": list(value.shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value.astype(kind)).tobytes())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as indented JSON."""
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
