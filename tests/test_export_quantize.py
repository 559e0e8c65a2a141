"""Quantisation and its inverse agree, lose what they may, and mean to ONNX Runtime what they mean here."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.quantize import (
    Bits,
    QuantizedRows,
    block_size_for,
    dequantize,
    dequantize_halves,
    quantize,
    quantize_halves,
)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    rows=st.integers(1, 5),
    columns=st.integers(1, 300),
    bits=st.sampled_from([4, 8]),
    size=st.sampled_from([16, 32, 64, 128]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]),
)
def test_error_is_within_half_a_step(seed: int, rows: int, columns: int, bits: Any, size: int, scale: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(rows, columns)) * scale).astype(np.float32)

    result = quantize(values, bits, size)

    error = np.abs(dequantize(result, bits, columns) - values)
    # 8 bits: half a step of 1/127. 4 bits: clipping and refitting may cost two steps at the ends of the range.
    bound = np.abs(values).max() * (0.5 / 127 if bits == 8 else 2 / 7) * 1.01
    assert error.max() <= bound
    assert result.scales.shape == (rows, -(-columns // size))
    assert result.values.shape == (rows, -(-columns // size) * size * bits // 8)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    rows=st.integers(1, 5),
    columns=st.integers(1, 300),
    size=st.sampled_from([16, 64, 256]),
    scale=st.sampled_from([0.0, 1e-44, 1e-20, 1e-3, 1.0, 1e6]),
)
def test_halves_together_are_eight_bits_and_the_coarse_one_is_four(
    seed: int, rows: int, columns: int, size: int, scale: float
) -> None:
    values = (np.random.default_rng(seed).normal(size=(rows, columns)) * scale).astype(np.float32)

    halved = quantize_halves(values, size)

    step = np.abs(values).max() / 119
    assert np.abs(dequantize_halves(halved, columns) - values).max() <= 0.51 * step + 1e-37
    coarse = 16 * dequantize(QuantizedRows(values=halved.coarse, scales=halved.scales), 4, columns)
    assert np.abs(coarse - values).max() <= 8.51 * step + 1e-37
    assert halved.coarse.shape == halved.fine.shape == (rows, -(-columns // size) * size // 2)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [0.0, 1e-44, -1e-38])
def test_nothing_stays_nothing(bits: Bits, value: float) -> None:
    """Rows that training never touched may hold values whose scale has no inverse in float32."""
    result = quantize(np.full((2, 40), value, np.float32), bits, 32)

    np.testing.assert_allclose(dequantize(result, bits, 40), value, atol=1e-37)


def test_search_beats_plain_rounding_at_four_bits() -> None:
    values = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
    cut = values.reshape(64, -1, 64)
    plain_scale = np.abs(cut).max(axis=2, keepdims=True) / 7
    plain = np.rint(cut / plain_scale) * plain_scale

    searched = dequantize(quantize(values, 4, 64), 4, 512)

    assert np.mean((searched - values) ** 2) < 0.9 * np.mean((plain.reshape(values.shape) - values) ** 2)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "one large value"])
def test_search_comes_near_the_best_scale_there_is(seed: int, size: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(32, size)) if kind == "normal" else rng.standard_t(4, size=(32, size))).astype(
        np.float32
    )
    if kind == "one large value":
        values[:, 3] *= 20

    searched = np.sum((dequantize(quantize(values, 4, size), 4, size) - values) ** 2, axis=1)

    # Every scale on a grid forty times as fine, both signs, none refitted; a block alone may miss its best by a little.
    largest = np.abs(values).max(axis=1)
    best = np.full(len(values), np.inf)
    for factor in np.linspace(0.5, 1.4, 320):
        for scale in (largest * factor / 8, -largest * factor / 8):
            rounded = np.clip(np.rint(values / scale[:, None]), -8, 7) * scale[:, None]
            best = np.minimum(best, np.sum((rounded - values) ** 2, axis=1))
    assert searched.sum() <= 1.03 * best.sum()


def test_search_of_a_block_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(2).normal(size=(700, 128)).astype(np.float32)

    whole, alone = quantize(values, 4, 64), quantize(values[555:556], 4, 64)

    np.testing.assert_array_equal(whole.values[555:556], alone.values)
    np.testing.assert_array_equal(whole.scales[555:556], alone.scales)


@pytest.mark.parametrize(
    ("columns", "bits", "expected"),
    [
        (2560, 4, 256),
        (10240, 4, 256),
        (2176, 4, 128),
        (512, 4, 64),
        (2560, 8, 256),
        (3840, 8, 256),
        (4304, 8, 256),
        (2176, 8, 128),
        (1152, 8, 128),
        (48, 4, 16),
        (40, 8, 16),
    ],
)
def test_block_size_divides_well(columns: int, bits: Bits, expected: int) -> None:
    rows = np.random.default_rng(columns).normal(size=(16, columns)).astype(np.float32)
    assert block_size_for(rows, bits) == expected


def test_heavy_tails_keep_smaller_blocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert block_size_for(rng.normal(size=(64, 2560)).astype(np.float32), 4) == 256
    heavy = rng.standard_t(4, size=(64, 2560)).astype(np.float32)
    assert block_size_for(heavy, 4) == 128
    assert block_size_for(heavy, 8) == 256


def run_operator(op_type: str, quantized: QuantizedRows, data: Any, value: Any, **attributes: Any) -> Any:
    node = onnx.helper.make_node(op_type, ["a", "b", "s"], ["y"], domain="com.microsoft", **attributes)
    if op_type == "GatherBlockQuantized":
        node.input[:] = ["b", "a", "s"]
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("a", kind, value.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(data, "b"), onnx.numpy_helper.from_array(quantized.scales, "s")],
    )
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"a": value})[0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("columns", [128, 100])
def test_operators_compute_with_the_dequantised_rows(bits: Bits, size: int, columns: int) -> None:
    """The same bytes, as blocks for the product and as rows for the lookup."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(24, columns)).astype(np.float32)
    quantized = quantize(values, bits, size)
    rows = dequantize(quantized, bits, columns)
    blocks = quantized.values.reshape(24, quantized.scales.shape[1], -1)
    inputs = rng.normal(size=(1, 3, columns)).astype(np.float32)
    sizes = {"K": columns, "N": 24, "bits": bits, "block_size": size}

    product = run_operator("MatMulNBits", quantized, blocks, inputs, **sizes)
    layout = {"bits": bits, "block_size": size, "gather_axis": 0, "quantize_axis": 1}
    looked_up = run_operator("GatherBlockQuantized", quantized, quantized.values, np.array([[3, 0, 23]]), **layout)

    # Float32 sums in another order.
    np.testing.assert_allclose(product, inputs @ rows.T, atol=2e-5)
    np.testing.assert_array_equal(looked_up[0, :, :columns], rows[[3, 0, 23]])
