"""What the exported graphs compute is what transformers computes, for shapes that nobody tuned for."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from checkpoint_files import read_safetensors, write_safetensors
from checkpoints import Shape, make_checkpoint

from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle, manifest_to_json
from appliance.medgemma.file_record import file_record
from export.bundle_session import BundleSession, attention_biases, chunk_ends, image_blocks
from export.checkpoint import CheckpointFolder
from export.decoder_graph import inverse_frequencies
from export.errors import ParityError
from export.exporter import ExportOptions, export_checkpoint
from export.parity import verify_bundle
from export.quantize import Bits, block_size_for, dequantize, quantize

FLOAT32 = ExportOptions(decoder="float32", embedding="float32", vision="float32")
RANDOM_SHAPES = 6


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def export_made(folder: Path, options: ExportOptions = FLOAT32, **arguments: Any) -> tuple[Path, Path]:
    checkpoint = make_checkpoint(folder / "checkpoint", **arguments)
    source = CheckpointFolder(path=checkpoint, name="made")
    return checkpoint, export_checkpoint(source, folder / "bundle", options)


def random_arguments(rng: np.random.Generator) -> dict[str, Any]:
    """Draw everything that a checkpoint can vary in; odd sizes and ratios on purpose."""
    kv_heads = int(rng.integers(1, 4))
    heads = kv_heads * int(rng.integers(1, 4))
    layers = int(rng.integers(1, 6))
    tokens_per_side = int(rng.integers(1, 4))
    # One patch a side more than divides evenly: pooling then leaves the last row and column out.
    pooled = int(rng.integers(1, 4))
    patches = tokens_per_side * pooled + int(rng.integers(0, 2) * (tokens_per_side > 1 and pooled > 1))
    vision_heads, patch_size = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    kinds = ["full_attention", "sliding_attention"]
    return {
        "seed": int(rng.integers(1 << 31)),
        "style": str(rng.choice(["hub", "saved", "new"])),
        "dtype": str(rng.choice(["float32", "float16", "bfloat16"])),
        "shards": int(rng.integers(1, 4)),
        "tie_word_embeddings": bool(rng.integers(0, 2)),
        "layers": layers,
        "layer_types": tuple(map(str, rng.choice(kinds, layers))) if rng.integers(0, 2) else None,
        "sliding_window_pattern": int(rng.integers(1, 7)),
        "hidden_size": heads * int(rng.integers(5, 30)),
        "intermediate_size": int(rng.integers(20, 150)),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": 8 * int(rng.integers(1, 7)),
        "vocab_size": int(rng.integers(400, 700)),
        "sliding_window": int(rng.integers(2, 40)),
        "query_pre_attn_scalar": int(rng.integers(4, 64)),
        "rope_theta": float(rng.choice([10_000.0, 500_000.0, 1_000_000.0])),
        "rope_factor": float(rng.choice([1.0, 2.5, 8.0])),
        "rms_norm_eps": float(rng.choice([1e-6, 1e-5])),
        "vision": bool(rng.integers(0, 4)),
        "vision_layers": int(rng.integers(1, 4)),
        "vision_hidden_size": vision_heads * int(rng.integers(4, 20)),
        "vision_intermediate_size": int(rng.integers(10, 90)),
        "vision_heads": vision_heads,
        "patch_size": patch_size,
        "image_size": patches * patch_size + int(rng.integers(0, patch_size)),
        "mm_tokens_per_image": tokens_per_side**2,
    }


@pytest.mark.parametrize("number", range(RANDOM_SHAPES))
def test_float32_bundle_agrees_with_transformers_for_a_random_shape(tmp_path: Path, seed: int, number: int) -> None:
    arguments = random_arguments(np.random.default_rng([seed, number]))
    checkpoint, bundle = export_made(tmp_path, **arguments)

    result = verify_bundle(bundle, checkpoint, seed=seed, threads=1)

    assert result["passed"], arguments
    assert len(result["cases"]) == (5 if arguments["vision"] else 2)
    assert load_bundle(bundle).manifest.parity == result


@pytest.mark.parametrize("original_names", [True, False])
def test_what_transformers_itself_saves_agrees(tmp_path: Path, original_names: bool) -> None:
    import torch
    from transformers import AutoConfig, Gemma3ForConditionalGeneration

    made = make_checkpoint(tmp_path / "made", style="saved", layers=3)
    model = Gemma3ForConditionalGeneration(AutoConfig.from_pretrained(made))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2 if parameter.ndim == 1 else 0.1)
    saved = tmp_path / "saved"
    model.save_pretrained(saved, max_shard_size="100KB", save_original_format=original_names)
    (saved / "tokenizer.json").write_bytes((made / "tokenizer.json").read_bytes())
    source = CheckpointFolder(path=saved, name="saved")

    bundle = export_checkpoint(source, tmp_path / "bundle", FLOAT32)

    assert len(list(saved.glob("*.safetensors"))) > 2
    assert verify_bundle(bundle, saved, threads=1)["passed"]


@pytest.mark.parametrize("style", ["hub", "saved", "new"])
def test_both_generations_of_files_give_the_same_graphs(tmp_path: Path, style: Any) -> None:
    _, bundle = export_made(tmp_path / style, style=style, shards=2 if style == "new" else 1)
    _, other = export_made(tmp_path / "other", style="hub")

    files, others = load_bundle(bundle).manifest.files, load_bundle(other).manifest.files

    assert files == others


def test_gemma_3_like_ratios_agree(tmp_path: Path) -> None:
    """The published pattern of layers, head counts and pooling, smaller."""
    checkpoint, bundle = export_made(
        tmp_path,
        dtype="bfloat16",
        shards=2,
        layers=7,
        sliding_window_pattern=6,
        heads=8,
        kv_heads=4,
        head_dim=32,
        hidden_size=80,
        query_pre_attn_scalar=32,
        image_size=56,
        patch_size=7,
        mm_tokens_per_image=4,
    )

    assert verify_bundle(bundle, checkpoint, threads=1)["passed"]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantised_bundle_computes_with_the_dequantised_weights(tmp_path: Path, precision: Any) -> None:
    """A float32 bundle of the rounded weights differs from the quantised one by the rounding of activations only."""
    shape: dict[str, Any] = {"intermediate_size": 130, "vision_intermediate_size": 70}
    options = ExportOptions(decoder=precision, embedding=precision, vision="int8")
    checkpoint, bundle = export_made(tmp_path / "quantised", options, **shape)
    rounded = make_checkpoint(tmp_path / "rounded", **shape)
    write_safetensors(rounded, rounded_weights(checkpoint / "model.safetensors", 4 if precision == "int4" else 8))
    source = CheckpointFolder(path=rounded, name="rounded")
    exact = export_checkpoint(source, tmp_path / "exact", FLOAT32)

    ours, theirs = (logits_of(path) for path in (bundle, exact))

    relative = float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))
    assert relative < 0.06


def rounded_weights(path: Path, bits: Bits) -> dict[str, Any]:
    """Round every matrix as the exporter does; the vision tower always to 8 bits."""
    tensors = read_safetensors(path)
    for name, value in tensors.items():
        if value.ndim != 2 or "position_embedding" in name:
            continue
        width: Bits = bits if name.startswith("language_model") else 8
        rows = value.T if "mm_input_projection" in name else value
        rows = np.ascontiguousarray(rows)
        size = block_size_for(rows, width)
        result = dequantize(quantize(rows, width, size), width, rows.shape[1])
        tensors[name] = result.T if "mm_input_projection" in name else result
    return tensors


def logits_of(path: Path) -> Any:
    bundle = load_bundle(path)
    session = BundleSession(bundle, threads=1)
    tokens = bundle.manifest.architecture.tokens
    assert tokens.image_token_id is not None
    ids = [2, 30, *[tokens.image_token_id] * Shape().mm_tokens_per_image, *range(40, 60)]
    blocks = image_blocks(ids, tokens.image_token_id)
    pixels = np.random.default_rng(5).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    embeds = session.embed(ids, session.image_features(pixels))
    wanted = list(range(len(ids)))
    return session.prefill(embeds, blocks, wanted, chunk=len(ids), capacity=len(ids))[1]


def test_float16_vision_is_close(tmp_path: Path) -> None:
    options = ExportOptions(decoder="float32", embedding="float32", vision="float16")
    checkpoint, bundle = export_made(tmp_path, options)

    result = verify_bundle(bundle, checkpoint, threads=1)

    assert result["image_features"]["relative_rms"] < 2e-3


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    checkpoint, bundle = export_made(tmp_path)
    path = bundle / "decoder.onnx.data"
    content = bytearray(path.read_bytes())
    content[4096 + 3] ^= 0x40  # the exponent of one weight of the first layer
    path.write_bytes(content)
    manifest = load_manifest(bundle)
    files = {**manifest.files, path.name: file_record(path)}
    (bundle / MANIFEST_NAME).write_bytes(manifest_to_json(msgspec.structs.replace(manifest, files=files)))

    with pytest.raises(ParityError, match="differ by"):
        verify_bundle(bundle, checkpoint, threads=1)

    parity = json.loads((bundle / MANIFEST_NAME).read_bytes())["parity"]
    assert parity["passed"] is False
    assert parity["failures"]


def load_manifest(bundle: Path) -> Any:
    from appliance.medgemma.bundle import Manifest

    return msgspec.json.decode((bundle / MANIFEST_NAME).read_bytes(), type=Manifest)


def test_another_checkpoint_is_found(tmp_path: Path) -> None:
    _, bundle = export_made(tmp_path)
    other = make_checkpoint(tmp_path / "other", seed=1)

    with pytest.raises(ParityError, match="does not agree"):
        verify_bundle(bundle, other, threads=1)


@pytest.mark.parametrize("head_dim", [8, 64, 256])
@pytest.mark.parametrize(("theta", "factor"), [(10_000.0, 1.0), (1_000_000.0, 8.0)])
def test_rotary_frequencies_are_the_reference_s_to_the_last_bits(head_dim: int, theta: float, factor: float) -> None:
    import torch

    expected = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float) / head_dim)) / factor

    # Two units in the last place: numpy and torch round powers apart.
    np.testing.assert_allclose(inverse_frequencies(theta, head_dim, factor), expected.numpy(), rtol=2.4e-7)


def test_masks_let_an_image_see_itself_and_hide_what_left_the_window() -> None:
    blocks = image_blocks([1, 9, 9, 9, 1, 9, 9, 1], 9)

    full, sliding = (bias[0, 0] == 0 for bias in attention_biases(blocks, 0, 2))

    assert blocks.tolist() == [0, 1, 1, 1, 0, 2, 2, 0]
    assert full[1].tolist() == [True, True, True, True, False, False, False, False]
    assert full[5].tolist() == [True] * 7 + [False]
    assert sliding[3].tolist() == [False, False, True, True, False, False, False, False]
    assert sliding[1].tolist() == [True, True, True, True, False, False, False, False]


def test_chunks_never_cut_an_image() -> None:
    blocks = image_blocks([1, 1, 9, 9, 9, 1, 1, 9, 9, 1], 9)

    assert chunk_ends(blocks, 3) == [5, 9, 10]
    assert chunk_ends(blocks, 100) == [10]
