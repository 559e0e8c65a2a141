"""The real command: exit codes, one sentence each, and no half bundle whatever happens to it."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import make_checkpoint

from appliance.medgemma.bundle import MANIFEST_NAME, load_bundle
from export.hub import locate_checkpoint

COMMAND = [str(Path(sys.executable).with_name("dermstation")), "export"]
MODULE = [sys.executable, "-m", "export"]


def run(*arguments: Any, command: list[str] = COMMAND, limit_bytes: int = 0, **environment: str) -> Any:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        preexec_fn=limit if limit_bytes else None,
    )


def sentence_of(done: Any) -> str:
    """Return stderr after checking that it is one clean sentence and nothing else."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("dermstation: ")
    assert line.endswith((".", ")"))
    return str(line)


def bundles_in(folder: Path) -> list[Path]:
    return list(folder.rglob(MANIFEST_NAME))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("command") / "tiny")


@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["dermstation export", "python -m export"])
def test_command_makes_a_bundle_and_prints_its_place(tmp_path: Path, checkpoint: Path, command: list[str]) -> None:
    done = run(checkpoint, "-o", tmp_path / "bundle", "--decoder", "int8", "--name", "tiny one", command=command)

    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "bundle"))
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert (manifest.name, manifest.precision.decoder) == ("tiny one", "int8")


def test_export_needs_neither_torch_nor_transformers_nor_onnxruntime(tmp_path: Path, checkpoint: Path) -> None:
    code = (
        "import sys; from export.cli import export\n"
        f"export([{str(checkpoint)!r}, '-o', {str(tmp_path / 'bundle')!r}], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'onnxruntime', 'optimum'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def damage(folder: Path, kind: str) -> None:
    path = folder / "model.safetensors"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "missing weights":
        path.unlink()
    elif kind == "other architecture":
        (folder / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    elif kind == "wrong shape":
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 88'))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "is truncated: the tensor "),
        ("missing weights", "only safetensors are read"),
        ("other architecture", "architecture Qwen3ForCausalLM is not supported"),
        ("wrong shape", "mlp.gate_proj.weight has shape [96, 64]; the configuration wants [88, 64]"),
    ],
)
@pytest.mark.parametrize("command", [COMMAND, MODULE], ids=["dermstation export", "python -m export"])
def test_bad_checkpoint_is_one_sentence(tmp_path: Path, kind: str, words: str, command: list[str]) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    damage(folder, kind)

    done = run(folder, "-o", tmp_path / "bundle", command=command)

    assert done.returncode == 65
    assert words in sentence_of(done)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_file_size_limit_is_one_sentence_with_the_tensor(tmp_path: Path, checkpoint: Path) -> None:
    done = run(checkpoint, "-o", tmp_path / "bundle", limit_bytes=40_000)

    assert done.returncode == 74
    assert "full or the file too large" in sentence_of(done)
    assert "at the tensor layers." in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size_bytes", [16_384, 65_536, 131_072])
def test_full_disk_is_one_sentence_and_leaves_it_empty(tmp_path: Path, checkpoint: Path, size_bytes: int) -> None:
    with small_disk(tmp_path / "disk", size_bytes) as disk:
        done = run(checkpoint, "-o", disk / "bundle")

        assert done.returncode == 74
        assert "disk" in sentence_of(done)
        assert list(disk.iterdir()) == []


def large_checkpoint(folder: Path) -> Path:
    """Write one whose export takes long enough to be ended in the middle."""
    sizes: dict[str, Any] = {"layers": 8, "hidden_size": 512, "intermediate_size": 2048}
    return make_checkpoint(folder, dtype="bfloat16", vision=False, **sizes)


def test_killed_export_leaves_no_bundle_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    folder = large_checkpoint(tmp_path / "checkpoint")
    target = tmp_path / "out" / "bundle"
    process = subprocess.Popen([*COMMAND, str(folder), "-o", str(target)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/decoder.onnx.data")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)

    assert process.wait() == -signal.SIGKILL
    assert [path.name.partition(".partial-")[0] for path in target.parent.iterdir()] == ["bundle"]
    assert not target.exists()
    assert bundles_in(tmp_path) == []
    assert run(folder, "-o", target).returncode == 0
    assert list(target.parent.iterdir()) == [target]


def test_interrupted_export_cleans_up_itself(tmp_path: Path) -> None:
    folder = large_checkpoint(tmp_path / "checkpoint")
    # A suite that a shell started in the background inherits an ignored SIGINT, and would hand it down.
    command = ["env", "--default-signal=INT", *COMMAND, str(folder), "-o", str(tmp_path / "out" / "bundle")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*/decoder.onnx.data")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []


def test_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    arguments = ("google/medgemma-1.5-4b-it", "-o", tmp_path / "bundle")

    done = run(*arguments, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "cache"), HF_HUB_OFFLINE="0")

    assert done.returncode == 69
    assert "hub cannot be reached" in sentence_of(done)
    assert "accept the licence at" in done.stderr
    assert "HF_TOKEN" in done.stderr


def test_offline_mode_says_so(tmp_path: Path) -> None:
    done = run("google/gemma", "-o", tmp_path / "bundle", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))

    assert done.returncode == 69
    assert "HF_HUB_OFFLINE is set" in sentence_of(done)


@pytest.mark.parametrize(
    "arguments", [[], ["checkpoint"], ["--verify", "bundle"], ["x", "-o", "y", "--verify", "z", "--reference", "w"]]
)
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert "Usage" in done.stderr


def test_neither_folder_nor_hub_id_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing", "-o", tmp_path / "bundle")

    assert done.returncode == 65
    assert "not a hub id" in sentence_of(done)


def test_cached_hub_folder_knows_its_id_and_revision(tmp_path: Path) -> None:
    folder = tmp_path / "models--google--medgemma-1.5-4b-it" / "snapshots" / ("0123456789" * 4)
    folder.mkdir(parents=True)

    found = locate_checkpoint(str(folder))

    assert (found.name, found.revision) == ("google/medgemma-1.5-4b-it", "0123456789" * 4)


def test_verify_by_command(tmp_path: Path, checkpoint: Path) -> None:
    bundle = tmp_path / "bundle"
    exact = ["--decoder", "float32", "--embedding", "float32", "--vision", "float32"]
    assert run(checkpoint, "-o", bundle, *exact).returncode == 0

    done = run("--verify", bundle, "--reference", checkpoint, "--pictures", 1)
    other = run("--verify", bundle, "--reference", make_checkpoint(tmp_path / "other", seed=9))

    assert done.returncode == 0, done.stderr
    assert "two images: logits differ by" in done.stdout
    assert other.returncode == 1
    assert "does not agree with" in sentence_of(other)
    parity = load_bundle(bundle).manifest.parity
    assert parity is not None
    assert parity["passed"] is False
