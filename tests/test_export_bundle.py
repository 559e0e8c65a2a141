"""A bundle is whole, says where it came from and under which licence, and takes its place only when it is complete."""

import json
import os
from pathlib import Path
from typing import Any

import onnx
import pytest
from checkpoint_files import read_safetensors, write_safetensors
from checkpoints import make_checkpoint

from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle
from appliance.medgemma.file_record import FileRecord, file_record
from export.checkpoint import CheckpointFolder
from export.errors import CheckpointError, StorageError, TargetExistsError
from export.exporter import ExportOptions, Silence, export_checkpoint
from export.external_data import ALIGNMENT_BYTES
from export.licence import GEMMA, HAI_DEF, NOTICE_FILE, UNKNOWN, find_notice
from export.staging import replace_file, staged_folder


def export_named(folder: Path, name: str = "made", *, style: Any = "hub", **options: Any) -> Path:
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        make_checkpoint(checkpoint, style=style)
    source = CheckpointFolder(path=checkpoint, name=name)
    return export_checkpoint(source, folder / "bundle", ExportOptions(**options))


def test_manifest_says_what_the_bundle_is(tmp_path: Path) -> None:
    card = {"accuracy": 0.5}
    bundle = load_bundle(export_named(tmp_path, "owner/model", warning="Not for patients.", card=card))

    manifest = bundle.manifest
    assert (manifest.name, manifest.source.checkpoint) == ("model", "owner/model")
    assert (manifest.precision.decoder, manifest.precision.embedding, manifest.precision.vision) == (
        "int4",
        "int8",
        "int8",
    )
    assert (manifest.warning, manifest.card, manifest.parity) == ("Not for patients.", card, None)
    assert manifest.preprocessing.image_mean == (0.5, 0.5, 0.5)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= manifest.source.files.keys()
    assert set(manifest.files) == {path.name for path in bundle.path.iterdir()} - {MANIFEST_NAME}
    assert "<start_of_turn>" in manifest.chat_template


