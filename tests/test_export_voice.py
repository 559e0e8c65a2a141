"""The speech model's export, where its extra is installed: a tiny random Whisper, traced, rounded and compared.

optimum needs a generation of transformers that the other tests do not: run these with the interpreter of a virtual
environment that has dermstation[cpu,voice-export], named in DERMSTATION_VOICE_PYTHON, or from such an environment.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import write_json

from export.errors import CheckpointError, ExportError, UnsupportedCheckpointError
from export.voice.exporter import export_whisper

PYTHON = os.environ.get("DERMSTATION_VOICE_PYTHON") or sys.executable
HAS_OPTIMUM = "DERMSTATION_VOICE_PYTHON" in os.environ or importlib.util.find_spec("optimum") is not None
needs_optimum = pytest.mark.skipif(not HAS_OPTIMUM, reason="needs the extra voice-export: set DERMSTATION_VOICE_PYTHON")

MAKE_CHECKPOINT = """
import sys, torch
from tokenizers import Tokenizer, models
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
torch.manual_seed(int(sys.argv[2]))
shape = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, d_model=32,
             encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=80, max_source_positions=1500, max_target_positions=24)
tokens = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3)
WhisperForConditionalGeneration(WhisperConfig(**shape, **tokens)).save_pretrained(sys.argv[1])
WhisperFeatureExtractor().save_pretrained(sys.argv[1])
Tokenizer(models.WordLevel({f"w{i}": i for i in range(80)}, unk_token="w0")).save(sys.argv[1] + "/tokenizer.json")
"""


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp("voice") / "whisper-tiny-random"
    seed = str(request.config.option.seed)
    subprocess.run([PYTHON, "-c", MAKE_CHECKPOINT, str(folder), seed], check=True, capture_output=True, timeout=120)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody may open")
    return folder


def export(whisper: Path, target: Path, *arguments: str) -> Any:
    command = [PYTHON, "-m", "export.voice", str(whisper), "-o", str(target), "--licence", "MIT", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@needs_optimum
@pytest.mark.parametrize(("precision", "relative_rms"), [("float32", 1e-5), ("int8", 0.1)])
def test_graphs_compute_what_transformers_computes(
    tmp_path: Path, whisper: Path, precision: str, relative_rms: float
) -> None:
    done = export(whisper, tmp_path / "voice", "--precision", precision)

    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads((tmp_path / "voice" / "voice.json").read_bytes())
    assert manifest["precision"] == precision
    assert manifest["licence"]["name"] == "MIT"
    assert {stage: found["relative_rms"] < relative_rms for stage, found in manifest["parity"].items()} == {
        "encoder": True,
        "decoder": True,
    }


@needs_optimum
def test_manifest_lists_every_file_with_its_digest(tmp_path: Path, whisper: Path) -> None:
    assert export(whisper, tmp_path / "voice").returncode == 0

    present = {path.name: path.read_bytes() for path in (tmp_path / "voice").iterdir() if path.name != "voice.json"}
    manifest = json.loads((tmp_path / "voice" / "voice.json").read_bytes())
    assert manifest["files"] == {
        name: {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(present.items())
    }
    assert {"encoder_model.onnx", "decoder_model.onnx", "tokenizer.json", "NOTICE"} <= present.keys()
    assert b"converted to ONNX graphs" in present["NOTICE"]
    assert "pytorch_model.bin" not in manifest["source"]


@needs_optimum
def test_graphs_run_on_the_box(tmp_path: Path, whisper: Path) -> None:
    """ONNX Runtime alone takes other lengths of text than were traced."""
    import onnxruntime

    assert export(whisper, tmp_path / "voice").returncode == 0
    encoder, decoder = (
        onnxruntime.InferenceSession(tmp_path / "voice" / f"{name}_model.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder")
    )
    hidden = encoder.run(None, {"input_features": np.zeros((1, 80, 3000), np.float32)})[0]
    for length in (1, 5, 24):
        feed = {"input_ids": np.ones((1, length), np.int64), "encoder_hidden_states": hidden}
        assert decoder.run(["logits"], feed)[0].shape == (1, length, 80)


def folder_of(tmp_path: Path, model_type: str, weights: str) -> Path:
    write_json(tmp_path / "config.json", {"model_type": model_type})
    for name in ("preprocessor_config.json", "tokenizer.json", weights):
        (tmp_path / name).write_bytes(b"{}")
    return tmp_path


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no safetensors"):
        export_whisper(folder_of(tmp_path, "whisper", "pytorch_model.bin"), tmp_path / "voice", int8=True)


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpointError, match="'wav2vec2'"):
        export_whisper(folder_of(tmp_path, "wav2vec2", "model.safetensors"), tmp_path / "voice", int8=True)


def test_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    (folder_of(tmp_path, "whisper", "model.safetensors") / "tokenizer.json").unlink()

    with pytest.raises(CheckpointError, match="has no tokenizer"):
        export_whisper(tmp_path, tmp_path / "voice", int8=True)


@pytest.mark.skipif(importlib.util.find_spec("optimum") is not None, reason="the extra voice-export is installed here")
def test_missing_extra_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"install dermstation\[cpu,voice-export\]"):
        export_whisper(folder_of(tmp_path, "whisper", "model.safetensors"), tmp_path / "voice", int8=True)
    assert not (tmp_path / "voice").exists()
