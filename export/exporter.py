"""From a checkpoint folder to a bundle, in one pass: read the small files, check the tensors, stream them into graphs.

It neither downloads nor compares; `hub.py` and `parity.py` do.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from appliance.medgemma.bundle import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Manifest,
    Precision,
    Source,
    manifest_to_json,
)
from appliance.medgemma.file_record import FileRecord, file_record
from appliance.medgemma.spec import CachePrecision, GemmaSpec
from export.chat_template import read_chat_template
from export.checkpoint import EMBEDDING, HEAD, Checkpoint, CheckpointFolder, open_checkpoint
from export.configuration import is_multimodal, read_configuration, text_spec, vision_spec
from export.decoder_graph import build_decoder
from export.embedding_graph import build_embedding
from export.errors import CheckpointError, StorageError
from export.external_data import ExternalDataFile
from export.licence import find_notice
from export.matrix import MatrixPrecision, StoredMatrix, store_matrix
from export.preprocessing import read_preprocessing
from export.recipe import DEFAULT_RECIPE, RECIPES, decoder_precision
from export.staging import check_target, staged_folder, write_synced
from export.table import EmbeddingTable, store_halves, table_record
from export.tensor_shapes import expected_shapes
from export.tokens import TOKENIZER_FILE, check_ids, token_spec
from export.vision_graph import build_vision

_SMALL_FILES: Final = (
    "config.json",
    "generation_config.json",
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
_GRAPHS: Final[tuple[Literal["embedding", "decoder", "vision"], ...]] = ("embedding", "decoder", "vision")
_FINE_HALF_FILE: Final = "embedding-fine.onnx.data"
_HASH_BYTES: Final = 1 << 22


class Progress(Protocol):
    """Someone who wants to know how far the export is."""

    def begin(self, what: str, total_bytes: int) -> None:
        """Be told that a part begins, and how many bytes it will read."""

    def advance(self, size_bytes: int) -> None:
        """Be told that some were read."""


class Silence:
    """Progress for nobody."""

    def begin(self, what: str, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, size_bytes: int) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the caller decides."""

    recipe: str = DEFAULT_RECIPE
    """One of `RECIPES`."""
    decoder: Literal["int4", "int8", "float32"] | None = None
    """Of all the decoder's matrices alike, in place of the recipe's."""
    embedding: Literal["int4", "int8", "float32"] | None = None
    """In place of the recipe's."""
    vision: Literal["int8", "float16", "float32"] | None = None
    """In place of the recipe's."""
    cache: CachePrecision | None = None
    """In place of the recipe's; a decoder in float32 has such a cache by itself."""
    name: str | None = None
    """Of the bundle; the checkpoint's own otherwise."""
    licence: str | None = None
    """Name of the licence; otherwise what the checkpoint says."""
    warning: str | None = None
    card: dict[str, Any] | None = None
    replace: bool = False
    """Whether a bundle that stands at the target may go."""


@dataclass(frozen=True, slots=True)
class _Output:
    """A staged folder and the files that were written to it."""

    folder: Path
    files: dict[str, FileRecord] = field(default_factory=dict)

    def data(self, graph: str) -> ExternalDataFile:
        return ExternalDataFile(self.folder / f"{graph}.onnx.data")


def export_checkpoint(
    source: CheckpointFolder, target: Path, options: ExportOptions, progress: Progress | None = None
) -> Path:
    """Make a bundle.

    Args:
        source: The checkpoint.
        target: Folder that the bundle becomes.
        options: Precisions and what the manifest says.
        progress: Told about bytes read.

    Returns:
        `target`.

    Raises:
        ExportError: One of its leaves; nothing was left behind that looks like a bundle.
    """
    progress = progress or Silence()
    check_target(target, replace=options.replace)
    checkpoint = open_checkpoint(source.path, progress.advance)
    manifest, notice = _plan(source, checkpoint, options)
    with staged_folder(target, replace=options.replace) as folder:
        output = _Output(folder)
        progress.begin("Converting", checkpoint.size_bytes)
        table = _write_graphs(manifest, checkpoint, output)
        origin = msgspec.structs.replace(manifest.source, files=_fingerprints(source.path, checkpoint, progress))
        _write_rest(source.path, manifest, notice, output)
        files = dict(sorted(output.files.items()))
        manifest = msgspec.structs.replace(manifest, source=origin, files=files, halved_table=table_record(table))
        _check_written(folder, manifest.files)
        # Last, and the rename at once: only a kill in between could leave a whole bundle under a partial name.
        write_synced(folder / MANIFEST_NAME, manifest_to_json(manifest))
    return target


def _plan(source: CheckpointFolder, checkpoint: Checkpoint, options: ExportOptions) -> tuple[Manifest, str]:
    """Read and check everything but the weights; returns a manifest that still lacks its files, and the notice."""
    configuration = read_configuration(source.path)
    text = text_spec(configuration)
    tied = checkpoint.resolve_head(tied=text.tie_word_embeddings)
    spec = GemmaSpec(
        text=msgspec.structs.replace(text, tie_word_embeddings=tied),
        tokens=token_spec(source.path, configuration, multimodal=is_multimodal(configuration)),
        vision=vision_spec(configuration),
    )
    check_ids(spec.tokens, text.vocab_size)
    checkpoint.check(expected_shapes(spec))
    precision = _precision(options, multimodal=spec.vision is not None)
    notice = find_notice(source.path, source.name, _statement(source, precision), options.licence)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=options.name or source.name.rpartition("/")[2],
        exporter=f"dermstation {version('dermstation')}",
        source=Source(checkpoint=source.name, revision=source.revision, files={}),
        architecture=spec,
        precision=precision,
        preprocessing=read_preprocessing(source.path, spec.vision),
        chat_template=read_chat_template(source.path),
        licence=notice.licence,
        graphs={graph: f"{graph}.onnx" for graph in _GRAPHS if graph != "vision" or spec.vision is not None},
        tokenizer_file=TOKENIZER_FILE,
        files={},
        warning=options.warning,
        card=options.card,
    )
    return manifest, notice.text


