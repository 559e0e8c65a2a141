"""The engine's corners: what a stream says while it waits, and how jobs, models and connections end early."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from scripted_engine import TOKENS_PER_IMAGE, RunningEngine, ScriptedModel
from test_engine_client import GREEDY, PROMPTLY_S, first_piece, user, wait_until
from test_engine_hostile import CHAT, question
from test_engine_openai import picture

import web.engine.service
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import EngineUnavailableError, PromptError
from appliance.medgemma.generation import Piece
from web.engine.job_queue import JobQueue, QueueFullError
from web.engine.jobs import AnswerJob, EncodingJob, Event, Failed, Job, Started
from web.engine.limits import EngineLimits
from web.engine.listening import listening_socket
from web.engine.model_host import ModelHost

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def engine(model: ScriptedModel) -> Iterator[RunningEngine]:
    with RunningEngine(model, limits=EngineLimits(queue_limit=2, max_body_bytes=100_000)) as running:
        assert running.service.host.wait(5)
        yield running


@pytest.fixture
def client(engine: RunningEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{engine.address.authority}", timeout=PROMPTLY_S) as opened:
        yield opened


def test_a_stream_says_how_many_wait_and_then_that_it_works(
    engine: RunningEngine, client: httpx.Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.engine.service, "KEEPALIVE_S", 0.01)
    model.hold()
    with (
        engine.client.generate(user("a"), GREEDY) as first,
        client.stream("POST", CHAT, json=question("b c", stream=True)) as second,
    ):
        lines = second.iter_lines()
        assert next(line for line in lines if line) == ": waiting, 1 before you"
        model.release()
        list(first)
        assert next(line for line in lines if line == ": working")
        model.release()
        assert next(line for line in lines if '"b"' in line)
        model.let_go()
        assert "data: [DONE]" in list(lines)


def test_the_openai_client_waits_its_turn_in_a_stream(engine: RunningEngine, model: ScriptedModel) -> None:
    model.hold()
    with (
        openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0, timeout=PROMPTLY_S) as other,
        engine.client.generate(user("a"), GREEDY) as first,
    ):
        second = other.chat.completions.create(
            model="dermstation", messages=[{"role": "user", "content": "b c"}], stream=True
        )
        wait_until(lambda: engine.client.health().queue.waiting == 1)
        with (
            engine.client.generate(user("d"), GREEDY),
            pytest.raises(openai.RateLimitError, match="2 requests") as full,
        ):
            other.chat.completions.create(model="dermstation", messages=[{"role": "user", "content": "e"}])
        assert full.value.response.headers["Retry-After"] == "5"
        model.let_go()
        list(first)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in second) == "b c"


def test_the_queue_can_be_asked_alone(engine: RunningEngine, client: httpx.Client, model: ScriptedModel) -> None:
    model.hold()
    with engine.client.generate(user("a"), GREEDY):
        wait_until(lambda: client.get("/v1/queue").json() == {"running": 1, "waiting": 0, "limit": 2})


def test_who_leaves_a_whole_answer_cancels_it_too(
    engine: RunningEngine, client: httpx.Client, model: ScriptedModel
) -> None:
    model.hold()
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=question("a b"), timeout=0.2)
    wait_until(lambda: model.finish_reasons == ["cancelled"])


def test_a_photo_waits_its_turn_behind_an_answer(engine: RunningEngine, model: ScriptedModel) -> None:
    model.hold()
    done = threading.Event()

    def encode() -> None:
        assert engine.client.encode_image(picture()).tokens == TOKENS_PER_IMAGE
        done.set()

    with engine.client.generate(user("a b"), GREEDY) as stream:
        thread = threading.Thread(target=encode)
        thread.start()
        wait_until(lambda: engine.client.health().queue.waiting == 1)
        model.release(1)
        assert first_piece(stream).text == "a"
        assert model.encoded == []
        model.let_go()
        list(stream)
    assert done.wait(PROMPTLY_S)
    thread.join()


def test_who_stops_waiting_for_a_photo_frees_the_place(
    engine: RunningEngine, client: httpx.Client, model: ScriptedModel
) -> None:
    model.hold()
    with engine.client.generate(user("a"), GREEDY):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/images", content=picture(), headers=JPEG, timeout=0.2)
        wait_until(lambda: engine.client.health().queue.waiting == 0)
    assert model.encoded == []


def test_a_text_only_model_refuses_photos() -> None:
    with RunningEngine(ScriptedModel(takes_images=False)) as engine:
        assert engine.service.host.wait(5)
        with pytest.raises(PromptError, match="text only"):
            engine.client.generate(user("a", picture()), GREEDY)
        answer = httpx.post(f"{engine.url}/images", content=picture(), headers=JPEG)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")
        health = engine.client.health()
        assert health.model is not None
        assert not health.model.takes_images


def test_a_body_that_is_too_large_is_a_sentence_to_our_client_too(engine: RunningEngine) -> None:
    with pytest.raises(PromptError, match="Request Entity Too Large"):
        engine.client.generate(user("x" * 3_000_000), GREEDY)


def test_data_uris_take_plain_base64_only(client: httpx.Client) -> None:
    data = base64.b64encode(picture()).decode()
    for uri in (f"data:image/jpeg;base64,{data}\n", f"data:image/jpeg,{data}", f"DATA:image/jpeg;base64,{data}"):
        content = [{"type": "image_url", "image_url": {"url": uri}}]
        answer = client.post(CHAT, json={"model": "dermstation", "messages": [{"role": "user", "content": content}]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


def test_ipv6_loopback_works() -> None:
    try:
        listener, address = listening_socket(EngineAddress(host="::1"))
    except Exception as error:  # noqa: BLE001 - a kernel without IPv6 says so in its own words
        pytest.skip(str(error))
    with listener:
        assert str(address) == f"http://[::1]:{listener.getsockname()[1]}"


def test_a_model_that_arrives_after_the_end_is_freed(model: ScriptedModel) -> None:
    arrives = threading.Event()

    def load() -> ScriptedModel:
        assert arrives.wait(PROMPTLY_S)
        return model

    host = ModelHost(load)
    host.start()
    host.close()
    arrives.set()
    assert host.wait(PROMPTLY_S)
    assert model.is_closed
    with pytest.raises(EngineUnavailableError):
        host.require()


def test_closing_the_queue_gives_every_job_an_end_and_takes_no_more(model: ScriptedModel) -> None:
    queue = JobQueue(2, deadline_s=1)
    queue.start()
    model.hold()
    jobs: list[Job] = [AnswerJob("a", model, user("a"), GREEDY, 1), EncodingJob("b", model, picture())]
    for job in jobs:
        queue.submit(job)
    wait_until(lambda: model.running == 1)
    assert queue.close()
    ends = [events_of(job)[-1] for job in jobs]
    assert getattr(ends[0], "finish_reason", None) == "cancelled"
    assert isinstance(ends[1], Failed)
    with pytest.raises(EngineUnavailableError, match="stopping"):
        queue.submit(jobs[0])


def test_a_queue_of_no_places_runs_one_job_and_refuses_the_next(model: ScriptedModel) -> None:
    queue = JobQueue(0, deadline_s=1)
    model.hold()
    queue.submit(AnswerJob("a", model, user("a"), GREEDY, 1))
    with pytest.raises(QueueFullError, match="is busy"):
        queue.submit(AnswerJob("b", model, user("a"), GREEDY, 1))
    queue.start()
    assert queue.close()


def test_withdrawing_a_finished_job_leaves_another_of_its_id_alone(model: ScriptedModel) -> None:
    queue = JobQueue(2, deadline_s=1)
    queue.start()
    first = AnswerJob("same", model, user("a"), GREEDY, 1)
    queue.submit(first)
    wait_until(lambda: queue.state.running == 0 and model.finish_reasons == ["stop"])
    model.hold()
    second = AnswerJob("same", model, user("a"), GREEDY, 1)
    queue.submit(second)
    queue.withdraw(first)
    assert not second.cancelled.is_set()
    assert queue.close()


def test_a_model_that_ends_without_a_result_is_a_failure(model: ScriptedModel) -> None:
    class EmptyJob(Job):
        def run(self) -> Iterator[Event]:
            return iter(())

    queue = JobQueue(1, deadline_s=1)
    queue.start()
    job = EmptyJob("empty")
    queue.submit(job)
    wait_until(lambda: queue.state.running == 0)
    started, end = events_of(job)
    assert isinstance(started, Started)
    assert isinstance(end, Failed)
    assert queue.close()


class PanicException(BaseException):
    """What pyo3 raises when Rust code panics."""


def test_a_panic_in_the_model_costs_one_request_only(
    client: httpx.Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panics(*_: object, **__: object) -> Iterator[Piece]:
        raise PanicException

    def panics_later(*_: object, **__: object) -> Iterator[Piece]:
        yield Piece(text="a")
        raise PanicException

    for run, status in ((panics, 400), (panics_later, 500)):
        with monkeypatch.context() as patch:
            patch.setattr(model, "generate", run)
            assert client.post(CHAT, json=question("a")).status_code == status
        assert client.post(CHAT, json=question("a")).status_code == 200


def test_a_schema_that_makes_the_grammar_library_panic_is_refused(client: httpx.Client) -> None:
    # The library cuts the schema at byte 100 to quote it: here in the middle of a character.
    schemas = [{"$ref": ["x" * length + "\U000232ad" * 20]} for length in range(90, 100)]
    for schema in schemas:
        response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = json.dumps(question(response_format=response_format), ensure_ascii=False).encode()
        answer = client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_schema")


def events_of(job: Job) -> list[Event]:
    events = []
    while (event := job.next_event(0.2)) is not None:
        events.append(event)
    return events


def test_an_early_end_of_the_connection_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            for reply in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        client = EngineClient(EngineAddress(socket=str(path)))
        for _ in range(2):
            with pytest.raises(EngineUnavailableError):
                client.health(timeout_s=PROMPTLY_S)
        thread.join()


def test_an_engine_that_accepts_and_says_nothing_does_not_hold_the_station(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        began_at_s = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="does not answer"):
            EngineClient(EngineAddress(socket=str(path))).health(timeout_s=0.2)
        assert time.monotonic() - began_at_s < PROMPTLY_S
