"""Execution providers: which ones to try for a choice, and the check that nodes really run there.

ONNX Runtime accepts a provider, loads it, finds that it takes no node or cannot open its device, and goes on with the
CPU: that a provider is available, or in the session, says nothing. What counts is where the nodes were placed.
Source: ONNX Runtime 1.31, `session.record_ep_graph_assignment_info`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from appliance.config import Provider

if TYPE_CHECKING:
    import onnxruntime as ort

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
_WANTED: Final[Mapping[Provider, tuple[str, ...]]] = {
    "auto": (CUDA,),
    "cpu": (),
    "cuda": (CUDA,),
    "tensorrt": ("TensorrtExecutionProvider", CUDA),
    "openvino": (),  # runs the vision tower by itself: `openvino_tower.py`
}


def wanted_providers(provider: Provider) -> list[str]:
    """Return what to open a session with, the first choice first; the CPU is always the last.

    Raises:
        LookupError: The installed wheel has no provider of that name.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    wanted = [name for name in _WANTED[provider] if name in available]
    if is_demanded(provider) and _WANTED[provider][0] not in available:
        raise LookupError(provider)
    return [*wanted, CPU]


def is_cpu_alone(provider: Provider) -> bool:
    """Whether ONNX Runtime, as it is installed, has nothing but the CPU for a choice."""
    import onnxruntime as ort

    return not set(_WANTED[provider]) & set(ort.get_available_providers())


def placement_of(session: "ort.InferenceSession") -> dict[str, int]:
    """Count the nodes of a session by the provider that runs them."""
    found: Counter[str] = Counter()
    for subgraph in session.get_provider_graph_assignment_info():
        found[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(found)


def is_placed(provider: Provider, placement: Mapping[str, int]) -> bool:
    """Whether what was asked for runs any node; always true where none is demanded."""
    return not is_demanded(provider) or any(placement.get(name, 0) > 0 for name in _WANTED[provider])


def is_demanded(provider: Provider) -> bool:
    """Whether a choice is refused where ONNX Runtime has no execution provider for it."""
    return provider != "auto" and bool(_WANTED[provider])