def _precision(options: ExportOptions, *, multimodal: bool) -> Precision:
    """Put the recipe and what overrules it together."""
    recipe = RECIPES[options.recipe]
    chosen = (options.decoder, options.embedding, options.vision, options.cache)
    cache: CachePrecision = "float32" if options.decoder == "float32" else recipe.cache
    return Precision(
        decoder=options.decoder or recipe.decoder,
        embedding=options.embedding or recipe.embedding,
        vision=(options.vision or recipe.vision) if multimodal else None,
        recipe=options.recipe if chosen == (None,) * len(chosen) else None,
        decoder_int8=recipe.decoder_int8 if options.decoder is None else (),
        cache=options.cache or cache,
    )


def _statement(source: CheckpointFolder, precision: Precision) -> str:
    revision = f" (revision {source.revision})" if source.revision else ""
    parts = f"decoder {precision.decoder}"
    parts += f" with {', '.join(precision.decoder_int8)} in int8" if precision.decoder_int8 else ""
    parts += f", embedding {precision.embedding}"
    parts += f", vision {precision.vision}" if precision.vision else ""
    return (
        f"Modified: the weights of {source.name}{revision} were converted to ONNX graphs by dermstation "
        f"{version('dermstation')} ({parts}); the files of this bundle are not the original ones."
    )


def _write_graphs(manifest: Manifest, checkpoint: Checkpoint, output: _Output) -> EmbeddingTable:
    spec, precision = manifest.architecture, manifest.precision
    table = _table(manifest, checkpoint, output)
    build_embedding(spec, table).save(output.folder / manifest.graphs["embedding"])
    with output.data("decoder") as data:
        head = table if spec.text.tie_word_embeddings else _head(checkpoint, data, precision.embedding)
        decoder = build_decoder(
            spec.text,
            checkpoint,
            data,
            head,
            lambda matrix: decoder_precision(matrix, precision.decoder, precision.decoder_int8),
            precision.cache,
        )
    output.files[data.path.name] = data.record
    decoder.save(output.folder / manifest.graphs["decoder"])
    if spec.vision is not None and precision.vision is not None:
        with output.data("vision") as data:
            vision = build_vision(spec.vision, spec.text.hidden_size, checkpoint, data, precision.vision)
        output.files[data.path.name] = data.record
        vision.save(output.folder / manifest.graphs["vision"])
    return table


def _table(manifest: Manifest, checkpoint: Checkpoint, output: _Output) -> EmbeddingTable:
    """Write the embedding table: in two halves where it is the head too and has 8 bits."""
    precision, tensor = manifest.precision.embedding, checkpoint.tensor(EMBEDDING)
    data = output.data("embedding")
    if manifest.architecture.text.tie_word_embeddings and precision == "int8":
        fine_data = ExternalDataFile(output.folder / _FINE_HALF_FILE)
        with data, fine_data:
            table: EmbeddingTable = store_halves(data, fine_data, EMBEDDING, tensor)
        output.files[fine_data.path.name] = fine_data.record
    else:
        with data:
            table = store_matrix(data, EMBEDDING, [tensor], precision)
    output.files[data.path.name] = data.record
    return table


def _head(checkpoint: Checkpoint, data: ExternalDataFile, precision: MatrixPrecision) -> StoredMatrix:
    return store_matrix(data, HEAD, [checkpoint.tensor(HEAD)], precision)


def _fingerprints(folder: Path, checkpoint: Checkpoint, progress: Progress) -> dict[str, str]:
    """Digest every file that was read: SHA-256, lower-case hexadecimal."""
    files = [*checkpoint.files, *(folder / name for name in _SMALL_FILES if (folder / name).is_file())]
    progress.begin("Fingerprinting", sum(path.stat().st_size for path in files))
    return {path.name: _digest(path, progress.advance) for path in files}


def _check_written(folder: Path, files: dict[str, FileRecord]) -> None:
    """Read back what was written: its digests were taken on the way to the disk.

    Raises:
        StorageError: The disk gives back something else.
    """
    for name, record in files.items():
        if file_record(folder / name) != record:
            raise StorageError(f"{name} does not read back as it was written; the disk under {folder} is unsound.")


def _digest(path: Path, on_read: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_HASH_BYTES):
                digest.update(piece)
                on_read(len(piece))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def _write_rest(folder: Path, manifest: Manifest, notice: str, output: _Output) -> None:
    """Write tokenizer and notice, and record every file that the graphs' writers did not."""
    write_synced(output.folder / manifest.licence.notice_file, notice.encode())
    write_synced(output.folder / TOKENIZER_FILE, (folder / TOKENIZER_FILE).read_bytes())
    for name in (*manifest.graphs.values(), manifest.licence.notice_file, TOKENIZER_FILE):
        output.files[name] = file_record(output.folder / name)
