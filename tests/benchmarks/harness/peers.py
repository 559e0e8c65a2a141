"""Which engines are here: this project's bundle, and the peers that `make bench-peers` prepared."""

from pathlib import Path
from typing import Final

from harness.parent import EngineCommand

OURS: Final = "dermstation"
BASELINE: Final = "llama.cpp Q4_0"
"""What the promised ratios are against."""
CONTEXT_LENGTH: Final = 2048
HOW_TO: Final = "`make bench-peers` prepares them (an hour and 40 GB of disk)"

_GGUF: Final = {BASELINE: "model-Q4_0.gguf", "llama.cpp Q4_K_M": "model-Q4_K_M.gguf"}
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
    python = folder / "llama-cpp" / "bin" / "python"
    for name, file in _GGUF.items():
        lacking = [path for path in (python, folder / file, folder / _MMPROJ) if not path.exists()]
        if lacking:
            missing.append(f"{name} is not compared: {lacking[0]} is missing; {HOW_TO}.")
            continue
        # Both have the same image encoder: once a round is enough.
        mmproj = folder / _MMPROJ if name == BASELINE else None
        files = (folder / file,) if mmproj is None else (folder / file, mmproj)
        options = {
            "model": str(folder / file),
            "mmproj": mmproj and str(mmproj),
            "threads": threads,
            "context_length": CONTEXT_LENGTH,
        }
        found.append(
            EngineCommand(
                name=name,
                python=python,
                module="llama_cpp",
                options=options,
                files=files,
                reads_photos=mmproj is not None,
            )
        )
    return found, missing
