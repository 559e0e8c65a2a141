"""OpenVINO behind the same door as ONNX Runtime's sessions: the vision tower in bfloat16.

ONNX Runtime's own CPU kernels multiply float32 and int8. Where the processor multiplies bfloat16, OpenVINO reads the
tower's graph as it is and encodes a photo in two thirds of the time: DESIGN.md, "Photos by OpenVINO". The library is
imported when it is first asked for.
Source: OpenVINO 2026.4, CPU device: supported properties; ONNX front end: MatMulNBits, MultiHeadAttention.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.config import Provider
from appliance.errors import BundleError
from appliance.medgemma.bundle import PIXEL_VALUES, Manifest
from appliance.medgemma.plan import TowerRuntime
from appliance.medgemma.providers import is_cpu_alone
from appliance.medgemma.sessions import Brake, InferenceError, InterruptedRunError, one_line

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

OPENVINO: Final = "OpenVINO"
"""What its nodes are counted under, beside the names of execution providers."""
_DEVICE: Final = "CPU"
_INPUT_BLOCK: Final = 128
"""Values that share a scale: as many as in a block of the weights. DESIGN.md, "Photos by OpenVINO"."""
_SOURCE_PLACE: Final = re.compile(r"Exception from \S+:\d+:\s*")
_NO_CODE: Final = "can't protect"
"""What the library that makes its code says where the kernel lets nothing be both written and run."""
_LARGE_TOWER_BYTES: Final = 100 << 20
"""Weights of a tower with which a photo takes seconds; with less, opening a second library costs more than it saves."""


def tower_runtimes(provider: Provider, manifest: Manifest) -> tuple[TowerRuntime, ...]:
    """Return what may run the vision tower of a bundle here, the first choice first.

    Args:
        provider: The choice of the settings.
        manifest: Of the bundle; nothing of it need be open.

    Raises:
        BundleError: OpenVINO was asked for, and is not installed or has nothing to do.
    """
    weights = manifest.weight_bytes.get(manifest.vision_weights or "", 0)
    if provider == "openvino":
        if manifest.architecture.vision is None:
            raise BundleError(f"The model {manifest.name} takes text only, so OpenVINO has nothing to do.")
        if openvino_version() is None:
            raise BundleError("OpenVINO is not installed here: install 'dermstation[openvino]', or choose auto.")
        return ("openvino",)
    may_serve = provider == "auto" and weights >= _LARGE_TOWER_BYTES and is_cpu_alone(provider)
    if may_serve and openvino_version() is not None and multiplies_bfloat16():
        return ("openvino", "onnxruntime")
    return ("onnxruntime",)


def openvino_version() -> str | None:
    """Return the version of OpenVINO that is installed, without importing it."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16, as OpenVINO, which must be installed, sees it."""
    try:
        return "BF16" in _library().Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    except (ImportError, RuntimeError) as error:
        logger.warning("OpenVINO is of no use here: %s", _reason(error))
        return False


class OpenVinoTower:
    """One open vision graph, for one photo at a time."""

    def __init__(self, path: Path, image_size: int, threads: int) -> None:
        """Open the graph.

        Args:
            path: `vision.onnx`.
            image_size: Side of its input in pixels.
            threads: Compute threads.

        Raises:
            BundleError: OpenVINO refuses it.
        """
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the kiosk takes whichever core it likes
            "INFERENCE_PRECISION_HINT": "bf16" if multiplies_bfloat16() else "f32",
            # Inputs of products in int8 by blocks, as ONNX Runtime has them. Of 32 by itself, which is slower.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _INPUT_BLOCK,
        }
        try:
            core = _library().Core()
            # Nearly all weights are copied, and the file would stay mapped: a third copy of each in memory.
            core.set_property({"ENABLE_MMAP": False})
            model = core.read_model(path)
            # A free batch size is compiled for all sizes: its memory grew by 30 MB a photo.
            model.reshape({PIXEL_VALUES: [1, 3, image_size, image_size]})
            self._model = core.compile_model(model, _DEVICE, settings)
            self.placement = {OPENVINO: _operations(self._model)}
            """Operations, all on the processor."""
        except (ImportError, RuntimeError, ValueError) as error:
            raise BundleError(f"OpenVINO cannot open {path}: {_reason(error)}.") from error
        logger.debug("tower opened placement=%s settings=%s", self.placement, settings)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], brake: Brake) -> list[NDArray[np.float32]]:
        """Run the graph on arrays.

        Raises:
            InferenceError: The graph fails.
            InterruptedRunError: The brake was pulled.
        """
        request = self._model.create_infer_request()
        try:
            # Only a run that has begun can be ended.
            request.start_async(dict(feeds), share_inputs=True)
            with brake.also(request.cancel):
                request.wait()
            features = [request.get_tensor(name).data.copy() for name in outputs]
        except (RuntimeError, ValueError) as error:
            if not brake.is_pulled:
                raise InferenceError(f"OpenVINO failed at a photo: {_reason(error)}.") from error
        finally:
            del request
            self._model.release_memory()
        if brake.is_pulled:
            raise InterruptedRunError
        return features


def _library() -> Any:
    """Import OpenVINO without what reports its use to its makers: importing it would look for their server's name."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails
    import openvino

    return openvino


def _reason(error: Exception) -> str:
    """Return what went wrong without where in OpenVINO's source it did."""
    reason = _SOURCE_PLACE.sub("", one_line(error))
    if reason == _NO_CODE:
        return "it may not make code at run time (under systemd it needs MemoryDenyWriteExecute=no)"
    return reason


def _operations(model: "openvino.CompiledModel") -> int:
    kinds = (op.get_rt_info()["layerType"].value for op in model.get_runtime_model().get_ops())
    return sum(kind not in {"Const", "Input", "Output"} for kind in kinds)
