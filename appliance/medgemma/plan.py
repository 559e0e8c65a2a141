"""How much memory a bundle takes on this board, and what to give up where there is less: decided before anything opens.

Pure but for `available_bytes`. The figures that it multiplies with were measured: DESIGN.md, "Memory".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from appliance.errors import EngineUnavailableError
from appliance.medgemma.bundle import Manifest
from appliance.medgemma.kv_cache import cache_bytes, sliding_length
from appliance.medgemma.spec import GemmaSpec

DEFAULT_CONTEXT_LENGTH: Final = 4096
"""Tokens: a dozen photos and their questions."""
_SHORT_CONTEXTS: Final = (2048, 1024)
"""What the context shrinks to where memory is short: two photos with their questions, one photo."""
_PREFIXES: Final = 4
"""Photos that are kept read ahead."""
_RESERVE_BYTES: Final = 512 << 20
"""Left for everything else on the board that grows while the engine runs."""

_PROCESS_BYTES: Final = 110 << 20
"""Interpreter, libraries and a photo that is being read."""
_TOKENIZER_FACTOR: Final = 4.0
"""Memory of the tokenizer by size of its file."""
_SCHEMA_BYTES_PER_TOKEN: Final = 150
"""What schemas need to know of each token of the vocabulary."""
_PACKED_FACTOR: Final = 1.06
"""Memory of a graph by size of its weights: ONNX Runtime packs them anew for the processor."""

TowerRuntime = Literal["onnxruntime", "openvino"]
"""What runs the vision tower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _TowerMemory:
    """What one runtime takes for the vision tower."""

    weights_factor: float
    """Memory while it is open, by size of its weights."""
    activations: int
    """Arrays of float32 [patches, intermediate_size] that it needs at once."""
    library_bytes: int = 0


