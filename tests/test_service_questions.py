"""Jobs outlive their engine: waiting, running once, cancelled at once, never shown as finished when they are not."""

import hashlib
import json
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kiosk_station import WAIT_S, picture
from scripted_engine import ASSESSMENT, RunningEngine, ScriptedModel

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import PromptError
from appliance.service.engine_watch import EngineWatch
from appliance.service.errors import LimitError, NotFoundError
from appliance.service.jobs import FINAL_STATES, Job, JobEvent
from appliance.service.questions import UNUSABLE_WORDS, WAITING_WORDS, Questions
from appliance.types import CapturedImage


class Desk:
    """The questions of a station whose engine a test starts and stops."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        client = EngineClient(EngineAddress(socket=str(socket)))
        self.watch = EngineWatch(client, poll_s=0.02)
        self.questions = Questions(client, self.watch)

    def engine(self, model: ScriptedModel) -> RunningEngine:
        return RunningEngine(model, socket=self.socket)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "engine.sock")
    with desk.watch, desk.questions:
        yield desk


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


def photo(colour: str = "tan") -> CapturedImage:
    content = picture(colour)
    return CapturedImage(
        capture_id=uuid.uuid4().hex,
        encounter_id="e" * 32,
        content=content,
        media_type="image/jpeg",
        sha256=hashlib.sha256(content).hexdigest(),
        captured_at=datetime(2026, 11, 22, tzinfo=UTC),
    )


def wait_until(job: Job, state: str) -> list[JobEvent]:
    """Follow a job until it enters a state, or has an event of that name; return its events so far."""
    seen: list[JobEvent] = []
    while not any(state in (event.name, event.value.get("state")) for event in seen):
        new = list(job.events(seen[-1].event_id if seen else 0, WAIT_S))
        assert new, f"{state} did not come; the job is {job.state}"
        seen += new
    return seen


def shown(job: Job) -> tuple[dict[str, str], str]:
    """Return the rows and the text that stand on the screen."""
    rows: dict[str, str] = {}
    text = ""
    for event in job.events(0, 0):
        if event.name == "reset":
            rows, text = {}, ""
        elif event.name == "finding":
            rows[event.value["name"]] = event.value["words"]
        elif event.name == "text":
            text += event.value["text"]
    return rows, text


def test_assessment_is_constrained_and_told(desk: Desk, model: ScriptedModel) -> None:
    with desk.engine(model):
        job = desk.questions.assess(photo())
        wait_until(job, "done")
        rows, text = shown(job)
        assert rows["border"] == "irregular"
        assert text == ASSESSMENT["description"]
        assert model.generations[0][1].json_schema is not None


def test_kept_photo_is_encoded_before_anybody_asks(desk: Desk, model: ScriptedModel) -> None:
    with desk.engine(model):
        assert desk.watch.wait_ready(WAIT_S)
        image = photo()
        desk.questions.encode(image)
        wait_until(desk.questions.assess(image), "done")
        assert model.encoded == [image.sha256]


def test_job_waits_for_an_absent_engine_and_then_runs_once(desk: Desk, model: ScriptedModel) -> None:
    first, second = desk.questions.assess(photo()), desk.questions.assess(photo("peru"))
    for job in (first, second):
        assert wait_until(job, "waiting")[-1].value["words"] == WAITING_WORDS
    with desk.engine(model):
        for job in (first, second):
            wait_until(job, "done")
    assert len(model.generations) == 2
    assert model.most_running == 1


def test_engine_that_dies_takes_its_words_with_it_and_a_new_one_answers(desk: Desk, model: ScriptedModel) -> None:
    model.hold()
    with desk.engine(model):
        assert desk.watch.wait_ready(WAIT_S)
        job = desk.questions.assess(photo())
        model.release(12)
        wait_until(job, "finding")
    wait_until(job, "waiting")
    assert shown(job) == ({}, "")
    second = ScriptedModel()
    with desk.engine(second):
        wait_until(job, "done")
    assert shown(job)[1] == ASSESSMENT["description"]
    assert len(second.generations) == 1
    states = [event.value["state"] for event in job.events(0, 0) if event.name == "state"]
    assert states.count("done") == 1


def test_cancel_ends_a_run_within_one_token(desk: Desk, model: ScriptedModel) -> None:
    model.hold()
    with desk.engine(model):
        job = desk.questions.assess(photo())
        model.release(6)
        wait_until(job, "running")
        job.cancel()
        wait_until(job, "cancelled")
        wait_idle(model)
        assert model.finish_reasons == ["cancelled"]


def wait_idle(model: ScriptedModel) -> None:
    done = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if model.running == 0 and model.finish_reasons:
            return
        done.wait(0.01)
    raise AssertionError("the run goes on")


def test_cancel_of_what_only_waits_is_immediate(desk: Desk, model: ScriptedModel) -> None:
    absent = desk.questions.assess(photo())
    absent.cancel()
    assert absent.state == "cancelled"
    model.hold()
    with desk.engine(model):
        running = desk.questions.assess(photo())
        model.release(6)
        wait_until(running, "running")
        behind = desk.questions.ask(photo(), "Why?")
        behind.cancel()
        assert behind.state == "cancelled"
        model.let_go()
        wait_until(running, "done")
    assert len(model.generations) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "not JSON",
        '{"quality": "ok"}',
        json.dumps({**ASSESSMENT, "verdict": "100 % benign"}),
        json.dumps({**ASSESSMENT, "border": "no doctor needed"}),
        json.dumps({**ASSESSMENT, "description": "loop " * 200}),
        json.dumps(ASSESSMENT)[:-1],
        json.dumps(ASSESSMENT) * 2,
        json.dumps([ASSESSMENT]),
    ],
)
def test_answer_that_is_no_assessment_is_never_shown_as_one(desk: Desk, model: ScriptedModel, answer: str) -> None:
    model.answer = answer
    with desk.engine(model):
        job = desk.questions.assess(photo())
        assert wait_until(job, "failed")[-1].value["words"] == UNUSABLE_WORDS
        assert shown(job) == ({}, "")


def test_failed_assessment_is_made_again_only_when_asked(desk: Desk, model: ScriptedModel) -> None:
    model.answer = "not JSON"
    with desk.engine(model):
        image = photo()
        failed = desk.questions.assess(image)
        wait_until(failed, "failed")
        assert desk.questions.assess(image) is failed
        model.answer = None
        again = desk.questions.assess(image, again=True)
        wait_until(again, "done")
        assert desk.questions.assess(image, again=True) is again


def test_question_is_one_turn_with_its_photo(desk: Desk, model: ScriptedModel) -> None:
    with desk.engine(model):
        job = desk.questions.ask(photo(), "  Is it\n growing? ")
        wait_until(job, "done")
    (message,), options = model.generations[0]
    assert job.question == "Is it growing?"
    assert len(message.parts) == 2
    assert options.json_schema is None
    assert options.ban_thought


@pytest.mark.parametrize("question", ["", "  \n", "a" * 201])
def test_question_without_words_or_end_is_refused(desk: Desk, question: str) -> None:
    with pytest.raises(PromptError):
        desk.questions.ask(photo(), question)


def test_closed_visit_forgets_its_jobs(desk: Desk) -> None:
    job = desk.questions.assess(photo())
    desk.questions.forget_encounter("e" * 32)
    assert job.state in FINAL_STATES
    with pytest.raises(NotFoundError):
        desk.questions.job(job.job_id)


def test_questions_are_bounded(desk: Desk) -> None:
    outcomes: list[str] = []

    def ask_for_ever() -> None:
        while True:
            outcomes.append(desk.questions.ask(photo(), f"Question {len(outcomes)}?").state)

    with pytest.raises(LimitError):
        ask_for_ever()
    assert outcomes.count("waiting") <= 20
    assert "failed" in outcomes


def test_events_resume_where_a_reader_stopped() -> None:
    job = Job("c" * 32, "e" * 32, None)
    job.enter("running", "Writing…")
    for word in ("one ", "two ", "three"):
        job.tell("text", text=word)
    seen = list(job.events(0, 0))
    assert [event.event_id for event in seen] == [1, 2, 3, 4]
    assert list(job.events(2, 0)) == seen[2:]
    job.enter("done", "Done.")
    job.tell("text", text="too late")
    assert [event.name for event in job.events(4, 0)] == ["state", "end"]


def test_a_photo_that_is_asked_about_from_many_screens_at_once_has_one_assessment(desk: Desk) -> None:
    # Threads change places all the time, so that a look and the act after it come apart wherever they can.
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as screens:
            for _ in range(50):
                image, together = photo(), threading.Barrier(8)

                def ask(_: int, image: CapturedImage = image, together: threading.Barrier = together) -> Job:
                    together.wait(WAIT_S)
                    return desk.questions.assess(image)

                assert len({job.job_id for job in screens.map(ask, range(8))}) == 1
                desk.questions.forget_all()
    finally:
        sys.setswitchinterval(usual_s)
