"""Golden answers: recorded once, compared at every start, and what happens to a model that answers otherwise."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from medgemma_bundles import Exported, export_random
from scripted_engine import RunningEngine, ScriptedModel
from test_engine_client import GREEDY, user
from test_engine_openai import picture

from appliance.commands.selftest import selftest
from appliance.demo import bundle_path
from appliance.errors import BundleError, EngineUnavailableError
from appliance.medgemma.bundle import MANIFEST_NAME, Manifest, load_bundle, manifest_to_json
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.file_record import file_record
from appliance.medgemma.generation import Generation, Piece
from appliance.medgemma.self_test import SelfTestError, check_golden_answers
from appliance.service.engine_watch import EngineWatch
from export.errors import CheckpointError
from export.golden import record_golden_answers

ONE_THREAD = RuntimeOptions(threads=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path(), tmp_path / "bundle"))


def damage(bundle: Path, name: str) -> None:
    """Change a weight file and say so in the manifest, as a wrong export would: no digest gives it away."""
    content = np.frombuffer((bundle / name).read_bytes(), np.uint8).copy()
    content[: len(content) // 2] ^= 0x5A
    (bundle / name).write_bytes(content.tobytes())
    manifest = load_manifest(bundle)
    files = {**manifest.files, name: file_record(bundle / name)}
    (bundle / MANIFEST_NAME).write_bytes(manifest_to_json(msgspec.structs.replace(manifest, files=files)))


def load_manifest(bundle: Path) -> Manifest:
    return msgspec.json.decode((bundle / MANIFEST_NAME).read_bytes(), type=Manifest)


def test_the_shipped_bundle_passes_with_any_number_of_threads() -> None:
    for threads in (1, 2, 3):
        with MedGemma.load(bundle_path(), RuntimeOptions(threads=threads)) as model:
            assert model.self_test() == 2


@pytest.mark.parametrize("name", ["decoder.onnx.data", "vision.onnx.data", "embedding.onnx.data"])
def test_any_part_that_is_wrong_is_noticed(bundle: Path, name: str) -> None:
    damage(bundle, name)
    with MedGemma.load(bundle, ONE_THREAD) as model, pytest.raises(SelfTestError, match="golden answer"):
        model.self_test()


def test_the_picture_of_a_golden_answer_is_one_of_the_bundles_files(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    names = {answer.image_file for answer in manifest.golden_answers} - {None}
    assert names <= manifest.files.keys()
    files = {name: record for name, record in manifest.files.items() if name not in names}
    (bundle / MANIFEST_NAME).write_bytes(manifest_to_json(msgspec.structs.replace(manifest, files=files)))
    with pytest.raises(BundleError, match="does not list it"):
        load_bundle(bundle)


def test_recording_again_replaces_what_was_recorded(bundle: Path) -> None:
    first = load_bundle(bundle).manifest
    found = record_golden_answers(bundle)
    again = load_bundle(bundle).manifest
    assert again.golden_answers == found == first.golden_answers
    assert again.files == first.files


def test_a_model_that_is_sure_of_nothing_gets_no_golden_answers(tmp_path: Path) -> None:
    exported: Exported = export_random(tmp_path, seed=3, vision=False)
    with pytest.raises(CheckpointError, match="not sure of any token"):
        record_golden_answers(exported.bundle)
    with MedGemma.load(exported.bundle, ONE_THREAD) as model:  # and the bundle is as whole as before
        assert check_golden_answers(model) == 0
    result = CliRunner().invoke(selftest, ["--bundle", str(exported.bundle), "--threads", "1"])
    assert str(result.exception) == "The bundle of random carries no golden answers, so nothing was compared."


def test_the_command_says_what_was_compared(bundle: Path) -> None:
    result = CliRunner().invoke(selftest, ["--bundle", str(bundle), "--threads", "1"])
    assert result.output == (
        "dermstation-demo says what it said when it was made: 2 golden answers compared on CPUExecutionProvider.\n"
    )


@pytest.fixture
def model() -> ScriptedModel:
    model = ScriptedModel()
    model.golden_answers = 2
    return model


@pytest.fixture
def engine(model: ScriptedModel) -> Iterator[RunningEngine]:
    model.may_end_self_test.clear()
    with RunningEngine(model) as running:
        assert running.service.host.wait(5)
        try:
            yield running
        finally:
            model.may_end_self_test.set()


def wait_for(engine: RunningEngine, self_test: str) -> None:
    until_s = time.monotonic() + 5
    while engine.client.health().self_test != self_test and time.monotonic() < until_s:
        time.sleep(0.01)
    assert engine.client.health().self_test == self_test


def test_no_question_is_answered_before_the_self_test_has_passed(engine: RunningEngine, model: ScriptedModel) -> None:
    answers: list[object] = []

    def ask() -> None:
        with engine.client.generate(user("hello"), GREEDY) as stream:
            answers.extend(stream)

    wait_for(engine, "running")
    assert engine.client.health().status == "ready"
    asker = threading.Thread(target=ask)
    asker.start()
    asker.join(0.3)
    assert asker.is_alive()
    assert not any(isinstance(answer, Piece | Generation) for answer in answers)  # only the place in the queue
    model.may_end_self_test.set()
    asker.join(5)
    assert isinstance(answers[-1], Generation)
    wait_for(engine, "passed")


def test_a_model_that_fails_is_off_and_says_why(engine: RunningEngine, model: ScriptedModel) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            with engine.client.generate(user("hello"), GREEDY) as stream:
                list(stream)
        except EngineUnavailableError as error:
            failures.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    while engine.client.health().queue.waiting == 0:
        time.sleep(0.01)
    model.self_test_error = SelfTestError("The model does not answer as it did when it was made, so it is off.")
    model.may_end_self_test.set()
    asker.join(5)
    health = engine.client.health()
    assert (health.status, health.self_test, health.model) == ("failed", "failed", None)
    assert "does not answer as it did" in str(failures[0])
    with pytest.raises(EngineUnavailableError, match="does not answer as it did"):
        engine.client.generate(user("hello"), GREEDY)
    assert model.is_closed


def test_photos_are_read_ahead_and_forgotten(model: ScriptedModel) -> None:
    content = picture()
    with RunningEngine(model) as engine:
        assert engine.service.host.wait(5)
        encoded = engine.client.encode_image(content)
        assert encoded.read_ahead_tokens == encoded.tokens
        assert model.read == [encoded.sha256]
        engine.client.forget_images()
        assert (model.forgotten, model.read, model.encoded) == (1, [], [])
        answer = httpx.delete(f"http://{engine.address.authority}/v1/images")
        assert answer.json() == {"object": "images.deleted", "deleted": True}


def test_the_station_says_that_the_model_is_checking_itself(engine: RunningEngine, model: ScriptedModel) -> None:
    wait_for(engine, "running")
    with EngineWatch(engine.client, poll_s=0.02) as watch:
        assert watch.wait_ready(5)
        assert watch.status.words == "Model is checking itself"
        model.may_end_self_test.set()
        wait_for(engine, "passed")
        until_s = time.monotonic() + 5
        while watch.status.words != "Model ready" and time.monotonic() < until_s:
            time.sleep(0.01)
        assert (watch.status.state, watch.status.words) == ("ready", "Model ready")
