"""A checkpoint's tensors under one set of names, whatever generation of files they came from.

It reads headers only; values are read by whoever builds a graph. Names here are those of transformers 5 without the
leading `model.`: `language_model.layers.0.self_attn.q_proj.weight`, `vision_tower.encoder.layers.0.layer_norm1.weight`.
Source: transformers 5.23 `conversion_mapping.py` ("llava", "CLIPVisionModel") for the generations of names.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.errors import CheckpointError, UnsupportedCheckpointError
from export.safetensors_file import StoredTensor, read_header

SINGLE_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
EMBEDDING: Final = "language_model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
_TEXT: Final = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?((?:embed_tokens|layers|norm)\..+)")
_HEAD: Final = re.compile(r"(?:model\.)?(?:language_model\.)?(lm_head\..+)")
_VISION: Final = re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)")
_PROJECTOR: Final = re.compile(r"(?:model\.)?(multi_modal_projector\..+)")
_IGNORED: Final = re.compile(r"vision_tower\.head\..*|.*\.position_ids|.*rotary_emb\..*inv_freq")
"""SigLIP's pooling head, which Gemma 3 does not use, and buffers that old versions saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFolder:
    """A checkpoint on this machine, and where it came from."""

    path: Path
    name: str
    """Hub id or folder name."""
    revision: str | None = None


class Checkpoint:
    """The tensors of a checkpoint folder."""

    def __init__(self, tensors: dict[str, StoredTensor], files: Iterable[Path]) -> None:
        self._tensors = tensors
        self.files = tuple(files)
        """The safetensors files, and the index where there is one."""

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.size_bytes for tensor in self._tensors.values())

    def tensor(self, name: str) -> StoredTensor:
        """Find a tensor.

        Raises:
            CheckpointError: There is no such tensor.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            raise CheckpointError(
                f"The checkpoint has no tensor {name}; a file may be missing or the layer count wrong."
            )
        return tensor

    def resolve_head(self, *, tied: bool) -> bool:
        """Decide whether the head is the embedding table, as the reference does, and drop what is double.

        The configuration may say tied while the files hold both: equal ones are tied, different ones are not. They may
        also hold the table under the head's name only.

        Args:
            tied: What the configuration says.

        Raises:
            CheckpointError: A file cannot be read.
        """
        if not tied or HEAD not in self._tensors:
            return tied
        if EMBEDDING in self._tensors and not _are_equal(self._tensors[EMBEDDING], self._tensors[HEAD]):
            return False
        head = self._tensors.pop(HEAD)
        self._tensors.setdefault(EMBEDDING, head)
        return True

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that exactly these tensors are there, before any work is spent.

        Args:
            shapes: What the configuration asks for.

        Raises:
            CheckpointError: A tensor is missing or has another shape.
            UnsupportedCheckpointError: There is one for which the model has no place, such as an adapter's.
        """
        for name, shape in shapes.items():
            tensor = self.tensor(name)
            if tensor.shape != shape:
                raise CheckpointError(
                    f"The tensor {tensor.name} has shape {list(tensor.shape)}; the configuration wants {list(shape)}."
                )
        for name in sorted(self._tensors.keys() - shapes.keys()):
            if not _IGNORED.fullmatch(name):
                raise UnsupportedCheckpointError(
                    f"The checkpoint holds the tensor {self._tensors[name].name}, for which a Gemma 3 of this "
                    "configuration has no place."
                )


def open_checkpoint(folder: Path, on_read: Callable[[int], None] | None = None) -> Checkpoint:
    """Read the headers of a folder's safetensors files.

    Args:
        folder: A Hugging Face checkpoint folder.
        on_read: Told the bytes of every later read.

    Raises:
        CheckpointError: No safetensors, a shard is missing or truncated, or two tensors mean the same.
    """
    files = _weight_files(folder)
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        if path.name == INDEX_FILE:
            continue
        for stored in read_header(path, on_read).values():
            name = canonical_name(stored.name)
            if name in tensors:
                raise CheckpointError(f"The tensors {tensors[name].name} and {stored.name} are the same weight twice.")
            tensors[name] = stored
    return Checkpoint(tensors, files)


def canonical_name(name: str) -> str:
    """Return our name of a stored tensor; a name of no known generation comes back as it is."""
    for pattern, prefix in ((_TEXT, "language_model."), (_HEAD, ""), (_VISION, "vision_tower."), (_PROJECTOR, "")):
        if match := pattern.fullmatch(name):
            return prefix + match[1]
    return name


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; `None` if there is no such file.

    Raises:
        CheckpointError: It is there and is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return content


def _are_equal(left: StoredTensor, right: StoredTensor) -> bool:
    if left.shape != right.shape:
        return False
    pairs = zip(left.row_chunks(), right.row_chunks(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def _weight_files(folder: Path) -> list[Path]:
    index_path = folder / INDEX_FILE
    index = read_json(index_path)
    if index is None:
        if not (folder / SINGLE_FILE).is_file():
            raise CheckpointError(f"{folder} holds no {SINGLE_FILE} and no {INDEX_FILE}; only safetensors are read.")
        return [folder / SINGLE_FILE]
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index_path} has no weight_map.")
    shards: dict[str, str] = {}
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(f"{index_path} puts the tensor {tensor} in {shard!r}, which is not a file name.")
        shards.setdefault(shard, tensor)
    for shard, tensor in shards.items():
        path = folder / shard
        if not path.is_file():
            raise CheckpointError(f"The shard {path} is missing; it holds the tensor {tensor}.")
    _check_index(folder, weight_map)
    return [index_path, *(folder / shard for shard in sorted(shards))]


def _check_index(folder: Path, weight_map: dict[str, str]) -> None:
    present: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        if shard not in present:
            present[shard] = set(read_header(folder / shard))
        if tensor not in present[shard]:
            raise CheckpointError(f"The tensor {tensor} is not in {shard}, where {INDEX_FILE} puts it.")
