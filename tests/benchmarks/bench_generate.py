"""Measure a bundle on this machine: start-up, one photo, prefill and decode; medians as one JSON object.

    python tests/benchmarks/bench_generate.py [--bundle B] [--threads N] [--runs 5]

Speed does not depend on what the photo shows or whether the answer makes sense. Compare only runs on one machine.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from appliance.demo import bundle_path
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, TextPart
from appliance.medgemma.sessions import available_cores


def photo(seed: int) -> bytes:
    """Draw noise of a camera's size, in a JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def ask(model: MedGemma, content: bytes, words: int, max_tokens: int) -> Generation:
    message = Message(role="user", parts=(ImagePart(content=content), TextPart(text="lesion " * words)))
    *_, generation = model.generate([message], GenerationOptions(max_tokens=max_tokens))
    assert isinstance(generation, Generation)
    return generation


def command_s(bundle: Path, threads: int) -> float:
    """Time the whole command for one token, interpreter and imports included."""
    started_s = time.monotonic()
    command = [sys.executable, "-m", "appliance", "generate", "--bundle", str(bundle), "--threads", str(threads)]
    subprocess.run([*command, "--prompt", "x", "--max-tokens", "1"], check=True, capture_output=True)
    return time.monotonic() - started_s


def peak_rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=bundle_path())
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=64)
    values = parser.parse_args()

    start_s = [command_s(values.bundle, values.threads) for _ in range(values.runs)]
    with MedGemma.load(values.bundle, RuntimeOptions(threads=values.threads)) as model:
        vision_s = [model.encode_image(photo(seed)).vision_s for seed in range(values.runs)]
        content = photo(0)
        runs = [ask(model, content, values.words, values.max_tokens) for _ in range(values.runs)]
        found = {
            "bundle": model.bundle.manifest.name,
            "machine": f"{platform.machine()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f}",
            "threads": values.threads,
            "command_s": round(statistics.median(start_s), 3),
            "load_s": round(model.load_s, 3),
            "vision_s": round(statistics.median(vision_s), 4),
            "prompt_tokens": runs[0].timings.prompt_tokens,
            "prefill_tokens_per_s": round(statistics.median(run.timings.prefill_tokens_per_s for run in runs), 1),
            "decode_tokens_per_s": round(statistics.median(run.timings.decode_tokens_per_s for run in runs), 1),
            "peak_rss_bytes": peak_rss_bytes(),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
