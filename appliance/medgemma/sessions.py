"""ONNX Runtime behind a small door: how sessions are opened, and its many errors turned into ours.

Nothing is opened here that `load_bundle` has not checked. The library is imported when the first session opens.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.config import Provider
from appliance.errors import BundleError, DermstationError
from appliance.medgemma.memory import MappedWeights
from appliance.medgemma.providers import CUDA, placement_of, wanted_providers

if TYPE_CHECKING:
    import onnxruntime as ort

logger = logging.getLogger(__name__)

OLDEST_ONNXRUNTIME: Final = (1, 31)
"""The first whose GroupQueryAttention is known to take `causal=0`; 1.24, in OpenVINO's build of it, refuses it."""
_SPIN_US: Final = 50
"""How long a compute thread looks out for the next node before it sleeps, in microseconds."""
_ERROR_ONLY: Final = 3
"""ONNX Runtime's log severity: its warnings are about its own graph passes."""


class InferenceError(DermstationError):
    """A graph failed while it ran, such as for want of memory."""

    message_key = "error.inference"
    exit_code = 70  # EX_SOFTWARE


class InterruptedRunError(Exception):
    """A run ended because its brake was pulled; never leaves the engine."""


class Brake:
    """Stops every run that it was given to, now and later."""

    def __init__(self) -> None:
        import onnxruntime as ort

        self.run_options = ort.RunOptions()
        self.releasing_run_options = ort.RunOptions()
        self.releasing_run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._lock = threading.Lock()
        self._ends: list[Callable[[], object]] = []

    @property
    def is_pulled(self) -> bool:
        """Whether runs end."""
        return bool(self.run_options.terminate)

    def pull(self) -> None:
        """End the current run within one node of its graph; safe to call from another thread."""
        with self._lock:
            self.run_options.terminate = True
            self.releasing_run_options.terminate = True
            ends = list(self._ends)
        for end in ends:
            end()

    @contextlib.contextmanager
    def also(self, end: Callable[[], object]) -> Iterator[None]:
        """While the block lasts, a pull calls `end` too; at once if the brake was pulled before."""
        with self._lock:
            self._ends.append(end)
            is_late = self.is_pulled
        try:
            if is_late:
                end()
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where and how widely graphs run."""

    threads: int
    provider: Provider
    releases_memory: bool = False
    """Give working memory back after each run: for a graph that runs rarely and needs much, such as vision."""


class Session:
    """One open graph."""

    def __init__(self, path: Path, compute: Compute, weights: MappedWeights | None = None) -> None:
        """Open a graph.

        Args:
            path: Of the graph.
            compute: Where and how widely it runs.
            weights: The files that it names; if absent, ONNX Runtime maps them itself.

        Raises:
            BundleError: ONNX Runtime refuses it, or has not the provider that was asked for.
        """
        import onnxruntime as ort

        if _version() < OLDEST_ONNXRUNTIME:
            oldest = ".".join(map(str, OLDEST_ONNXRUNTIME))
            raise BundleError(f"ONNX Runtime {ort.__version__} is too old for this model, which needs {oldest}.")
        self._name = path.name
        self._releases_memory = compute.releases_memory
        self._weights = weights  # used in place as long as the session lives
        self._errors = _foreign_errors()
        try:
            self._session = ort.InferenceSession(
                path, _session_options(compute, weights), providers=wanted_providers(compute.provider)
            )
        except LookupError as error:
            raise BundleError(f"The installed ONNX Runtime cannot run on {compute.provider}.") from error
        except self._errors as error:
            raise BundleError(f"ONNX Runtime cannot open {path}: {one_line(error)}.") from error
        self.placement = placement_of(self._session)
        """Nodes by the execution provider that runs them."""
        self.input_names = frozenset(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())
        logger.debug("graph opened name=%s placement=%s", self._name, self.placement)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the session's large buffers belong."""
        return "cuda" if CUDA in self.placement else "cpu"

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], brake: Brake) -> list[NDArray[np.float32]]:
        """Run the graph on arrays.

        Raises:
            InferenceError: The graph fails.
            InterruptedRunError: The brake was pulled.
        """
        try:
            options = brake.releasing_run_options if self._releases_memory else brake.run_options
            return list(self._session.run(list(outputs), dict(feeds), options))
        except self._errors as error:
            raise self._translated(error, brake) from error

    def binding(self) -> "ort.IOBinding":
        """Return a new binding of buffers to this graph's inputs and outputs."""
        return self._session.io_binding()

    def run_bound(self, binding: "ort.IOBinding", brake: Brake) -> None:
        """Run the graph on bound buffers.

        Raises:
            InferenceError: The graph fails.
            InterruptedRunError: The brake was pulled.
        """
        try:
            self._session.run_with_iobinding(binding, brake.run_options)
        except self._errors as error:
            raise self._translated(error, brake) from error

    def _translated(self, error: Exception, brake: Brake) -> Exception:
        if brake.is_pulled:
            return InterruptedRunError()
        return InferenceError(f"The model's graph {self._name} failed: {one_line(error)}.")


def available_cores() -> int:
    """Count the physical cores that this process may use; hyper-threads of one core share its arithmetic units."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text(encoding="ascii"))
        except OSError:
            cores.add(str(cpu))  # a container may hide the topology: then every CPU counts
    return len(cores)


def _session_options(compute: Compute, weights: MappedWeights | None) -> "ort.SessionOptions":
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = compute.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERROR_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Weights are packed for the processor while a graph is opened: with all threads, a quarter less of the start.
    options.add_session_config_entry("session.prepack.enable_parallel", "1")
    # Between two products of a step lie some tens of microseconds: a thread that sleeps wakes too late for the next.
    # Without a limit it takes the kiosk's core: half the speed beside a busy process. DESIGN.md, "Measured".
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    # A memory pattern asks for one block as large as the whole run: at 4096 patches that alone was 300 MB.
    options.enable_mem_pattern = not compute.releases_memory
    if weights is not None:
        names, files = list(weights.files), list(weights.files.values())
        options.add_external_initializers_from_files_in_memory(names, files, list(map(len, files)))
        options.add_session_config_entry("session.use_external_initializer_file_buffers_directly", "1")
    return options


def _version() -> tuple[int, ...]:
    import onnxruntime as ort

    return tuple(int(part) for part in ort.__version__.split(".")[:2] if part.isdigit())


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's exceptions: they share no base class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)


def one_line(error: Exception) -> str:
    """Return what a library's error says, without its line breaks and its full stop."""
    return re.sub(r"\s+", " ", str(error)).strip().rstrip(".")
