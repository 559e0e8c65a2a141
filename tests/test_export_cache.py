"""A cache in int8: no key is clipped, a value only far out, and all that differs from a float cache is rounding."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoint_files import read_safetensors, write_safetensors
from checkpoints import make_checkpoint
from click.testing import CliRunner
from numpy.typing import NDArray

from appliance.medgemma.bundle import load_bundle, past_name
from export.bundle_session import BundleSession
from export.cache_scales import key_scales, value_scales
from export.checkpoint import CheckpointFolder
from export.cli import export
from export.exporter import ExportOptions, export_checkpoint
from export.safetensors_file import StoredTensor, read_header

FLOAT32 = {"decoder": "float32", "embedding": "float32", "vision": "float32"}
HEADS = 3
Floats = NDArray[np.float32]


def rotated(keys: Floats, angles: Floats) -> Floats:
    """Turn channel c into channel c + head_dim / 2, as the model does: [n, head_dim] by [n, head_dim / 2]."""
    first, second = np.split(keys, 2, axis=1)
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=1
    )


def stored(folder: Path, values: Floats) -> StoredTensor:
    write_safetensors(folder, {"v": values})
    return read_header(folder / "model.safetensors")["v"]


@pytest.mark.parametrize("head_dim", [8, 64, 256])
def test_no_key_is_ever_clipped(seed: int, head_dim: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (1 + rng.standard_t(3, head_dim)).astype(np.float32)
    largest = 127 * key_scales(weight, HEADS)[0, :, 0]
    # Among them vectors of one channel only, which a norm makes as long as all channels together.
    vectors = np.concatenate([rng.standard_t(2, (2000, head_dim)), np.eye(head_dim)]).astype(np.float32)
    normed = weight * vectors / np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    turned = rotated(normed, rng.uniform(0, 2 * np.pi, (len(normed), head_dim // 2)).astype(np.float32))

    assert largest.shape == (HEADS, head_dim)
    assert (np.abs(turned) <= largest[0] * 1.0001).all()
    # Not a wider range than that needs: the heavier of two channels, alone and not turned, fills its own.
    alone = np.abs(normed[-head_dim:]).max(axis=0)
    np.testing.assert_allclose(
        np.maximum(alone[: head_dim // 2], alone[head_dim // 2 :]), largest[0, : head_dim // 2], rtol=1e-4
    )


@pytest.mark.parametrize(("hidden_size", "deviations"), [(192, math.sqrt(192)), (2560, 24)])
def test_a_value_is_clipped_only_far_out(tmp_path: Path, seed: int, hidden_size: int, deviations: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(HEADS * 8, hidden_size)) * rng.uniform(0.1, 3, (HEADS * 8, 1))).astype(np.float32)
    norm = rng.uniform(0.2, 4, hidden_size).astype(np.float32)
    largest = 127 * value_scales(stored(tmp_path, matrix), norm, HEADS)[0, :, 0].ravel()
    inputs = rng.normal(size=(5000, hidden_size)).astype(np.float32)
    inputs /= np.sqrt(np.square(inputs).mean(axis=1, keepdims=True))
    along = matrix * norm / np.sqrt(np.square(matrix * norm).mean(axis=1, keepdims=True))

    values = (inputs * norm) @ matrix.T
    np.testing.assert_allclose(values.std(axis=0) * deviations, largest, rtol=0.1)
    furthest = np.vecdot(along * norm, matrix)  # the input that makes a channel as large as it can become
    np.testing.assert_allclose(largest, furthest * min(1, deviations / math.sqrt(hidden_size)), rtol=1e-4)


def test_scales_belong_to_their_heads(tmp_path: Path) -> None:
    matrix = np.repeat(np.array([1, 10, 100], np.float32), 8)[:, None] * np.ones((24, 16), np.float32)
    scales = value_scales(stored(tmp_path, matrix), np.ones(16, np.float32), HEADS)
    assert scales.shape == (1, HEADS, 1, 8)
    np.testing.assert_allclose(scales[0, :, 0, 0] / scales[0, 0, 0, 0], [1, 10, 100], rtol=1e-5)


def test_channels_that_are_always_zero_have_a_scale(tmp_path: Path) -> None:
    for scales in (
        key_scales(np.zeros(8, np.float32), HEADS),
        value_scales(stored(tmp_path, np.zeros((24, 16), np.float32)), np.ones(16, np.float32), HEADS),
    ):
        assert (scales > 0).all()


def export_with(folder: Path, **options: Any) -> Path:
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        make_checkpoint(checkpoint, layers=4, sliding_window=7, sliding_window_pattern=2)
    source = CheckpointFolder(path=checkpoint, name="made")
    return export_checkpoint(source, folder / "-".join(options.values()), ExportOptions(**options))


@pytest.mark.parametrize(
    ("options", "precision", "kind"),
    [
        ({"recipe": "balanced"}, "int8", onnx.TensorProto.INT8),
        ({"decoder": "int8"}, "int8", onnx.TensorProto.INT8),
        ({"cache": "float32"}, "float32", onnx.TensorProto.FLOAT),
        (FLOAT32, "float32", onnx.TensorProto.FLOAT),
        (FLOAT32 | {"cache": "int8"}, "int8", onnx.TensorProto.INT8),
    ],
)
def test_a_bundle_says_what_its_graph_keeps(tmp_path: Path, options: dict[str, Any], precision: str, kind: int) -> None:
    bundle = load_bundle(export_with(tmp_path, **options))
    graph = onnx.load(str(bundle.graph_path("decoder")), load_external_data=False).graph
    caches = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert bundle.manifest.precision.cache == precision
    assert {caches[past_name(layer, "key")] for layer in range(4)} == {kind}
    assert {found for name, found in caches.items() if name.startswith(("past_key", "present."))} == {kind}


def test_the_command_takes_a_cache_by_hand(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint")
    arguments = [str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle"), "--cache", "float32"]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 0, result.output
    precision = load_bundle(tmp_path / "bundle").manifest.precision
    assert (precision.cache, precision.recipe) == ("float32", None)


def read_prompt(path: Path, seed: int, *, chunk: int) -> tuple[Floats, dict[str, Any]]:
    """Read a prompt with an image, beyond the window; returns the logits of its places, and the caches."""
    bundle = load_bundle(path)
    session, rng = BundleSession(bundle, threads=1), np.random.default_rng(seed)
    tokens, vision = bundle.manifest.architecture.tokens, bundle.manifest.architecture.vision
    assert tokens.image_token_id is not None
    assert vision is not None
    ids = [
        2,
        *rng.integers(10, 200, 9),
        *[tokens.image_token_id] * vision.mm_tokens_per_image,
        *rng.integers(10, 200, 40),
    ]
    ids = [int(one) for one in ids]
    blocks = np.array([one == tokens.image_token_id for one in ids], np.int64)
    features = session.image_features(
        rng.uniform(-1, 1, (1, 3, vision.image_size, vision.image_size)).astype(np.float32)
    )
    embeds = session.embed(ids, features)
    _, logits = session.prefill(embeds, blocks, range(len(ids)), chunk=chunk, capacity=len(ids))
    return logits, {name: cache.copy() for name, cache in session._caches.items()}


def test_rounding_is_all_that_differs_from_a_float_cache(tmp_path: Path, seed: int) -> None:
    exact, caches = read_prompt(export_with(tmp_path, **FLOAT32), seed, chunk=1000)
    rounded, integers = read_prompt(export_with(tmp_path, **FLOAT32, cache="int8"), seed, chunk=1000)

    error = float(np.sqrt(np.square(rounded - exact).mean() / np.square(exact).mean()))
    assert 1e-5 < error < 0.05
    tensors = read_safetensors(tmp_path / "checkpoint" / "model.safetensors")
    norm = next(
        value
        for name, value in tensors.items()
        if name.endswith("layers.0.self_attn.k_norm.weight") and "vision" not in name
    )
    scales = key_scales(1 + np.asarray(norm, np.float32), integers[past_name(0, "key")].shape[1])
    # The first layer's keys know nothing of the cache: they are the float ones to the nearest step.
    steps = caches[past_name(0, "key")] / scales
    assert np.abs(integers[past_name(0, "key")] - steps).max() < 0.51
    assert max(int(np.abs(cache.astype(int)).max()) for cache in integers.values()) <= 127


def test_any_chunks_keep_the_same_integers(tmp_path: Path, seed: int) -> None:
    bundle = export_with(tmp_path, **FLOAT32, cache="int8")
    whole, kept = read_prompt(bundle, seed, chunk=1000)
    pieces, kept_in_pieces = read_prompt(bundle, seed, chunk=3)
    # Sums in another order may move a value over the edge between two integers, never further.
    assert max(np.abs(kept[name].astype(int) - kept_in_pieces[name]).max() for name in kept) <= 1
    assert np.sqrt(np.square(whole - pieces).mean() / np.square(whole).mean()) < 0.01