_TOWER_MEMORY: Final[Mapping[TowerRuntime, _TowerMemory]] = {
    "onnxruntime": _TowerMemory(weights_factor=_PACKED_FACTOR, activations=7),
    # It keeps the weights as they were read beside those that it packed.
    "openvino": _TowerMemory(weights_factor=2.1, activations=2, library_bytes=60 << 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What a model may use, and what it will need."""

    context_length: int
    """Tokens in the KV cache."""
    tower: TowerRuntime
    """What runs the vision tower."""
    keeps_vision: bool
    """Whether the vision tower stays open between photos; if not, each photo waits for it to be opened."""
    prefix_bytes: int
    """For prompts that were read ahead."""
    resident_bytes: int
    """Needed between photos, with the cache full."""
    peak_bytes: int
    """Needed while a photo is encoded, with the cache full."""
    available_bytes: int | None
    """What the board had when this was decided; `None` where it could not be found out."""

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        vision = "stays open" if self.keeps_vision else "is closed after each photo"
        had = "" if self.available_bytes is None else f" of {_gb(self.available_bytes)} that are free"
        return (
            f"The model needs {_gb(self.peak_bytes)} of memory at most{had}: "
            f"{self.context_length} tokens of context, the vision tower {vision}."
        )


def plan_memory(
    manifest: Manifest,
    available: int | None,
    *,
    context_length: int | None = None,
    chunk_tokens: int = 256,
    towers: Sequence[TowerRuntime] = ("onnxruntime",),
) -> MemoryPlan:
    """Decide what the model may use.

    Where memory is short it gives up, in this order: prompts read ahead, the open vision tower, the first of `towers`,
    context.

    Args:
        manifest: Of the bundle; nothing of it need be open.
        available: Bytes that this process may still take; `None` for as much as it likes.
        context_length: Tokens that were asked for, which are not cut; `None` leaves it to the plan.
        chunk_tokens: Prompt tokens in one run of the decoder.
        towers: What may run the vision tower, the first choice first.

    Raises:
        EngineUnavailableError: Not even the least fits; the sentence has both numbers.
    """
    limit = manifest.architecture.text.max_position_embeddings
    lengths = [context_length] if context_length is not None else [DEFAULT_CONTEXT_LENGTH, *_SHORT_CONTEXTS]
    plans = [
        _plan(
            manifest, min(length, limit), chunk_tokens, available, tower, keeps_vision=keeps_vision, prefixes=prefixes
        )
        for length in lengths
        for tower in towers
        for keeps_vision, prefixes in ((True, _PREFIXES), (True, 1), (False, 1), (False, 0))
    ]
    if available is None:
        return plans[0]
    for plan in plans:
        reserve = _RESERVE_BYTES if plan.peak_bytes > _RESERVE_BYTES else 0
        # Between photos the rest of the board may have what only a photo needs.
        if plan.peak_bytes <= available and plan.resident_bytes + reserve <= available:
            return plan
    least = min(plans, key=lambda plan: plan.peak_bytes)
    raise EngineUnavailableError(
        f"The model {manifest.name} needs at least {_gb(least.peak_bytes)} of memory "
        f"with {least.context_length} tokens of context; {_gb(available)} are free."
    )


def available_bytes() -> int | None:
    """Return the memory that this process may still take: the machine's, or its control group's if that is less."""
    found = [*_machine_bytes(), *_control_group_bytes()]
    return min(found) if found else None


def _plan(
    manifest: Manifest,
    context_length: int,
    chunk_tokens: int,
    available: int | None,
    tower: TowerRuntime,
    *,
    keeps_vision: bool,
    prefixes: int,
) -> MemoryPlan:
    spec = manifest.architecture
    image_tokens = 0 if spec.vision is None else spec.vision.mm_tokens_per_image
    sliding = sliding_length(spec.text.sliding_window, context_length, max(chunk_tokens, image_tokens), "cpu")
    cache = manifest.precision.cache
    a_prefix = cache_bytes(spec.text, image_tokens + 16, sliding, cache)
    weights, vision = _weight_bytes(manifest)
    resident = _PROCESS_BYTES + int(manifest.files[manifest.tokenizer_file].size_bytes * _TOKENIZER_FACTOR)
    resident += spec.text.vocab_size * _SCHEMA_BYTES_PER_TOKEN + int(weights * _PACKED_FACTOR)
    resident += cache_bytes(spec.text, context_length, sliding, cache) + prefixes * a_prefix
    memory = _TOWER_MEMORY[tower]
    opened = int(vision * memory.weights_factor) + memory.library_bytes
    return MemoryPlan(
        context_length=context_length,
        tower=tower,
        keeps_vision=keeps_vision,
        prefix_bytes=prefixes * a_prefix,
        resident_bytes=resident + (opened if keeps_vision else 0),
        peak_bytes=resident + opened + memory.activations * _activation_bytes(spec),
        available_bytes=available,
    )


def _weight_bytes(manifest: Manifest) -> tuple[int, int]:
    """Return the bytes of the weights that stay in memory without the vision tower's, and of these."""
    sizes = manifest.weight_bytes
    vision = sizes.pop(manifest.vision_weights or "", 0)
    return sum(sizes.values()), vision


def _activation_bytes(spec: GemmaSpec) -> int:
    """Return the size of one float32 [patches, intermediate_size]."""
    if spec.vision is None:
        return 0
    return spec.vision.patches_per_side**2 * spec.vision.intermediate_size * 4


def _machine_bytes() -> Iterator[int]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    yield from (int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def _control_group_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield what each control group above this process leaves it: systemd's MemoryMax is one."""
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        if not line.startswith("0::"):
            continue
        group = root / line.removeprefix("0::").lstrip("/")
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            yield from _left_in(folder)


def _left_in(group: Path) -> Iterator[int]:
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return
    if limit != "max":
        # Pages of files are given back when memory is wanted.
        yield max(0, int(limit) - used + int(statistics.get("inactive_file", 0)))


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
