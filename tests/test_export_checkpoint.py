"""Safetensors are read as they are, under one set of names; a damaged checkpoint is refused by the tensor's name."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from checkpoint_files import read_safetensors, write_safetensors
from checkpoints import make_checkpoint

from export.checkpoint import EMBEDDING, HEAD, INDEX_FILE, canonical_name, open_checkpoint
from export.errors import CheckpointError, UnsupportedCheckpointError
from export.safetensors_file import StoredTensor, read_header


def one_tensor(folder: Path, value: Any, dtype: str = "float32") -> StoredTensor:
    write_safetensors(folder, {"one": np.asarray(value)}, dtype=dtype)
    return read_header(folder / "model.safetensors")["one"]


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "f4"), ("float16", "f2"), ("bfloat16", ml_dtypes.bfloat16)])
def test_values_come_back_as_float32(tmp_path: Path, dtype: str, kind: Any) -> None:
    value = np.array([[1.0, -2.5e-3, 3e4], [0.0, -0.0, 7.0]], np.float32)

    read = one_tensor(tmp_path, value, dtype).read()

    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, value.astype(kind).astype(np.float32))


def test_rows_in_chunks_are_the_whole_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.arange(77 * 5, dtype=np.float32).reshape(77, 5)
    tensor = one_tensor(tmp_path, value)
    monkeypatch.setattr("export.safetensors_file._CHUNK_VALUES", 32)

    chunks = list(tensor.row_chunks())

    assert len(chunks) == 13
    np.testing.assert_array_equal(np.concatenate(chunks), value)


def test_progress_hears_every_byte(tmp_path: Path) -> None:
    heard: list[int] = []
    checkpoint = open_checkpoint(make_checkpoint(tmp_path, dtype="bfloat16"), heard.append)

    checkpoint.tensor(EMBEDDING).read()

    assert sum(heard) == 512 * 64 * 2


def test_not_a_number_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tensor one in model\.safetensors holds a value that is not"):
        one_tensor(tmp_path, [1.0, np.nan]).read()


@pytest.mark.parametrize(
    ("stored", "ours"),
    [
        ("language_model.model.layers.3.mlp.up_proj.weight", "language_model.layers.3.mlp.up_proj.weight"),
        ("model.language_model.layers.3.mlp.up_proj.weight", "language_model.layers.3.mlp.up_proj.weight"),
        ("model.layers.3.mlp.up_proj.weight", "language_model.layers.3.mlp.up_proj.weight"),
        ("layers.3.mlp.up_proj.weight", "language_model.layers.3.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", EMBEDDING),
        ("language_model.lm_head.weight", HEAD),
        ("lm_head.weight", HEAD),
        ("vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("model.vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("model.vision_tower.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
        ("model.multi_modal_projector.mm_soft_emb_norm.weight", "multi_modal_projector.mm_soft_emb_norm.weight"),
        ("adapter.weight", "adapter.weight"),
    ],
)
def test_every_generation_of_names_is_one(stored: str, ours: str) -> None:
    assert canonical_name(stored) == ours


def test_truncated_file_names_the_tensor_that_is_cut(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(CheckpointError, match=r"truncated: the tensor multi_modal_projector\.mm_input_"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 100])
def test_file_cut_inside_its_header_is_refused(tmp_path: Path, length: int) -> None:
    path = make_checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(tmp_path)


def test_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"one": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))

    with pytest.raises(CheckpointError, match="contradicts itself about the tensor one"):
        open_checkpoint(tmp_path)


def test_unknown_number_format_is_refused_by_name(tmp_path: Path) -> None:
    header = json.dumps({"one": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))

    with pytest.raises(UnsupportedCheckpointError, match=r"tensor one in .* is stored as F8_E4M3"):
        open_checkpoint(tmp_path)


def test_missing_shard_is_named_with_a_tensor(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is missing; it holds the tensor"):
        open_checkpoint(tmp_path)


def test_index_that_points_at_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=2)
    index = json.loads((tmp_path / INDEX_FILE).read_text())
    name = next(iter(index["weight_map"]))
    index["weight_map"][name] = "model-00002-of-00002.safetensors"
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match=f"{name} is not in model-00002"):
        open_checkpoint(tmp_path)


def test_index_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, shards=2)
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"one": "../other.safetensors"}}))

    with pytest.raises(CheckpointError, match="not a file name"):
        open_checkpoint(tmp_path)


def test_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="only safetensors are read"):
        open_checkpoint(tmp_path)


def test_the_same_weight_under_two_names_is_refused(tmp_path: Path) -> None:
    tensors = {"model.norm.weight": np.zeros(4), "language_model.model.norm.weight": np.zeros(4)}
    write_safetensors(tmp_path, tensors)

    with pytest.raises(CheckpointError, match="same weight twice"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (2, 3), "b": (4,)}, "has no tensor b"),
        ({"a": (3, 2)}, r"tensor a has shape \[2, 3\]; the configuration wants \[3, 2\]"),
        ({}, "holds the tensor a, for which"),
    ],
)
def test_tensors_must_be_exactly_those_of_the_configuration(tmp_path: Path, shapes: Any, message: str) -> None:
    write_safetensors(tmp_path, {"a": np.zeros((2, 3))})

    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path).check(shapes)


def test_unused_parts_of_published_files_are_passed_over(tmp_path: Path) -> None:
    names = ("vision_tower.vision_model.head.probe", "vision_tower.vision_model.embeddings.position_ids")
    write_safetensors(tmp_path, {name: np.zeros(2) for name in names})

    open_checkpoint(tmp_path).check({})


@pytest.mark.parametrize(
    ("tied", "head", "expected"),
    [(True, "same", True), (True, "other", False), (True, "only", True), (False, "same", False)],
)
def test_head_is_tied_as_the_reference_ties_it(tmp_path: Path, tied: bool, head: str, expected: bool) -> None:
    table = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    tensors = {"lm_head.weight": table + (head == "other")}
    if head != "only":
        tensors["model.embed_tokens.weight"] = table
    write_safetensors(tmp_path, tensors)
    checkpoint = open_checkpoint(tmp_path)

    assert checkpoint.resolve_head(tied=tied) is expected
    assert EMBEDDING in checkpoint
    assert (HEAD in checkpoint) is not expected


def test_test_checkpoints_read_as_they_were_written(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, dtype="float16")
    checkpoint = open_checkpoint(tmp_path)

    for name, value in read_safetensors(tmp_path / "model.safetensors").items():
        np.testing.assert_array_equal(checkpoint.tensor(canonical_name(name)).read(), value)
