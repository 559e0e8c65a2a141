"""Execution providers: what runs where, and what is said when that is not where it was asked to."""

from pathlib import Path

import onnxruntime
import pytest

from appliance.config import Provider
from appliance.demo import bundle_path
from appliance.errors import BundleError
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.providers import CPU, CUDA, is_placed, wanted_providers
from appliance.medgemma.sessions import Compute, Session

DECODER = bundle_path() / "decoder.onnx"


@pytest.mark.parametrize("provider", ["auto", "cpu"])
def test_every_node_is_accounted_for(provider: Provider) -> None:
    with MedGemma.load(bundle_path(), RuntimeOptions(threads=1, provider=provider)) as model:
        assert model.providers == (CPU,)
        assert model.placement[CPU] > 50


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this wheel has CUDA")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_refused_in_one_sentence(provider: Provider) -> None:
    with pytest.raises(BundleError) as caught:
        MedGemma.load(bundle_path(), RuntimeOptions(threads=1, provider=provider))
    assert str(caught.value) == f"The installed ONNX Runtime cannot run on {provider}."


def test_a_provider_that_takes_no_node_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a CUDA wheel on a machine without a GPU: in the list, in the session, and everything on the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("appliance.medgemma.sessions.wanted_providers", lambda _: [CPU])
    with pytest.raises(BundleError, match=r"No part of .* runs on cuda here; with provider auto"):
        MedGemma.load(bundle_path(), RuntimeOptions(threads=1, provider="cuda"))


def test_what_is_wanted_and_what_counts() -> None:
    assert wanted_providers("cpu") == [CPU]
    assert wanted_providers("auto")[-1] == CPU
    assert is_placed("auto", {CPU: 5})
    assert not is_placed("cuda", {CPU: 5, CUDA: 0})
    assert is_placed("tensorrt", {CPU: 5, CUDA: 3})
    assert wanted_providers("openvino") == [CPU]
    assert is_placed("openvino", {CPU: 5})


def test_an_old_runtime_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.24.1")
    with pytest.raises(BundleError, match=r"^ONNX Runtime 1\.24\.1 is too old for this model, which needs 1\.31\.$"):
        Session(Path(DECODER), Compute(threads=1, provider="cpu"))
