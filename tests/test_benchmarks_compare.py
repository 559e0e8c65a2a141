"""`make bench` as a stranger runs it first: without peers, on the demonstration bundle."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPARE = [sys.executable, str(ROOT / "tests/benchmarks/compare.py"), "--rounds", "1", "--threads", "1"]


def test_without_peers_the_demonstration_bundle_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "new" / "result.json"
    options = ["--peers", str(tmp_path / "none"), "--output", str(output), "--groups", "prefill", "assessment"]
    done = subprocess.run([*COMPARE, *options], capture_output=True, text=True, check=True)
    assert "| prefill, prompt of 300 tokens, tokens/s |" in done.stdout
    assert "no peer is compared" in done.stdout
    result = json.loads(output.read_text())
    assert result["failure"] is None
    assert result["engines"]["dermstation"]["model"].startswith("dermstation-demo ")
    figures = {entry["figure"]: entry for entry in result["figures"]}
    assert figures["assessment"]["medians"]["dermstation"] > 0
    assert "decode_600" not in figures


def test_an_engine_that_is_not_here_is_named(tmp_path: Path) -> None:
    options = ["--peers", str(tmp_path), "--output", str(tmp_path / "result.json"), "--engines", "llama.cpp Q4_0"]
    done = subprocess.run([*COMPARE, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "None of the engines llama.cpp Q4_0 is here; there are dermstation.\n"
    assert not (tmp_path / "result.json").exists()
