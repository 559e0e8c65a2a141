"""ONNX Runtime installed twice, half removed, or with a GPU that did not load: seen for real in folders of packages."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from appliance.config import Provider
from appliance.host.provider_probe import PROBE_MODEL
from appliance.host.runtime_checks import (
    Probed,
    check_distributions,
    check_openvino,
    check_providers,
    installed_runtimes,
    run_probe,
)

# What onnxruntime-gpu 1.31.1 does and says on a machine without CUDA, recorded and shortened.
GPU_WITHOUT_CUDA = """
import sys
__version__ = "1.31.1"
def get_available_providers():
    return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, model, providers):
        if providers == ["TensorrtExecutionProvider"]:
            print("*************** EP Error ***************")
        if providers != ["CPUExecutionProvider"]:
            print("[E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] Failed to load library "
                  "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file",
                  file=sys.stderr)
    def get_providers(self):
        return ["CPUExecutionProvider"]
"""


def install(site: Path, name: str, version: str = "1.31.1", file: str = "onnxruntime/__init__.py") -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text(f"{file},,\n")


def fake_runtime(site: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "onnxruntime").mkdir()
    (site / "onnxruntime/__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(site))


def probed(**loaded: list[str]) -> Probed:
    return Probed(version="1.31.1", loaded={f"{name}ExecutionProvider": answer for name, answer in loaded.items()})


def test_the_probe_model_is_what_the_onnx_package_builds() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    assert onnx.load_from_string(PROBE_MODEL) == model
    session = onnxruntime.InferenceSession(PROBE_MODEL, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(1, np.float32)})[0] == [-1]


def test_this_environment_is_in_order() -> None:
    answer = run_probe()
    assert isinstance(answer, Probed)
    assert check_distributions(installed_runtimes(), answer).verdict == "ok"
    assert check_providers(answer, "auto").verdict == "ok"


def test_two_runtimes_together_are_a_problem(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime")
    install(tmp_path, "onnxruntime-gpu")
    check = check_distributions(installed_runtimes([str(tmp_path)]), None)
    assert check.verdict == "problem"
    assert check.found.startswith("onnxruntime 1.31.1, onnxruntime-gpu 1.31.1 are installed together")
    assert check.action


def test_a_package_that_only_sounds_alike_is_not_a_runtime(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-openvino")
    install(tmp_path, "onnxruntime-genai", file="onnxruntime_genai/__init__.py")
    assert installed_runtimes([str(tmp_path)]) == {"onnxruntime-openvino": "1.31.1"}


def test_no_runtime_is_a_problem(tmp_path: Path) -> None:
    assert check_distributions(installed_runtimes([str(tmp_path)]), None).verdict == "problem"


def test_a_module_of_another_version_than_its_package_is_a_problem(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.30.0")
    check = check_distributions(installed_runtimes([str(tmp_path)]), probed(CPU=["CPUExecutionProvider"]))
    assert (check.verdict, check.found) == ("problem", "onnxruntime-gpu 1.30.0 is installed, but its module is 1.31.1")


@pytest.mark.parametrize(("wanted", "verdict"), [("auto", "warning"), ("cpu", "warning"), ("cuda", "problem")])
def test_a_gpu_that_did_not_load_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, verdict: str
) -> None:
    fake_runtime(tmp_path, GPU_WITHOUT_CUDA, monkeypatch)
    check = check_providers(run_probe(), wanted)  # type: ignore[arg-type]  # parametrized
    assert check.verdict == verdict
    assert check.found == (
        "CUDA is offered by the package, but did not load: answers come from the CPU "
        "(libcublasLt.so.13: cannot open shared object file)"
    )


def test_a_gpu_that_loaded_is_fine() -> None:
    answer = probed(CUDA=["CUDAExecutionProvider", "CPUExecutionProvider"], CPU=["CPUExecutionProvider"])
    assert check_providers(answer, "cuda").found == "CUDA, CPU loaded"


def test_asking_for_cuda_with_the_cpu_package_is_a_problem() -> None:
    assert check_providers(probed(CPU=["CPUExecutionProvider"]), "cuda").verdict == "problem"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "has no attribute 'get_available_providers'"),  # what removing one of two leaves behind
        ("raise ImportError('libcudart.so.13 is missing')", "libcudart.so.13 is missing"),
        ("import os; os.abort()", "ended with status -6"),
        ("import os; os._exit(0)", "answered nonsense"),
    ],
)
def test_a_broken_runtime_is_a_problem_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    fake_runtime(tmp_path, source, monkeypatch)
    check = check_providers(run_probe(), "auto")
    assert check.verdict == "problem"
    assert reason in check.found


@pytest.mark.parametrize(
    ("version", "wanted", "has_bfloat16", "verdict", "found"),
    [
        (None, "auto", False, "ok", "by ONNX Runtime; OpenVINO, where a processor multiplies bfloat16"),
        (None, "openvino", False, "problem", "the settings ask for OpenVINO, which is not installed"),
        ("2026.4.1", "auto", True, "ok", "OpenVINO 2026.4.1 can look at them for a large model"),
        ("2026.4.1", "auto", False, "ok", "by ONNX Runtime; OpenVINO 2026.4.1 finds no bfloat16"),
        (
            "2026.4.1",
            "openvino",
            False,
            "ok",
            "by OpenVINO in float32, as the settings ask; OpenVINO 2026.4.1 finds no",
        ),
        ("2026.4.1", "cpu", True, "ok", "by ONNX Runtime, as the settings ask"),
    ],
)
def test_what_looks_at_photos_is_told(
    version: str | None, wanted: Provider, has_bfloat16: bool, verdict: str, found: str
) -> None:
    check = check_openvino(version, wanted, lambda: has_bfloat16)
    assert check.verdict == verdict
    assert check.found.startswith(found)
