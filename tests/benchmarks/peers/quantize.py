"""Quantize a GGUF file with llama.cpp's own quantizer: `quantize.py IN OUT Q4_0`."""

import importlib
import os
import sys
from pathlib import Path


def main() -> None:
    source, target, kind = sys.argv[1:]
    llama = importlib.import_module("llama_cpp.llama_cpp")
    params = llama.llama_model_quantize_default_params()
    params.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = len(os.sched_getaffinity(0))
    partial = f"{target}.partial"
    if llama.llama_model_quantize(source.encode(), partial.encode(), params) != 0:
        sys.exit(f"llama.cpp could not quantize {source}.")
    Path(partial).replace(target)


if __name__ == "__main__":
    main()
