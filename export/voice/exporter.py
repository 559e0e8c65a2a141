"""From a Whisper checkpoint to `encoder_model.onnx` and `decoder_model.onnx`, checked against transformers.

optimum traces the model; what it gets is a folder with nothing but configuration and safetensors, so that no pickle and
no remote code can be read. The decoder takes all tokens at once and keeps no cache: a spoken command is short, and a
list of phrases is scored in one run each. Source: optimum-onnx 0.1.0 `optimum.exporters.onnx.main_export`.
"""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx

from appliance.medgemma.file_record import file_record
from export.checkpoint import read_json
from export.errors import CheckpointError, ExportError, ParityError, UnsupportedCheckpointError
from export.graph_builder import MICROSOFT
from export.licence import NOTICE_FILE, find_notice
from export.matrix import ACCURACY_LEVEL
from export.quantize import block_size_for, quantize
from export.staging import staged_folder, write_synced
from export.voice.parity import compare_graphs

VOICE_MANIFEST: Final = "voice.json"
SCHEMA_VERSION: Final = 1
GRAPHS: Final = ("encoder_model.onnx", "decoder_model.onnx")
PACKAGES: Final = ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime")
"""Pinned together in the extra `voice-export`: optimum-onnx 0.1.0 works with these generations only."""
_SMALL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
_REQUIRED: Final = ("config.json", "preprocessor_config.json", "tokenizer.json")
_LIMITS: Final = {"float32": 1e-3, "int8": 0.15}
"""Relative root-mean-square difference that a graph may show: rounding; three times that of Whisper base in int8."""
_MATRIX: Final = 2
"""Dimensions of a matrix."""


def export_whisper(checkpoint: Path, target: Path, *, int8: bool, licence: str | None = None) -> dict[str, Any]:
    """Make the folder.

    Args:
        checkpoint: A local Hugging Face folder with a Whisper model.
        target: Where the graphs go; must not exist.
        int8: Whether the matrices are rounded to int8; their inputs are then rounded while they run.
        licence: Name of the licence, if the checkpoint does not say.

    Returns:
        The content of `voice.json`.

    Raises:
        CheckpointError: Files are missing, or there are no safetensors.
        UnsupportedCheckpointError: It is no Whisper model.
        ExportError: The extra `voice-export` is not installed.
        ParityError: The graphs do not compute what transformers computes.
        TargetExistsError: Something stands at the target.
        StorageError: The target cannot be written.
    """
    weights = _check_checkpoint(checkpoint)
    versions = _check_installed()
    precision = "int8" if int8 else "float32"
    statement = (
        f"Modified: the weights of {checkpoint.name} were converted to ONNX graphs by dermstation "
        f"{version('dermstation')} ({precision}); the files of this folder are not the original ones."
    )
    notice = find_notice(checkpoint, checkpoint.name, statement, licence)
    with staged_folder(target, replace=False) as folder, _only_safe_files(checkpoint, weights) as source:
        with _quiet():
            _trace(source, folder, int8=int8)
        parity = compare_graphs(source, *(folder / graph for graph in GRAPHS))
        for stage, difference in parity.items():
            if not difference["relative_rms"] <= _LIMITS[precision]:
                raise ParityError(f"The {stage} differs from transformers by {difference['relative_rms']:.0%} rms.")
        present = [name for name in _SMALL_FILES if (checkpoint / name).is_file()]
        for name in present:
            write_synced(folder / name, (checkpoint / name).read_bytes())
        write_synced(folder / NOTICE_FILE, notice.text.encode())
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": checkpoint.name,
            "exporter": f"dermstation {version('dermstation')}",
            "versions": versions,
            "precision": precision,
            "source": {name: file_record(checkpoint / name).sha256 for name in (*weights, *present)},
            "graphs": list(GRAPHS),
            "licence": msgspec.to_builtins(notice.licence),
            "parity": parity,
            "files": {path.name: msgspec.to_builtins(file_record(path)) for path in sorted(folder.iterdir())},
        }
        write_synced(folder / VOICE_MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
    return manifest


def _check_checkpoint(folder: Path) -> tuple[str, ...]:
    """Return the names of the weight files."""
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}.")
    configuration = read_json(folder / "config.json") or {}
    if configuration.get("model_type") != "whisper":
        raise UnsupportedCheckpointError(
            f"{folder} holds a model of type {configuration.get('model_type')!r}; the voice takes whisper only."
        )
    weights = sorted(path.name for path in folder.glob("*.safetensors*"))
    if not any(name.endswith(".safetensors") for name in weights):
        raise CheckpointError(f"{folder} holds no safetensors; other formats of weights are not read.")
    return tuple(weights)


def _check_installed() -> dict[str, str]:
    """Return the versions of what traces the model."""
    try:
        import optimum.exporters.onnx  # noqa: F401  # the part that optimum-onnx brings
        import torch  # noqa: F401
    except ImportError as error:
        raise ExportError(
            "The voice is exported with optimum: install dermstation[cpu,voice-export] into a virtual environment of "
            "its own."
        ) from error
    return {package: version(package) for package in PACKAGES}


@contextmanager
def _only_safe_files(checkpoint: Path, weights: tuple[str, ...]) -> Iterator[Path]:
    """Give a folder of links to the checkpoint's weights and settings, and to nothing else of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (*weights, *_SMALL_FILES):
            if (checkpoint / file).is_file():
                (folder / file).symlink_to((checkpoint / file).resolve())
        yield folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep advice for authors of models from the screen; what was traced is compared afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _trace(source: Path, folder: Path, *, int8: bool) -> None:
    from optimum.exporters.onnx import main_export

    traced = Path(tempfile.mkdtemp(dir=source))
    try:
        # Not validated here: `compare_graphs` does it, and says what came out.
        main_export(
            str(source),
            traced,
            task="automatic-speech-recognition",
            library_name="transformers",
            local_files_only=True,
            do_validation=False,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedCheckpointError(f"optimum cannot export this checkpoint: {reason}") from error
    for graph in GRAPHS:
        if int8:
            _quantize(traced / graph, folder / graph)
        else:
            shutil.move(traced / graph, folder / graph)


def _quantize(source: Path, target: Path) -> None:
    """Round the matrices to 8 bits a block of inputs, with the kernel that the other graphs use.

    Dynamic quantisation with one scale a matrix of inputs was 25 % off on Whisper base's encoder, blocks are 3 %.
    Convolutions stay float32.
    """
    model = onnx.load(source)
    graph = model.graph
    stored = {value.name: value for value in graph.initializer}
    added: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        weight = stored.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != _MATRIX:
            continue
        matrix = np.ascontiguousarray(onnx.numpy_helper.to_array(weight).T, np.float32)
        rows, columns = matrix.shape
        size = block_size_for(matrix, 8)
        quantized = quantize(matrix, 8, size)
        names = [f"{weight.name}.blocks", f"{weight.name}.scales"]
        for name, value in zip(names, (quantized.values.reshape(rows, -1, size), quantized.scales), strict=True):
            added[name] = onnx.numpy_helper.from_array(value, name)
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": size, "accuracy_level": ACCURACY_LEVEL}
        inputs = [node.input[0], *names]
        node.CopyFrom(onnx.helper.make_node("MatMulNBits", inputs, node.output, node.name, domain=MICROSOFT, **sizes))
    graph.initializer.extend(added.values())
    used = {name for node in graph.node for name in node.input}
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, target)
