"""`dermstation generate` as a person or a script meets it: streams, JSON, exit codes, Ctrl-C, and what it imports."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from medgemma_bundles import export_random, png

from appliance.assessment import ASSESSMENT_PROMPT, ASSESSMENT_SCHEMA
from appliance.demo import pictures_path
from appliance.errors import BundleError, ConfigurationError, ImageError, PromptError
from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle, manifest_to_json

WARNING = "Demonstration model: drawings only."
COMMAND = [sys.executable, "-m", "appliance", "generate", "--threads", "1"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = export_random(tmp_path_factory.mktemp("random"), tie_word_embeddings=False).bundle
    manifest = msgspec.structs.replace(load_bundle(bundle).manifest, warning=WARNING)
    (bundle / MANIFEST_NAME).write_bytes(manifest_to_json(manifest))
    return bundle


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    path.write_bytes(png())
    return path


def run(bundle: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--bundle", str(bundle), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def report(bundle: Path, *arguments: str | Path) -> dict[str, Any]:
    done = run(bundle, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_text_streams_to_stdout_and_the_warning_to_stderr(bundle: Path) -> None:
    done = run(bundle, "--prompt", "What do you see?", "--max-tokens", "8")
    assert done.returncode == 0
    assert done.stderr == f"{WARNING}\ndermstation: the answer is cut short (length).\n"
    assert done.stdout.rstrip("\n") == report(bundle, "--prompt", "What do you see?", "--max-tokens", "8")["text"]


def test_json_has_tokens_timings_and_memory(bundle: Path, photo: Path) -> None:
    found = report(bundle, "--image", photo, "--image", photo, "--prompt", "See?", "--max-tokens", "6")
    assert found["finish_reason"] == "length"
    assert found["warning"] == WARNING
    assert len(found["token_ids"]) == 6 == found["timings"]["generated_tokens"]
    assert len(found["prompt_token_ids"]) == found["timings"]["prompt_tokens"] > 2 * 16
    for part in ("load_s", "vision_s", "prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"):
        assert found["timings"][part] > 0
    assert 20 << 20 < found["peak_rss_bytes"] < 400 << 20
    assert found["model"]["providers"] == ["CPUExecutionProvider"]


@pytest.mark.parametrize("flags", [[], ["--assess", "--prompt", ASSESSMENT_PROMPT]])
def test_assessment_is_the_default_question(bundle: Path, photo: Path, flags: list[str]) -> None:
    found = report(bundle, "--image", photo, "--max-tokens", "1500", *flags)
    assert found["finish_reason"] == "stop"
    jsonschema.validate(json.loads(found["text"]), ASSESSMENT_SCHEMA)


def test_schema_from_a_file(bundle: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    assert report(bundle, "--prompt", "Is it?", "--schema", schema)["text"] in {"true", "false"}


def test_demonstration_bundle_is_the_default_and_stays_small() -> None:
    picture = min(pictures_path().glob("*.jpg"))
    done = subprocess.run([*COMMAND, "--json", "--image", str(picture)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "demonstration model" in found["warning"]
    assert found["finish_reason"] == "stop"
    jsonschema.validate(json.loads(found["text"]), ASSESSMENT_SCHEMA)
    assert found["peak_rss_bytes"] < 400 << 20


def test_seed_repeats(bundle: Path) -> None:
    arguments = ("--prompt", "x", "--temperature", "1", "--seed", "5", "--max-tokens", "20")
    assert report(bundle, *arguments)["token_ids"] == report(bundle, *arguments)["token_ids"]


def refused(done: subprocess.CompletedProcess[str], code: int, sentence: str) -> None:
    assert done.returncode == code
    assert done.stdout == ""
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dermstation: ")
    assert done.stderr.count("\n") == 1


def test_errors_are_one_sentence_each_with_its_exit_code(bundle: Path, photo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:-200])
    schema = tmp_path / "schema.json"
    schema.write_text("[]")
    ask = ("--prompt", "x")
    refused(run(tmp_path, *ask), BundleError.exit_code, "no model bundle")
    refused(run(bundle, *ask, "--image", broken), ImageError.exit_code, "damaged")
    refused(run(bundle, *ask, "--image", tmp_path / "none.png"), ImageError.exit_code, "No such file")
    refused(run(bundle, *ask, "--image", tmp_path), ImageError.exit_code, "Is a directory")
    refused(run(bundle, *ask, "--context-length", "4"), PromptError.exit_code, "the context takes at most 4")
    refused(run(bundle, *ask, "--schema", schema), ConfigurationError.exit_code, "not an object")


def test_option_out_of_range_is_a_usage_error(bundle: Path) -> None:
    done = run(bundle, "--prompt", "x", "--top-p", "0")
    assert done.returncode == 2
    assert "--top-p" in done.stderr


def test_interrupt_ends_the_answer_cleanly(bundle: Path) -> None:
    command = [
        *COMMAND,
        "--bundle",
        str(bundle),
        "--prompt",
        "x",
        "--max-tokens",
        "100000",
        "--context-length",
        "100000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "cancelled" in errors


def test_reader_that_goes_away_is_no_error_worth_a_traceback(bundle: Path) -> None:
    command = [*COMMAND, "--bundle", str(bundle), "--prompt", "x", "--max-tokens", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(30)
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_box_imports_nothing_heavy(bundle: Path, photo: Path) -> None:
    script = (
        "import sys\nfrom appliance.cli import main\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    code = exit.code\n"
        "print(code, sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    arguments = ["generate", "--bundle", str(bundle), "--image", str(photo), "--max-tokens", "5"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    loaded = done.stderr.splitlines()[-1]
    assert loaded.startswith("0 ")
    assert "'onnxruntime'" in loaded
    for name in ("torch", "transformers", "onnx", "safetensors", "flask", "export", "web"):
        assert f"'{name}'" not in loaded


def test_help_imports_no_numpy() -> None:
    script = (
        "import sys\nimport appliance.commands.generate\nsys.exit('numpy' in sys.modules or 'PIL' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_free_text_needs_no_grammar_library(bundle: Path) -> None:
    script = (
        "import sys\nfrom appliance.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nsys.exit('llguidance' in sys.modules)\n"
    )
    arguments = ["generate", "--bundle", str(bundle), "--prompt", "x", "--max-tokens", "2"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0
