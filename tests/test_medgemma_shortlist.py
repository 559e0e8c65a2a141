"""The choice with a coarse head is that of the whole head, whatever is forbidden and however coarse the logits are."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medgemma_bundles import Exported, export_random, take, user
from numpy.typing import NDArray

from appliance.assessment import ASSESSMENT_SCHEMA
from appliance.errors import BundleError
from appliance.medgemma import shortlist
from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import GenerationOptions
from appliance.medgemma.halved_table import HalvedTable
from appliance.medgemma.sessions import InferenceError
from appliance.medgemma.shortlist import settle
from export.bundle_session import BundleSession
from export.exporter import ExportOptions
from export.quantize import QuantizedRows, dequantize, dequantize_halves, quantize_halves

BALANCED = ExportOptions(recipe="balanced", licence="CC0-1.0")
PROMPTS = 12


class Head:
    """A head in two halves, without a graph."""

    def __init__(self, rng: np.random.Generator, vocab_size: int, hidden_size: int) -> None:
        halved = quantize_halves(rng.normal(size=(vocab_size, hidden_size)).astype(np.float32), 64)
        self.whole = dequantize_halves(halved, hidden_size)
        self.coarse = 16 * dequantize(QuantizedRows(values=halved.coarse, scales=halved.scales), 4, hidden_size)
        self.asked = 0

    def rows(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.asked += len(token_ids)
        return self.whole[token_ids]


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 1 << 30), vocab_size=st.sampled_from([3, 64, 65, 3000]), forbidden=st.floats(0, 0.999))
def test_the_likeliest_is_the_whole_heads(seed: int, vocab_size: int, forbidden: float) -> None:
    rng = np.random.default_rng(seed)
    head = Head(rng, vocab_size, 128)
    state = rng.normal(size=128).astype(np.float32)
    is_forbidden = rng.random(vocab_size) < forbidden
    is_forbidden[rng.integers(vocab_size)] = False
    logits, exact = (np.where(is_forbidden, -np.inf, table @ state) for table in (head.coarse, head.whole))

    settle(logits, state, head.rows)

    assert logits.argmax() == exact.argmax()
    assert logits.max() == pytest.approx(exact.max(), rel=1e-5, abs=1e-4)
    assert np.array_equal(np.isneginf(logits), is_forbidden)


def test_without_settling_the_choice_is_often_another(seed: int) -> None:
    """The control: coarse logits alone do not give the same tokens."""
    rng = np.random.default_rng(seed)
    head = Head(rng, 3000, 128)
    states = rng.normal(size=(200, 128)).astype(np.float32)
    assert np.mean((states @ head.coarse.T).argmax(1) == (states @ head.whole.T).argmax(1)) < 0.95


def test_a_shortlist_is_usually_short(seed: int) -> None:
    rng = np.random.default_rng(seed)
    head = Head(rng, 20_000, 256)
    for state in rng.normal(size=(20, 256)).astype(np.float32):
        settle(head.coarse @ state, state, head.rows)
    assert head.asked <= 20 * 1024


def test_it_grows_until_nothing_else_can_win() -> None:
    """Coarse logits that say nothing: the winner is found all the same, because the list ends with the vocabulary."""
    rng = np.random.default_rng(3)
    head, state = Head(rng, 9000, 64), rng.normal(size=64).astype(np.float32)
    logits = np.zeros(9000, np.float32)

    settle(logits, state, head.rows)

    assert logits.argmax() == (head.whole @ state).argmax()
    np.testing.assert_allclose(logits, head.whole @ state, rtol=1e-4, atol=1e-4)


def busy_s_after(act: Callable[[], object]) -> float:
    """Seconds of processor time that this process takes in a twentieth of a second of doing nothing."""
    act()
    before_s = time.process_time()
    time.sleep(0.05)
    return time.process_time() - before_s


def test_no_thread_stays_busy_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long shortlist once woke the threads of numpy's BLAS, which waited without sleeping on the next step's core."""
    monkeypatch.setattr(shortlist, "_FIRST", 2048)
    head, state = Head(np.random.default_rng(5), 3000, 1024), np.ones(1024, np.float32)
    if busy_s_after(lambda: head.whole @ state) < 0.02:  # the control
        pytest.skip("numpy's BLAS has no threads here that wait without sleeping")
    time.sleep(1)
    assert busy_s_after(lambda: settle(np.zeros(3000, np.float32), state, head.rows)) < 0.02


