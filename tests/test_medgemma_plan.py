"""The memory plan: what it gives up first, what it refuses, and whether its figures hold on this machine."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from appliance.demo import bundle_path, pictures_path
from appliance.errors import EngineUnavailableError
from appliance.medgemma.bundle import Manifest, load_bundle
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.file_record import FileRecord
from appliance.medgemma.plan import TowerRuntime, _control_group_bytes, available_bytes, plan_memory
from appliance.medgemma.spec import VisionSpec

GB = 1_000_000_000


def manifest_4b() -> Manifest:
    """Describe a bundle of MedGemma 1.5 4B's shape without having one: sizes as the exporter writes them."""
    demo = load_bundle(bundle_path()).manifest
    text = msgspec.structs.replace(
        demo.architecture.text,
        vocab_size=262_208,
        hidden_size=2560,
        intermediate_size=10_240,
        num_hidden_layers=34,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        layer_types=tuple("full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(34)),
        sliding_window=1024,
        max_position_embeddings=131_072,
    )
    vision = msgspec.structs.replace(
        vision_of(demo),
        image_size=896,
        patch_size=14,
        hidden_size=1152,
        intermediate_size=4304,
        mm_tokens_per_image=256,
    )
    sizes = {
        "decoder.onnx.data": 1_804_861_440,
        "embedding.onnx.data": 692_229_120,
        "vision.onnx.data": 450_406_400,
        "tokenizer.json": 33_384_568,
    }
    files = {name: FileRecord(size_bytes=size, sha256="0" * 64) for name, size in sizes.items()}
    architecture = msgspec.structs.replace(demo.architecture, text=text, vision=vision)
    return msgspec.structs.replace(demo, name="medgemma-4b", architecture=architecture, files={**demo.files, **files})


def vision_of(manifest: Manifest) -> VisionSpec:
    assert manifest.architecture.vision is not None
    return manifest.architecture.vision


def test_with_room_nothing_is_given_up() -> None:
    plan = plan_memory(manifest_4b(), 16 * GB)
    assert (plan.context_length, plan.keeps_vision) == (4096, True)
    assert plan.prefix_bytes == 4 * (256 + 16) * 34 * 2 * 4 * 256  # four photos with their marks, a byte a value
    assert plan.sentence == (
        f"The model needs {plan.peak_bytes / 1e9:.1f} GB of memory at most of 16.0 GB that are free: "
        "4096 tokens of context, the vision tower stays open."
    )


def test_less_memory_gives_up_more_and_never_promises_what_is_not_there() -> None:
    worth = []
    for available in range(7 * GB, 2 * GB, -GB // 100):
        try:
            plan = plan_memory(manifest_4b(), available)
        except EngineUnavailableError:
            worth.append((0, False, 0))
            continue
        assert plan.peak_bytes <= available
        worth.append((plan.context_length, plan.keeps_vision, plan.prefix_bytes))
    assert worth == sorted(worth, reverse=True)
    assert {length for length, _, _ in worth} == {4096, 2048, 1024, 0}
    assert (1024, False, 0) in worth


def test_openvinos_tower_takes_more_and_goes_before_the_context() -> None:
    both: tuple[TowerRuntime, ...] = ("openvino", "onnxruntime")
    ample = plan_memory(manifest_4b(), 16 * GB, towers=both)
    assert (ample.tower, ample.context_length) == ("openvino", 4096)
    other = plan_memory(manifest_4b(), 16 * GB, towers=both[1:])
    assert other.tower == "onnxruntime"
    assert 0 < ample.peak_bytes - other.peak_bytes < GB // 4
    assert GB // 4 < ample.resident_bytes - other.resident_bytes < GB
    least = plan_memory(manifest_4b(), None, context_length=1024, towers=both[1:]).peak_bytes
    found = [plan_memory(manifest_4b(), available, towers=both) for available in range(7 * GB, least, -GB // 100)]
    assert {(plan.tower, plan.keeps_vision) for plan in found if plan.context_length == 4096} == {
        (tower, keeps) for tower in both for keeps in (True, False)
    }
    with pytest.raises(EngineUnavailableError) as with_both:
        plan_memory(manifest_4b(), GB, towers=both)
    with pytest.raises(EngineUnavailableError) as with_one:
        plan_memory(manifest_4b(), GB)
    assert str(with_both.value) == str(with_one.value)


def test_a_context_that_was_asked_for_is_not_cut() -> None:
    assert plan_memory(manifest_4b(), 16 * GB, context_length=32_768).context_length == 32_768
    with pytest.raises(
        EngineUnavailableError, match=r"at least 4\.[34] GB of memory with 32768 tokens of context; 4\.2 GB"
    ):
        plan_memory(manifest_4b(), 42 * GB // 10, context_length=32_768)


def test_too_little_memory_is_refused_before_anything_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.medgemma.engine.open_parts", lambda *_: pytest.fail("something was opened"))
    with pytest.raises(EngineUnavailableError, match=r"needs at least 0\.. GB .*; 0\.0 GB are free"):
        MedGemma.load(bundle_path(), RuntimeOptions(threads=1, available_bytes=1 << 20))


def test_a_closed_vision_tower_gives_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = min(pictures_path().glob("*.jpg")).read_bytes()
    features = []
    for keeps_vision in (True, False):
        plan = replace(plan_memory(load_bundle(bundle_path()).manifest, None), keeps_vision=keeps_vision)
        monkeypatch.setattr("appliance.medgemma.engine.plan_memory", lambda *_, plan=plan, **__: plan)
        with MedGemma.load(bundle_path(), RuntimeOptions(threads=1, feature_cache_images=0)) as model:
            features += [model.encode_image(photo).values, model.encode_image(photo).values]
    assert all((one == features[0]).all() for one in features)


def test_the_plan_for_the_demonstration_holds() -> None:
    """In a process of its own: the plan's peak is not below the truth, nor more than twice it."""
    script = """
import io
from pathlib import Path
from appliance.demo import bundle_path, pictures_path
from appliance.assessment import ASSESSMENT_SCHEMA
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import GenerationOptions, ImagePart, Message, TextPart
with MedGemma.load(bundle_path(), RuntimeOptions(threads=1)) as model:
    for path in sorted(pictures_path().glob("*.jpg"))[:3]:
        message = Message(role="user", parts=(ImagePart(content=path.read_bytes()), TextPart(text="lesion " * 900)))
        list(model.generate([message], GenerationOptions(max_tokens=64, json_schema=ASSESSMENT_SCHEMA)))
    status = Path("/proc/self/status").read_text()
    print(model.plan.peak_bytes, int(status.split("VmHWM:")[1].split()[0]) << 10)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    planned, found = map(int, output.split())
    assert found <= planned < found * 2


def test_memory_limits_of_control_groups_count(tmp_path: Path) -> None:
    (tmp_path / "proc").write_text("0::/clinic/engine\n")
    group = tmp_path / "cgroup" / "clinic" / "engine"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 7), (group.parent, "5000", 1200)):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 900\ninactive_file 200\n")
    assert list(_control_group_bytes(tmp_path / "cgroup", tmp_path / "proc")) == [4000]


def test_this_machine_has_memory() -> None:
    available = available_bytes()
    assert available is not None
    assert available > 1 << 20
