"""Damaged, foreign and hostile bundles: each refused with one sentence, before ONNX Runtime is even imported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from medgemma_bundles import export_random

from appliance.errors import BundleError
from appliance.medgemma.bundle import load_bundle
from appliance.medgemma.engine import MedGemma

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_random(tmp_path_factory.mktemp("whole")).bundle


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def listed(bundle: Path) -> list[str]:
    return sorted(json.loads((bundle / "bundle.json").read_text())["files"])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path, kind: Callable[[Path, Path], object]) -> None:
    """Replace a file by a link to an equal one outside the bundle."""
    elsewhere = path.parent.parent / "elsewhere"
    shutil.move(path, elsewhere)
    kind(elsewhere, path)


def instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Damage, str]] = {
    "extra file": (lambda bundle: (bundle / "run.sh").write_text("x"), "holds run.sh"),
    "extra hidden file": (lambda bundle: (bundle / ".hidden").write_text(""), "holds .hidden"),
    "extra folder": (lambda bundle: (bundle / "more").mkdir(), "holds more"),
    "no manifest": (lambda bundle: (bundle / "bundle.json").unlink(), "bundle.json is missing"),
    "manifest is no text": (
        lambda bundle: (bundle / "bundle.json").write_bytes(b'{"name": "\xff"}'),
        "not a bundle description",
    ),
    "manifest is no JSON": (lambda bundle: (bundle / "bundle.json").write_text("{"), "not a bundle description"),
    "manifest is huge": (lambda bundle: (bundle / "bundle.json").write_bytes(b" " * (5 << 20)), "larger than"),
    "manifest is a folder": (
        lambda bundle: instead(bundle / "bundle.json", Path.mkdir),
        "cannot be read",
    ),
    "unknown key": (lambda bundle: edit(bundle, lambda m: m.update(more=1)), "not a bundle description"),
    "missing key": (lambda bundle: edit(bundle, lambda m: m.pop("licence")), "not a bundle description"),
    "other format": (lambda bundle: edit(bundle, lambda m: m.update(schema_version=99)), "format 99"),
    # Said before anything that such a format lacks.
    "older format": (
        lambda bundle: edit(bundle, lambda m: (m.update(schema_version=3), m["precision"].pop("cache"))),
        "format 3; this version reads 4: export it again",
    ),
    "no format": (lambda bundle: edit(bundle, lambda m: m.pop("schema_version")), "not a bundle description"),
    "unlisted graph": (
        lambda bundle: edit(bundle, lambda m: m["graphs"].update(decoder="/etc/passwd")),
        "does not list it",
    ),
    "no decoder": (lambda bundle: edit(bundle, lambda m: m["graphs"].pop("decoder")), "no decoder graph"),
    "path out of the bundle": (
        lambda bundle: edit(bundle, lambda m: m["files"].update({"../x": {"size_bytes": 0, "sha256": ""}})),
        "not a plain file name",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_bundle_is_refused(bundle: Path, name: str) -> None:
    damage, sentence = DAMAGE[name]
    damage(bundle)
    with pytest.raises(BundleError, match=sentence) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


FILE_DAMAGE: dict[str, tuple[Damage, str]] = {
    "flipped": (flip, "has changed"),
    "missing": (Path.unlink, "is missing"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "bytes instead of"),
    "shorter": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes instead of"),
    "symbolic link": (lambda path: link(path, lambda old, new: new.symlink_to(old)), "is a link"),
    "hard link": (lambda path: link(path, os.link), "is a link"),
    "folder": (lambda path: instead(path, Path.mkdir), "no file of its own"),
    "pipe": (lambda path: instead(path, os.mkfifo), "no file of its own"),
    "device": (lambda path: instead(path, lambda name: name.symlink_to("/dev/zero")), "is a link"),
}


@pytest.mark.parametrize("name", FILE_DAMAGE)
def test_each_file_is_checked(whole: Path, tmp_path: Path, name: str) -> None:
    damage, sentence = FILE_DAMAGE[name]
    for number, file in enumerate(listed(whole)):
        bundle = Path(shutil.copytree(whole, tmp_path / str(number) / "bundle"))
        damage(bundle / file)
        with pytest.raises(BundleError, match=sentence) as caught:
            load_bundle(bundle)
        assert file in str(caught.value)


def test_whole_bundle_is_loaded_and_named_by_its_digest(whole: Path) -> None:
    first, second = load_bundle(whole), load_bundle(whole)
    assert first.sha256 == second.sha256
    assert len(first.sha256) == 64
    assert first.tokenizer_path.is_file()


def test_text_only_bundle_has_no_vision_graph(tmp_path: Path) -> None:
    bundle = load_bundle(export_random(tmp_path, vision=False).bundle)
    with pytest.raises(BundleError, match="no vision graph"):
        bundle.graph_path("vision")


def test_damaged_bundle_never_reaches_onnx_runtime(bundle: Path) -> None:
    flip(bundle / "decoder.onnx")
    script = (
        "import sys\nfrom pathlib import Path\nfrom appliance.errors import BundleError\n"
        "from appliance.medgemma.engine import MedGemma\n"
        "try:\n    MedGemma.load(Path(sys.argv[1]))\n"
        "except BundleError:\n    sys.exit('onnxruntime' in sys.modules)\n"
        "sys.exit('it was loaded')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("file", ["decoder.onnx", "tokenizer.json"])
def test_file_that_is_listed_but_nonsense_is_a_bundle_error(bundle: Path, file: str) -> None:
    """A bundle may be whole and still not a model, if someone made it so."""
    (bundle / file).write_bytes(b"nonsense")
    from appliance.medgemma.file_record import file_record

    record = file_record(bundle / file)
    edit(bundle, lambda m: m["files"].update({file: {"size_bytes": record.size_bytes, "sha256": record.sha256}}))
    with pytest.raises(BundleError) as caught:
        MedGemma.load(bundle)
    assert "\n" not in str(caught.value)
