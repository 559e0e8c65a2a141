"""Which engines are here: this project's bundle, and the peers that `make bench-peers` prepared."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.parent import EngineCommand

OURS: Final = "dermstation"
BASELINE: Final = "llama.cpp Q4_0"
"""What the promised ratios are against."""
CONTEXT_LENGTH: Final = 2048
HOW_TO: Final = "`make bench-peers` prepares them (an hour and 40 GB of disk)"

_GGUF: Final = {BASELINE: "model-Q4_0.gguf", "llama.cpp Q4_K_M": "model-Q4_K_M.gguf"}
_GENAI: Final = "OpenVINO GenAI int4"
_MMPROJ: Final = "mmproj-f16.gguf"


def ours(bundle: Path, python: Path, threads: int) -> EngineCommand:
    """Return the command for a bundle."""
    options = {"bundle": str(bundle), "threads": threads, "context_length": CONTEXT_LENGTH}
    files = tuple(sorted(path for path in bundle.iterdir() if path.is_file()))
    return EngineCommand(name=OURS, python=python, module="ours", options=options, files=files)


def peers(folder: Path, threads: int) -> tuple[list[EngineCommand], list[str]]:
    """Look what was prepared in a folder.

    Returns:
        The commands of the peers that are whole, and a sentence for each one that is not.
    """
    found, missing = [], []
    for command in (*_llama_cpp(folder, threads), _openvino_genai(folder, threads)):
        lacking = [path for path in (command.python, *command.files) if not path.exists()]
        if lacking:
            missing.append(f"{command.name} is not compared: {lacking[0]} is missing; {HOW_TO}.")
        else:
            found.append(command)
    return found, missing


def _llama_cpp(folder: Path, threads: int) -> Iterator[EngineCommand]:
    for name, file in _GGUF.items():
        # Both have the same image encoder: once a round is enough.
        mmproj = folder / _MMPROJ if name == BASELINE else None
        options = {
            "model": str(folder / file),
            "mmproj": mmproj and str(mmproj),
            "threads": threads,
            "context_length": CONTEXT_LENGTH,
        }
        yield EngineCommand(
            name=name,
            python=folder / "llama-cpp" / "bin" / "python",
            module="llama_cpp",
            options=options,
            files=(folder / file,) if mmproj is None else (folder / file, mmproj),
            reads_photos=mmproj is not None,
        )


def _openvino_genai(folder: Path, threads: int) -> EngineCommand:
    exported = folder / "openvino-int4"
    return EngineCommand(
        name=_GENAI,
        python=folder / "openvino" / "bin" / "python",
        module="openvino_genai",
        options={"folder": str(exported), "threads": threads},
        files=tuple(sorted(exported.iterdir())) if exported.is_dir() else (exported,),
    )
