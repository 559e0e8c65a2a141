"""Whether ONNX Runtime is installed once, whole, and computes where it says.

Two of its distributions install the same package `onnxruntime`: the last one wins silently. And a GPU build offers
its provider on any machine and falls back to the CPU with no more than a line on stderr.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from typing import Final

import msgspec

from appliance.config import Provider
from appliance.host.check import Check, ok, problem, warning

DISTRIBUTIONS: Final = "ONNX Runtime packages"
PROVIDERS: Final = "ONNX Runtime providers"
PHOTOS: Final = "Photos"
_MODULE_FILE: Final = "onnxruntime/__init__.py"
_REINSTALL: Final = "Uninstall all of them, then install one again: pip install 'dermstation[cpu]' or [gpu]."
_NOT_JUDGED: Final = frozenset({"CPUExecutionProvider", "AzureExecutionProvider", "TensorrtExecutionProvider"})
"""The first always loads; the second calls a cloud service; the third comes with CUDA's package, and nobody uses it."""
_LOADER_ERROR: Final = re.compile(r"with error: (.+)")
"""What the dynamic linker said, within the runtime's own long line."""
_PROBE_S: Final = 120
_COMPLAINT_MAX_CHARACTERS: Final = 300


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What `provider_probe` reported, and what the dynamic linker complained about."""

    version: str
    loaded: Mapping[str, list[str]]
    complaint: str = ""


def installed_runtimes(path: list[str] | None = None) -> dict[str, str]:
    """Return name and version of every distribution that installs the package `onnxruntime`.

    Args:
        path: Where to look instead of `sys.path`.
    """
    found = distributions() if path is None else distributions(path=path)
    return {
        one.metadata["Name"]: one.version
        for one in found
        if any(file.as_posix() == _MODULE_FILE for file in one.files or ())
    }


def check_distributions(runtimes: Mapping[str, str], probed: Probed | None) -> Check:
    """Judge what is installed, and whether the module that Python finds is of the version that its package says."""
    listed = ", ".join(f"{name} {version}" for name, version in sorted(runtimes.items()))
    if not runtimes:
        return problem(DISTRIBUTIONS, "none is installed", "Install one: pip install 'dermstation[cpu]' or [gpu].")
    if len(runtimes) > 1:
        return problem(
            DISTRIBUTIONS,
            f"{listed} are installed together: they overwrite each other's files, and the last one wins silently",
            _REINSTALL,
        )
    if probed is not None and probed.version not in runtimes.values():
        return problem(DISTRIBUTIONS, f"{listed} is installed, but its module is {probed.version}", _REINSTALL)
    return ok(DISTRIBUTIONS, listed)


def run_probe() -> Probed | str:
    """Try the providers in a process of their own; a string is why there is no answer."""
    command = [sys.executable, "-m", "appliance.host.provider_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_S} s"
    if done.returncode != 0:
        return f"ended with status {done.returncode}: {_last_line(done.stderr)}"
    try:
        # Only the last line is ours: ONNX Runtime prints "EP Error" and more before it.
        answer = json.loads(done.stdout.splitlines()[-1])
        return msgspec.convert({**answer, "complaint": _loader_complaint(done.stderr)}, Probed)
    except (IndexError, json.JSONDecodeError, msgspec.ValidationError) as error:
        return f"answered nonsense: {error}"


def check_providers(probed: Probed | str, wanted: Provider) -> Check:
    """Compare what the runtime offers with what a session really got.

    Args:
        probed: The probe's answer.
        wanted: The setting `engine.provider`; one that was asked for and is not there is a problem.
    """
    if isinstance(probed, str):
        return problem(PROVIDERS, f"ONNX Runtime cannot be used: {probed}", "Install it again in this environment.")
    offered = [name for name in probed.loaded if name not in _NOT_JUDGED]
    absent = [_plain(name) for name in offered if name not in probed.loaded[name]]
    is_asked_for = wanted not in {"auto", "cpu", "openvino"}
    if absent:
        found = f"{', '.join(absent)} is offered by the package, but did not load: answers come from the CPU"
        found += f" ({probed.complaint})" if probed.complaint else ""
        action = "Check the GPU's driver and the CUDA libraries that this version needs, or install the CPU package."
        return (problem if is_asked_for else warning)(PROVIDERS, found, action)
    if is_asked_for and wanted not in {_plain(name).lower() for name in probed.loaded}:
        action = "Install 'dermstation[gpu]' instead of [cpu], or set engine.provider to auto."
        return problem(PROVIDERS, f"the settings ask for {wanted}, which this package does not offer", action)
    return ok(PROVIDERS, ", ".join([*map(_plain, offered), "CPU"]) + " loaded")


def check_openvino(version: str | None, wanted: Provider, multiplies_bfloat16: Callable[[], bool]) -> Check:
    """Say what looks at photos.

    Args:
        version: Of OpenVINO, if it is installed.
        wanted: The setting `engine.provider`.
        multiplies_bfloat16: Whether this processor does, asked only where OpenVINO is installed.
    """
    if wanted == "cpu":
        return ok(PHOTOS, "by ONNX Runtime, as the settings ask")
    if version is None:
        if wanted == "openvino":
            action = "Install it: pip install 'dermstation[openvino]', or set engine.provider to auto."
            return problem(PHOTOS, "the settings ask for OpenVINO, which is not installed", action)
        return ok(
            PHOTOS, "by ONNX Runtime; OpenVINO, where a processor multiplies bfloat16 and there is no GPU, is faster"
        )
    if multiplies_bfloat16():
        return ok(PHOTOS, f"OpenVINO {version} can look at them for a large model: this processor multiplies bfloat16")
    by = "OpenVINO in float32, as the settings ask" if wanted == "openvino" else "ONNX Runtime"
    return ok(PHOTOS, f"by {by}; OpenVINO {version} finds no bfloat16 in this processor")


def _plain(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _loader_complaint(text: str) -> str:
    # The last one is CUDA's: TensorRT, which needs it, is tried before.
    found = _LOADER_ERROR.findall(text)
    return _printable(found[-1]) if found else ""


def _last_line(text: str) -> str:
    return _printable(next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said"))


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:_COMPLAINT_MAX_CHARACTERS]
