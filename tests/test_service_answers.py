"""Answers in the records: saved before the screen says so, as what they are, and back after a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_station import WAIT_S, until
from records_boxes import Box, described, new_box
from scripted_engine import ASSESSMENT, RunningEngine, ScriptedModel
from test_service_questions import photo, shown, wait_until

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.records.content import AssessmentContent, CapturedImageContent, EncounterContent, SubjectContent
from appliance.records.errors import DiskFullError
from appliance.records.space import Space
from appliance.records.store import RecordStore
from appliance.service.answers import SAVED_WORDS
from appliance.service.engine_watch import EngineWatch
from appliance.service.errors import LimitError
from appliance.service.questions import Questions
from appliance.service.record_answers import RecordAnswers
from appliance.types import CapturedImage


class Desk:
    """The questions of a station with records, about one kept photo."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "engine.sock"
        self.box: Box = new_box(folder / "records")
        self.image: CapturedImage = photo()
        subject = self.box.store.add(SubjectContent(pseudonym="x"), None).record_ids[0]
        self.box.store.add(EncounterContent(), None, subject_id=subject, record_id=self.image.encounter_id)
        self.box.store.add(
            described(self.image.content),
            None,
            encounter_id=self.image.encounter_id,
            record_id=self.image.capture_id,
            photo=self.image.content,
        )

    def questions(self) -> tuple[EngineWatch, Questions]:
        client = EngineClient(EngineAddress(socket=str(self.socket)))
        watch = EngineWatch(client, poll_s=0.02)
        return watch, Questions(client, watch, RecordAnswers(lambda: self.box.store))

    def stored(self) -> list[AssessmentContent]:
        found = self.box.store.of(AssessmentContent, encounter_id=self.image.encounter_id)
        assert all(record.parents["capture_id"] == self.image.capture_id for record in found)
        return [record.content for record in found]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.box.store.close()


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def questions(desk: Desk, model: ScriptedModel) -> Iterator[Questions]:
    watch, made = desk.questions()
    with RunningEngine(model, socket=desk.socket), watch, made:
        assert watch.wait_ready(WAIT_S)
        yield made


def test_done_means_saved_with_all_that_it_came_from(desk: Desk, questions: Questions) -> None:
    job = questions.assess(desk.image, asked_by="f" * 32)
    assert wait_until(job, "end")[-1].value["words"] == SAVED_WORDS
    (content,) = desk.stored()
    assert content.status == "final"
    assert content.statement["border"] == ASSESSMENT["border"]
    assert content.capture_sha256 == desk.image.sha256
    name, digest = content.model.split()
    assert name == "scripted"
    assert len(digest) == 64
    assert content.providers == ("CPUExecutionProvider",)
    assert content.asked_by == "f" * 32


def test_answer_to_a_question_is_saved_beside_the_assessment(desk: Desk, questions: Questions) -> None:
    wait_until(questions.assess(desk.image), "end")
    wait_until(questions.ask(desk.image, "How large is it?"), "end")
    assert [content.question for content in desk.stored()] == ["", "How large is it?"]


def test_unusable_answer_is_saved_as_that_and_states_nothing(
    desk: Desk, model: ScriptedModel, questions: Questions
) -> None:
    model.answer = '{"quality": "ok", "verdict": "benign"}'
    wait_until(questions.assess(desk.image), "end")
    until(lambda: bool(desk.stored()))
    (content,) = desk.stored()
    assert (content.status, content.statement) == ("unusable", {})
    assert "benign" in content.raw_text
    assert "not usable" in content.told
    assert RecordAnswers(lambda: desk.box.store).of_capture(desk.image.encounter_id, desk.image.capture_id) == ()


def test_cancelled_answer_is_saved_as_far_as_it_came(desk: Desk, model: ScriptedModel, questions: Questions) -> None:
    model.hold()
    job = questions.assess(desk.image)
    # A step for the photo, the others for pieces of the text.
    model.release(8)
    wait_until(job, "finding")
    job.cancel()
    model.let_go()
    wait_until(job, "end")
    until(lambda: bool(desk.stored()))
    (content,) = desk.stored()
    assert content.status == "cancelled"
    assert content.raw_text.startswith("{")
    assert content.statement == {}


def test_full_disk_stops_answers_before_photos(
    desk: Desk, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordStore, "space", lambda _: Space(free_bytes=400_000_000))
    with pytest.raises(LimitError, match="Photos come first"):
        questions.assess(desk.image)
    assert desk.stored() == []


def test_answer_that_cannot_be_saved_is_not_called_saved(
    desk: Desk, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskFullError("The disk is full; this was not saved.")

    monkeypatch.setattr(RecordStore, "add_all", full)
    words = wait_until(questions.assess(desk.image), "end")[-1].value["words"]
    assert words == "Done. The disk is full; this was not saved."


def test_answers_come_back_after_a_restart_and_the_model_is_not_asked_again(
    desk: Desk, model: ScriptedModel, questions: Questions
) -> None:
    first = questions.assess(desk.image)
    wait_until(first, "end")
    wait_until(questions.ask(desk.image, "How large is it?"), "end")
    asked = len(model.generations)
    desk.box = desk.box.reopen()
    watch, again = desk.questions()
    with watch, again:
        job = again.assess(desk.image)
        assert job.state == "done"
        assert shown(job) == shown(first)
        assert [one.question for one in again.follow_ups(desk.image)] == ["How large is it?"]
    assert len(model.generations) == asked


def test_photo_of_the_answer_is_the_one_that_was_kept(desk: Desk) -> None:
    (record,) = desk.box.store.of(CapturedImageContent, encounter_id=desk.image.encounter_id)
    assert record.content.sha256 == desk.image.sha256
