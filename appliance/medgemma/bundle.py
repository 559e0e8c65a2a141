"""The bundle: the one contract between export and runtime, and the check that it is whole before anything opens it.

A bundle is a folder with `bundle.json` and the files that it lists, nothing else. ONNX Runtime is not trusted to guard
it: it loads external data through a hard link, so links, sizes and digests are checked here first.
Source: `appliance/medgemma/DESIGN.md`, "The bundle".
"""

import hashlib
import os
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from appliance.errors import BundleError
from appliance.medgemma.file_record import FileRecord, check_record
from appliance.medgemma.spec import CachePrecision, GemmaSpec

SCHEMA_VERSION: Final = 4
MANIFEST_NAME: Final = "bundle.json"
MANIFEST_MAX_BYTES: Final = 4 << 20

# Graph inputs and outputs. B = 1, T = tokens in this run, S = tokens in the cache afterwards, C = cache length, R and W
# = the same two of the sliding layers' cache, H = hidden_size, M = mm_tokens_per_image, K = positions whose logits are
# wanted, V = vocab_size.
PIXEL_VALUES: Final = "pixel_values"
"""float32 [N, 3, image_size, image_size], RGB, range [-1, 1]."""
IMAGE_FEATURES: Final = "image_features"
"""float32 [N, M, H]; not to be scaled."""
INPUT_IDS: Final = "input_ids"
"""int64 [1, T]."""
INPUTS_EMBEDS: Final = "inputs_embeds"
"""float32 [1, T, H]; text embeddings come out of `embedding.onnx` already scaled by sqrt(H)."""
POSITION_IDS: Final = "position_ids"
"""int64 [1, T], counted from 0 at `<bos>`."""
ATTENTION_BIAS: Final = "attention_bias"
"""float32 [1, 1, T, S], added to the scores of full layers: 0 where the query may look, very negative elsewhere."""
ATTENTION_BIAS_SLIDING: Final = "attention_bias_sliding"
"""float32 [1, 1, T, R], the same for sliding layers, which may hold only the last R of the S tokens; like the next two
of this name, not an input where the checkpoint has no such layers."""
SEQLENS_K: Final = "seqlens_k"
"""int32 [1], S - 1."""
SEQLENS_K_SLIDING: Final = "seqlens_k_sliding"
"""int32 [1], R - 1."""
TOTAL_SEQUENCE_LENGTH: Final = "total_sequence_length"
"""int32 [] (a scalar, on the CPU), S."""
TOTAL_SEQUENCE_LENGTH_SLIDING: Final = "total_sequence_length_sliding"
"""int32 [] (a scalar, on the CPU), R."""
LOGITS_INDICES: Final = "logits_indices"
"""int64 [K], positions within this run whose logits are wanted."""
LOGITS: Final = "logits"
"""float32 [1, K, V]."""
COARSE_LOGITS: Final = "coarse_logits"
"""float32 [1, K, V], in place of `logits`: from the coarse halves of the table's values only, so some percent off. What
they leave open is settled (`shortlist.py`) with whole rows of the table (`halved_table.py`)."""
HIDDEN_STATES: Final = "hidden_states"
"""float32 [1, K, H], after the final norm, at `logits_indices`."""


def past_name(layer: int, part: Literal["key", "value"]) -> str:
    """Name the cache input of a layer: [1, num_key_value_heads, C, head_dim], W for C in a sliding one."""
    return f"past_key_values.{layer}.{part}"


def present_name(layer: int, part: Literal["key", "value"]) -> str:
    """Name the cache output of a layer, bound to the same buffer as its input."""
    return f"present.{layer}.{part}"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the weights came from."""

    checkpoint: str
    """Hub id or folder name."""
    revision: str | None
    files: dict[str, str]
    """SHA-256 of every checkpoint file that was read."""


class Precision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Number format of each part's matrices; norms and the residual stream are float32 in all of them."""

    decoder: Literal["int4", "int8", "float32"]
    embedding: Literal["int4", "int8", "float32"]
    vision: Literal["int8", "float16", "float32"] | None
    recipe: str | None = None
    """Name of the exporter's recipe; `None` for a choice part by part."""
    decoder_int8: tuple[str, ...] = ()
    """Matrices of an int4 decoder that have 8 bits all the same: shell patterns of names such as `layers.0.*`."""
    cache: CachePrecision
    """Of keys and values. In int8 the decoder holds a scale for each channel, and quantises what a run appends."""


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a photo becomes `pixel_values`: padded to a square, bilinear, (x * rescale_factor - mean) / std."""

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    rescale_factor: float


class Licence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the licence asks to be written; a bundle without it is refused."""

    name: str
    notice_file: str
    modification_statement: str


class StoredBytes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one value begins, in one of the bundle's files."""

    file: str
    offset_bytes: int


class HalvedTableRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the two halves of an embedding table of 8 bits lie, row by row; the decoder then has coarse logits."""

    coarse: StoredBytes
    """uint8 [V, blocks * block_size / 2]."""
    fine: StoredBytes
    """The same shape."""
    scales: StoredBytes
    """float32 [V, blocks]."""
    block_size: int


class GoldenAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model says, greedily, on any machine where it is whole."""

    prompt: str
    image_file: str | None = None
    """A photo among the bundle's files that stands before the prompt."""
    token_ids: tuple[int, ...]
    """The first tokens of the answer."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `bundle.json`."""

    schema_version: int
    name: str
    exporter: str
    """`dermstation` and its version."""
    source: Source
    architecture: GemmaSpec
    precision: Precision
    preprocessing: Preprocessing
    chat_template: str
    """Jinja source; may be the exporter's fallback, Gemma 3's own."""
    licence: Licence
    graphs: dict[Literal["vision", "embedding", "decoder"], str]
    """File name of each graph; `vision` is absent from a text-only bundle."""
    tokenizer_file: str
    halved_table: HalvedTableRecord | None = None
    """Absent for a head that gives exact logits."""
    files: dict[str, FileRecord]
    """Every file beside `bundle.json`."""
    warning: str | None = None
    """A sentence that every face shows beside the model's text, such as that the model is a demonstration."""
    golden_answers: tuple[GoldenAnswer, ...] = ()
    """What the engine asks itself at its start; `dermstation selftest --record` writes them."""
    parity: dict[str, Any] | None = None
    """Result of `dermstation export --verify`."""
    card: dict[str, Any] | None = None
    """Measured accuracy, where it was measured."""

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes of each file of weights but a fine half's, of which only single rows are read and none are held."""
        fine = None if self.halved_table is None else self.halved_table.fine.file
        return {name: self.files[name].size_bytes for name in self.weight_files if name != fine}

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of all files of weights."""
        return tuple(name for name in self.files if name.endswith(".data"))

    @property
    def vision_weights(self) -> str | None:
        """Name of the vision tower's file of weights; `None` of a text-only bundle."""
        return f"{self.graphs['vision']}.data" if "vision" in self.graphs else None


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle; from `load_bundle`, one whose every file has been checked."""

    path: Path
    manifest: Manifest
    sha256: str
    """Digest of `bundle.json`, which in turn fixes every other file: the identity of the model."""

    def graph_path(self, graph: Literal["vision", "embedding", "decoder"]) -> Path:
        """Return the path of a graph's ONNX file.

        Raises:
            BundleError: The bundle is text-only and has no such graph.
        """
        name = self.manifest.graphs.get(graph)
        if name is None:
            raise BundleError(f"The bundle {self.path} has no {graph} graph: it takes text only.")
        return self.path / name

    @property
    def tokenizer_path(self) -> Path:
        """Path of `tokenizer.json`."""
        return self.path / self.manifest.tokenizer_file


def load_bundle(path: Path) -> Bundle:
    """Check a bundle from end to end.

    Args:
        path: Folder that holds `bundle.json`.

    Raises:
        BundleError: A file is missing, extra, changed, a link, or larger than recorded; or `bundle.json` is not one
            that this version reads.
    """
    bundle = read_bundle(path)
    for name in bundle.manifest.files:
        check_file(bundle, name)
    return bundle


def read_bundle(path: Path) -> Bundle:
    """Read what a bundle says of itself; each of its files must still pass `check_file` before it is opened.

    Raises:
        BundleError: A file is missing or extra, or `bundle.json` is not one that this version reads.
    """
    content = _read_manifest(path)
    try:
        found = msgspec.json.decode(content, type=dict[str, Any]).get("schema_version", SCHEMA_VERSION)
        if found != SCHEMA_VERSION:
            raise BundleError(
                f"The bundle {path} has format {found}; this version reads {SCHEMA_VERSION}: export it again."
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / MANIFEST_NAME} is not a bundle description: {error}.") from error
    _check_references(path, manifest)
    _check_names(path, manifest)
    return Bundle(path=path, manifest=manifest, sha256=hashlib.sha256(content).hexdigest())


def manifest_to_json(manifest: Manifest) -> bytes:
    """Return the bytes of `bundle.json`: indented, keys in their declared order, newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _read_manifest(path: Path) -> bytes:
    try:
        with (path / MANIFEST_NAME).open("rb") as file:
            content = file.read(MANIFEST_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError(f"There is no model bundle at {path}: {MANIFEST_NAME} is missing.") from error
    except OSError as error:
        raise BundleError(f"The model bundle at {path} cannot be read: {error.strerror}.") from error
    if len(content) > MANIFEST_MAX_BYTES:
        raise BundleError(f"{path / MANIFEST_NAME} is larger than {MANIFEST_MAX_BYTES} bytes.")
    return content


def _check_references(path: Path, manifest: Manifest) -> None:
    """Every file that the manifest names must be one that it lists, so that nothing unchecked is opened."""
    named = {*manifest.graphs.values(), manifest.tokenizer_file, manifest.licence.notice_file}
    table = manifest.halved_table
    named |= set() if table is None else {part.file for part in (table.coarse, table.fine, table.scales)}
    named |= {golden.image_file for golden in manifest.golden_answers if golden.image_file is not None}
    for name in sorted(named - manifest.files.keys()):
        raise BundleError(f"The bundle {path} names {name} but does not list it.")
    for graph in ("embedding", "decoder"):
        if graph not in manifest.graphs:
            raise BundleError(f"The bundle {path} has no {graph} graph.")


def check_file(bundle: Bundle, name: str) -> None:
    """Compare one file of a bundle with its record, from end to end.

    Raises:
        BundleError: It is changed, a link, or of another size.
    """
    check_record(bundle.path / name, bundle.manifest.files[name])


def _check_names(path: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if name != os.path.basename(name) or name in {MANIFEST_NAME, ".", ".."}:
            raise BundleError(f"The bundle {path} lists {name!r}, which is not a plain file name.")
    present = {entry.name for entry in os.scandir(path)} - {MANIFEST_NAME}
    for name in sorted(manifest.files.keys() - present):
        raise BundleError(f"The bundle {path} is damaged: {name} is missing.")
    for name in sorted(present - manifest.files.keys()):
        raise BundleError(f"The bundle {path} holds {name}, which it does not list; remove it or export again.")
