#!/bin/sh
# Pin everything with hashes, from pyproject.toml, without writing any index address: run by `make lock`.
# torch has two files: the CPU build where the configured index serves one, else the index's own build.
set -eu
cd "$(dirname "$0")/.."
flags="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet ${LOCK_FLAGS:-}"
# setuptools builds the package itself, offline and pinned like the rest.
echo 'setuptools>=77' | uv pip compile $flags pyproject.toml --extra cpu --extra records --extra print - -o requirements/run.txt
echo 'transformers>=5' | uv pip compile $flags pyproject.toml --extra cpu --extra records --extra print --extra camera --extra openvino --extra export --extra test - -c requirements/run.txt -o requirements/dev.txt
echo 'torch==2.13.0+cpu' | uv pip compile $flags - -c requirements/dev.txt -o requirements/torch-cpu.txt
# Without the extra wheel folder, or the CPU build would be pinned here too.
echo 'torch==2.13.0' | env -u UV_FIND_LINKS uv pip compile $flags - -c requirements/dev.txt -o requirements/torch.txt
# The speech model's export, beside torch-cpu.txt or torch.txt in a virtual environment of its own.
echo 'torch==2.13.0+cpu' | uv pip compile $flags --no-emit-package torch pyproject.toml --extra cpu --extra voice-export - -c requirements/torch-cpu.txt -o requirements/voice-export.txt