def test_a_model_that_gives_no_numbers_is_no_crash() -> None:
    head = Head(np.random.default_rng(0), 100, 64)
    logits = np.full(100, np.nan, np.float32)
    settle(logits, np.full(64, np.nan, np.float32), head.rows)
    assert np.isnan(logits).all()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_random(tmp_path_factory.mktemp("balanced"), options=BALANCED, vocab_size=700, layers=3)


@pytest.mark.parametrize(
    "options",
    [
        GenerationOptions(max_tokens=12),
        GenerationOptions(max_tokens=40, json_schema=ASSESSMENT_SCHEMA),
        GenerationOptions(max_tokens=12, temperature=1.0, top_k=20, seed=4),
    ],
    ids=["greedy", "schema", "sampled"],
)
def test_tokens_are_those_of_the_whole_head(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, options: GenerationOptions
) -> None:
    def answers() -> list[tuple[int, ...]]:
        with MedGemma.load(exported.bundle, RuntimeOptions(threads=1)) as model:
            return [take(model.generate([user(f"Question {n}")], options))[1].token_ids for n in range(PROMPTS)]

    by_shortlist = answers()
    monkeypatch.setattr(shortlist, "_FIRST", 700)  # all of the vocabulary
    assert by_shortlist == answers()


def test_the_engine_chooses_as_the_graphs_do(exported: Exported) -> None:
    session = BundleSession(load_bundle(exported.bundle), threads=1)
    with MedGemma.load(exported.bundle, RuntimeOptions(threads=1)) as model:
        generation = take(model.generate([user("What is this?")], GenerationOptions(max_tokens=1)))[1]
    ids = generation.prompt_token_ids
    blocks = np.zeros(len(ids), np.int64)
    _, logits = session.prefill(session.embed(ids, None), blocks, [len(ids) - 1], chunk=len(ids), capacity=len(ids))

    assert generation.token_ids == (int(logits[-1].argmax()),)
    assert 0.02 < session.coarse_error < 0.3


def test_a_manifest_that_contradicts_the_decoder_is_a_sentence(exported: Exported, tmp_path: Path) -> None:
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / MANIFEST_NAME).read_bytes())
    del manifest["halved_table"]
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="do not agree on whether its table lies in halves"):
        MedGemma.load(bundle)


def test_rows_that_are_read_are_those_that_the_graph_looks_up(exported: Exported, seed: int) -> None:
    bundle = load_bundle(exported.bundle)
    session, record = BundleSession(bundle, threads=1), bundle.manifest.halved_table
    assert record is not None
    hidden_size = bundle.manifest.architecture.text.hidden_size
    ids = np.random.default_rng(seed).integers(0, 700, 50)
    rows = HalvedTable(bundle.path, record, hidden_size).rows(ids)
    looked_up = session.embed([int(token_id) for token_id in ids], None)[0] / np.sqrt(np.float32(hidden_size))
    np.testing.assert_allclose(rows, looked_up, rtol=1e-5, atol=1e-7)


def test_a_table_that_ends_too_early_is_a_sentence(exported: Exported, tmp_path: Path) -> None:
    record = load_bundle(exported.bundle).manifest.halved_table
    assert record is not None
    for file in {record.coarse.file, record.fine.file}:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(InferenceError, match="ends too early"):
        HalvedTable(tmp_path, record, 64).rows(np.array([1]))
