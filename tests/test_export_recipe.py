"""Recipes put each matrix in its precision, the manifest says so, and what they cost is measured on conversations."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
import pytest
from checkpoints import make_checkpoint

from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle, manifest_to_json
from export.bundle_session import BundleSession
from export.checkpoint import CheckpointFolder
from export.conversations import make_conversations
from export.errors import ParityError
from export.exporter import ExportOptions, export_checkpoint
from export.fidelity import BundlePredictor, kl_divergence, measure_fidelity
from export.parity import compare_bundles, verify_bundle
from export.recipe import RECIPES, decoder_precision

FLOAT32 = ExportOptions(decoder="float32", embedding="float32", vision="float32")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFolder:
    folder = tmp_path_factory.mktemp("recipe")
    return CheckpointFolder(path=make_checkpoint(folder / "tiny", vocab_size=768), name="tiny")


@pytest.fixture(scope="module")
def exact(checkpoint: CheckpointFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("exact") / "bundle", FLOAT32)


def bits_by_matrix(bundle: Path) -> dict[str, int]:
    graph = onnx.load(str(bundle / "decoder.onnx"), load_external_data=False).graph
    nodes = [node for node in graph.node if node.op_type == "MatMulNBits"]
    return {node.name.lstrip("/"): next(a.i for a in node.attribute if a.name == "bits") for node in nodes}


@pytest.mark.parametrize(
    ("recipe", "eight_bits"),
    [
        ("plain", set()),
        ("balanced", {"layers.0.self_attn.o_proj", "layers.0.mlp.gate_up_proj"}),
        ("fine", {"layers.0.mlp.down_proj", "layers.1.self_attn.qkv_proj", "layers.3.self_attn.o_proj"}),
    ],
)
def test_recipe_decides_the_bits_of_each_matrix(
    tmp_path: Path, checkpoint: CheckpointFolder, recipe: str, eight_bits: set[str]
) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions(recipe=recipe))

    bits = bits_by_matrix(bundle)
    assert all(bits[name] == 8 for name in eight_bits)
    # What none of them keeps at 8 bits, and the head: of one in 8 bits it is the coarse half that is multiplied.
    assert {bits["layers.1.mlp.gate_up_proj"], bits["layers.3.mlp.down_proj"], bits["lm_head"]} == {4}
    precision = load_bundle(bundle).manifest.precision
    assert (precision.recipe, precision.decoder_int8) == (recipe, RECIPES[recipe].decoder_int8)


def test_part_by_part_choice_overrules_the_recipe(tmp_path: Path, checkpoint: CheckpointFolder) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions(decoder="int4"))

    assert {bits for name, bits in bits_by_matrix(bundle).items() if name != "lm_head"} == {4}
    precision = load_bundle(bundle).manifest.precision
    assert (precision.recipe, precision.decoder_int8, precision.vision) == (None, (), "int8")


def test_exceptions_hold_for_int4_only() -> None:
    assert decoder_precision("layers.0.mlp.down_proj", "int4", ("layers.0.*",)) == "int8"
    assert decoder_precision("layers.10.mlp.down_proj", "int4", ("layers.0.*",)) == "int4"
    assert decoder_precision("layers.0.mlp.down_proj", "float32", ("layers.0.*",)) == "float32"


def test_manifest_of_before_recipes_is_still_read(tmp_path: Path, checkpoint: CheckpointFolder) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions())
    content = msgspec.json.decode((bundle / MANIFEST_NAME).read_bytes())
    del content["precision"]["recipe"], content["precision"]["decoder_int8"]
    (bundle / MANIFEST_NAME).write_bytes(msgspec.json.encode(content))

    assert load_bundle(bundle).manifest.precision.decoder == "int4"


def test_fidelity_falls_with_the_bits(tmp_path: Path, checkpoint: CheckpointFolder, exact: Path) -> None:
    measured = []
    parts: tuple[Literal["int8"], Literal["int4"]] = ("int8", "int4")
    for part in parts:
        options = ExportOptions(decoder=part, embedding="float32", vision="float32")
        bundle = export_checkpoint(checkpoint, tmp_path / part, options)
        measured.append(compare_bundles(bundle, exact, threads=1, pictures=2)["conversations"])
        assert load_bundle(bundle).manifest.parity is not None

    itself = compare_bundles(exact, exact, threads=1, pictures=2)["conversations"]
    assert (itself["mean_kl_divergence"], itself["top_1_agreement"]) == (0, 1)
    for better, worse in pairwise([itself, *measured]):
        assert better["mean_kl_divergence"] < worse["mean_kl_divergence"]
        assert better["p99_kl_divergence"] < worse["p99_kl_divergence"]
        assert better["tokens"] == worse["tokens"] > 50


def test_float32_bundle_and_transformers_are_the_same_reference(
    tmp_path: Path, checkpoint: CheckpointFolder, exact: Path
) -> None:
    bundle = export_checkpoint(checkpoint, tmp_path / "bundle", ExportOptions())

    ours = compare_bundles(bundle, exact, threads=1, pictures=1)["conversations"]
    theirs = verify_bundle(bundle, checkpoint.path, threads=1, pictures=1)["conversations"]

    assert ours["tokens"] == theirs["tokens"]
    assert ours["mean_kl_divergence"] == pytest.approx(theirs["mean_kl_divergence"], rel=1e-3)
    assert ours["p99_kl_divergence"] == pytest.approx(theirs["p99_kl_divergence"], rel=1e-3)


def test_bundles_of_different_checkpoints_are_not_compared(tmp_path: Path, exact: Path) -> None:
    other = CheckpointFolder(path=make_checkpoint(tmp_path / "other", seed=9, vocab_size=768), name="tiny")

    with pytest.raises(ParityError, match="not made from the same checkpoint"):
        compare_bundles(export_checkpoint(other, tmp_path / "bundle", FLOAT32), exact)


def test_conversations_ask_about_a_picture_and_know_the_answer(exact: Path) -> None:
    bundle = load_bundle(exact)
    tokens = bundle.manifest.architecture.tokens

    conversations = list(make_conversations(bundle, 3, questions=2))

    assert [one.picture for one in conversations] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for one in conversations:
        assert one.pixel_values is not None
        assert one.input_ids.count(tokens.image_token_id) == bundle.manifest.architecture.vision.mm_tokens_per_image  # type: ignore[union-attr]  # made with vision
        assert one.wanted[0] == one.answer_start - 1
        assert one.input_ids[one.wanted[-1] + 1] in tokens.eos_token_ids


def test_text_only_model_is_measured_without_pictures(tmp_path: Path) -> None:
    made = CheckpointFolder(path=make_checkpoint(tmp_path / "text", vision=False, vocab_size=768), name="text")
    bundle = load_bundle(export_checkpoint(made, tmp_path / "bundle", FLOAT32))
    predictor = BundlePredictor(BundleSession(bundle, threads=1))

    measured = measure_fidelity(predictor, predictor, make_conversations(bundle, 1))

    assert measured["mean_kl_divergence"] == 0
    assert measured["tokens"] > 10


def test_kl_divergence_is_that_of_the_textbook() -> None:
    theirs, ours = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.25, 0.5]])

    # 0.5 ln 2 + 0 - 0.25 ln 2, whatever constant is added to the logits.
    found = kl_divergence(np.log(ours).astype(np.float32) + 7, np.log(theirs).astype(np.float32))

    np.testing.assert_allclose(found, [0.25 * np.log(2)], rtol=1e-6)


def test_manifest_round_trip_keeps_the_recipe(exact: Path) -> None:
    manifest = load_bundle(exact).manifest
    precision = msgspec.structs.replace(manifest.precision, recipe="balanced", decoder_int8=("layers.0.*",))
    changed = msgspec.structs.replace(manifest, precision=precision)

    assert msgspec.json.decode(manifest_to_json(changed), type=type(manifest)) == changed