def test_text_only_bundle_has_no_vision(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint", vision=False)

    manifest = load_bundle(export_named(tmp_path)).manifest

    assert set(manifest.graphs) == {"embedding", "decoder"}
    assert manifest.architecture.vision is None
    assert manifest.precision.vision is None


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (export_named(tmp_path / name) for name in ("one", "two"))

    assert (first / MANIFEST_NAME).read_bytes() == (second / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("precision", ["int4", "int8", "float32"])
def test_tied_table_is_on_disk_once(tmp_path: Path, precision: Any) -> None:
    bundle = export_named(tmp_path, embedding=precision)

    embedding, decoder = (
        {entry.value for tensor in graph.graph.initializer for entry in tensor.external_data if entry.key == "location"}
        for graph in (onnx.load(bundle / name, load_external_data=False) for name in ("embedding.onnx", "decoder.onnx"))
    )

    fine_half = {"embedding-fine.onnx.data"} if precision == "int8" else set()
    assert embedding == {"embedding.onnx.data"} | fine_half
    assert decoder == {"embedding.onnx.data", "decoder.onnx.data"}, "the head reads the coarse half alone"


def test_untied_head_is_the_decoder_s_own(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint", tie_word_embeddings=False)
    bundle = export_named(tmp_path)

    initializers = onnx.load(bundle / "decoder.onnx", load_external_data=False).graph.initializer

    places = {tensor.name: tensor.external_data[0].value for tensor in initializers if tensor.external_data}
    assert places["lm_head.weight"] == "decoder.onnx.data"


def test_matrices_start_on_a_page(tmp_path: Path) -> None:
    bundle = export_named(tmp_path)

    for name in ("vision.onnx", "embedding.onnx", "decoder.onnx"):
        for tensor in onnx.load(bundle / name, load_external_data=False).graph.initializer:
            offsets = [int(entry.value) for entry in tensor.external_data if entry.key == "offset"]
            assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets)


def test_taken_place_is_refused_without_force(tmp_path: Path) -> None:
    bundle = export_named(tmp_path)
    before = (bundle / MANIFEST_NAME).read_bytes()

    with pytest.raises(TargetExistsError, match="--force replaces it"):
        export_named(tmp_path, decoder="int8")
    assert (bundle / MANIFEST_NAME).read_bytes() == before

    export_named(tmp_path, decoder="int8", replace=True)
    assert load_bundle(bundle).manifest.precision.decoder == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


def test_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years of work")

    with pytest.raises(TargetExistsError, match="is not a bundle"):
        export_named(tmp_path, replace=True)
    assert (tmp_path / "bundle" / "thesis.txt").exists()


def test_empty_folder_may_become_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()

    load_bundle(export_named(tmp_path))


def test_failed_export_leaves_nothing(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    tensors = read_safetensors(checkpoint / "model.safetensors")
    tensors["language_model.model.layers.3.mlp.down_proj.weight"][0, 0] = float("inf")
    write_safetensors(checkpoint, tensors)

    with pytest.raises(CheckpointError, match=r"layers\.3\.mlp\.down_proj\.weight"):
        export_named(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_wrong_shape_is_found_before_anything_is_written(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    tensors = read_safetensors(checkpoint / "model.safetensors")
    name = "language_model.model.layers.1.self_attn.k_proj.weight"
    tensors[name] = tensors[name][:-1]
    write_safetensors(checkpoint, tensors)

    with pytest.raises(CheckpointError, match=rf"{name} has shape \[31, 64\]; the configuration wants \[32, 64\]"):
        export_named(tmp_path)


def test_left_over_folder_of_a_killed_export_is_removed_and_a_held_one_is_not(tmp_path: Path) -> None:
    stale = tmp_path / "bundle.partial-1-dead"
    stale.mkdir()
    (stale / "decoder.onnx.data").write_bytes(b"half")
    with staged_folder(tmp_path / "bundle", replace=False) as held:
        (held / MANIFEST_NAME).write_text("{}")

        with staged_folder(tmp_path / "bundle", replace=True) as other:
            (other / MANIFEST_NAME).write_text("{}")
            assert held.exists()
        assert not stale.exists()
        (tmp_path / "bundle" / MANIFEST_NAME).unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot be written"), staged_folder(tmp_path / "file" / "b", replace=False):
        pass


def test_disk_that_gives_back_other_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = file_record
    wrong = {"decoder.onnx.data"}

    def unsound(path: Path) -> FileRecord:
        record = honest(path)
        return FileRecord(size_bytes=record.size_bytes, sha256="0" * 64) if path.name in wrong else record

    monkeypatch.setattr("export.exporter.file_record", unsound)

    with pytest.raises(StorageError, match=r"decoder\.onnx\.data does not read back"):
        export_named(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_manifest_is_replaced_whole_and_alone(tmp_path: Path) -> None:
    bundle = export_named(tmp_path)
    content = (bundle / MANIFEST_NAME).read_bytes()

    replace_file(bundle / MANIFEST_NAME, content)

    load_bundle(bundle)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


class Listener(Silence):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.parts: dict[str, list[int]] = {}

    def begin(self, what: str, total_bytes: int) -> None:
        self.parts[what] = [0, total_bytes]
        self._now = self.parts[what]

    def advance(self, size_bytes: int) -> None:
        if self.parts:
            self._now[0] += size_bytes


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    listener = Listener()
    source = CheckpointFolder(path=make_checkpoint(tmp_path / "checkpoint"), name="made")

    export_checkpoint(source, tmp_path / "bundle", ExportOptions(), listener)

    assert list(listener.parts) == ["Converting", "Fingerprinting"]
    assert [done == total > 0 for done, total in listener.parts.values()] == [True, True]


@pytest.mark.parametrize(
    ("name", "card", "given", "expected"),
    [
        ("google/medgemma-1.5-4b-it", None, None, HAI_DEF),
        ("x/y", "---\nlicense: other\nlicense_name: health-ai-developer-foundations\n---\n", None, HAI_DEF),
        ("x/y", "---\nlicense: gemma\ntags: [a]\n---\n# Card", None, GEMMA),
        ("x/y", "---\nlicense: apache-2.0\n---\n", None, "Apache-2.0"),
        ("x/y", "---\nlicense: apache-2.0\n---\n", "CC0-1.0", "CC0-1.0"),
        ("x/y", "no front matter", None, UNKNOWN),
        ("x/y", None, None, UNKNOWN),
    ],
)
def test_licence_is_found(tmp_path: Path, name: str, card: str | None, given: str | None, expected: str) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)

    notice = find_notice(tmp_path, name, "Modified: made smaller.", given)

    assert notice.licence.name == expected
    assert "Modified: made smaller." in notice.text


def test_notice_carries_the_required_sentences(tmp_path: Path) -> None:
    bundle = export_named(tmp_path, "google/medgemma-1.5-4b-it")

    notice = (bundle / NOTICE_FILE).read_text()

    assert notice.startswith(
        "HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use"
    )
    assert "the weights of google/medgemma-1.5-4b-it were converted to ONNX graphs by dermstation" in notice


def test_licence_file_of_the_checkpoint_goes_along(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "LICENSE").write_text("Do as you like.\n")

    bundle = export_named(tmp_path)

    assert "--- LICENSE of the checkpoint ---\n\nDo as you like." in (bundle / NOTICE_FILE).read_text()
    assert json.loads((bundle / MANIFEST_NAME).read_bytes())["licence"]["name"] == "see LICENSE below"


def test_bundle_is_readable_by_others(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        bundle = export_named(tmp_path)
    finally:
        os.umask(previous)

    assert {oct(path.stat().st_mode & 0o777) for path in bundle.iterdir()} == {"0o644"}
    assert bundle.stat().st_mode & 0o777 == 0o755
