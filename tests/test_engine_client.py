"""The station's client against the real engine in front of a scripted model."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_engine import EngineProcess, RunningEngine, ScriptedModel
from test_engine_openai import picture

from appliance.config import EngineConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient, GenerationStream, QueuePosition
from appliance.errors import ConfigurationError, EngineUnavailableError, ImageError, PromptError
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, TextPart
from web.engine.limits import EngineLimits

GREEDY = GenerationOptions()
PROMPTLY_S = 20.0
"""Far above what it takes, far below the client's own time-outs."""


def user(*parts: str | bytes) -> list[Message]:
    made = tuple(TextPart(text=part) if isinstance(part, str) else ImagePart(content=part) for part in parts)
    return [Message(role="user", parts=made)]


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def engine(model: ScriptedModel, tmp_path: Path) -> Iterator[RunningEngine]:
    with RunningEngine(model, socket=tmp_path / "engine.sock", limits=EngineLimits(queue_limit=2)) as running:
        assert running.service.host.wait(5)
        yield running


@pytest.fixture
def client(engine: RunningEngine) -> EngineClient:
    return engine.client


def first_piece(stream: GenerationStream) -> Piece:
    return next(item for item in stream if isinstance(item, Piece))


def test_pieces_then_one_generation_come_back_as_the_model_made_them(
    client: EngineClient, model: ScriptedModel
) -> None:
    model.thought = "hm"
    with client.generate(user("a b", picture()), GenerationOptions(top_logprobs=1)) as stream:
        *pieces, generation = stream
    expected = list(model.generate(user("a b", picture()), GenerationOptions(top_logprobs=1)))
    assert [*pieces, generation] == expected
    assert model.generations[0][0] == tuple(user("a b", picture()))


@pytest.mark.parametrize(
    "options",
    [
        GREEDY,
        GenerationOptions(
            max_tokens=9,
            temperature=0.7,
            top_k=5,
            top_p=0.8,
            seed=11,
            stop=("x", "y"),
            json_schema={"type": "object", "properties": {"ö": {"enum": ["ü"]}}},
            ban_thought=False,
            deadline_s=7.5,
            top_logprobs=0,
        ),
        GenerationOptions(ban_thought=True),
    ],
)
def test_options_arrive_unchanged(client: EngineClient, model: ScriptedModel, options: GenerationOptions) -> None:
    with client.generate(user("a"), options) as stream:
        list(stream)
    arrived = model.generations[0][1]
    # The engine's own limit is the deadline of who asks for none.
    assert arrived == (options if options.deadline_s else replaced_deadline(options))


def replaced_deadline(options: GenerationOptions) -> GenerationOptions:
    return replace(options, deadline_s=120.0)


def test_an_encoded_photo_need_not_be_encoded_again(client: EngineClient, model: ScriptedModel) -> None:
    encoded = client.encode_image(picture())
    assert model.encoded == [encoded.sha256]
    with client.generate(user("what", picture()), GREEDY) as stream:
        list(stream)
    assert model.encoded == [encoded.sha256]


def test_refusals_are_the_appliances_own_errors(client: EngineClient) -> None:
    with pytest.raises(ImageError, match="neither a JPEG nor a PNG"):
        client.encode_image(b"GIF89a")
    with pytest.raises(ImageError, match="damaged"):
        client.encode_image(picture()[:100])
    with pytest.raises(ImageError, match="damaged"):
        client.generate(user("x", picture()[:100]), GREEDY)
    with pytest.raises(PromptError, match="the context holds"):
        client.generate(user("w " * 5000), GREEDY)
    with pytest.raises(PromptError, match="cannot be enforced"):
        client.generate(user("w"), GenerationOptions(json_schema={"type": "bogus"}))


def test_a_failure_in_mid_stream_is_an_error_not_an_end(client: EngineClient, model: ScriptedModel) -> None:
    model.late_error = RuntimeError("broken")
    with client.generate(user("a b c"), GREEDY) as stream:
        assert first_piece(stream).text == "a"
        with pytest.raises(EngineUnavailableError, match="The model failed"):
            list(stream)
    model.late_error = ImageError("The image is odd.")
    with client.generate(user("a b c"), GREEDY) as stream, pytest.raises(ImageError, match=r"The image is odd\."):
        list(stream)


def test_who_waits_is_told_how_many_are_before(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    with (
        client.generate(user("a b"), GREEDY) as running,
        client.generate(user("c"), GREEDY) as second,
        client.generate(user("d"), GREEDY) as third,
    ):
        positions = [next(second), next(third)]
        assert client.health().queue.waiting == 2
        model.let_go()
        assert isinstance(list(running)[-1], Generation)
        assert isinstance(list(third)[-1], Generation)
    assert positions == [QueuePosition(before=1), QueuePosition(before=2)]
    assert model.most_running == 1


def test_a_full_queue_refuses_with_its_length(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    streams = [client.generate(user("a"), GREEDY) for _ in range(3)]
    with pytest.raises(EngineUnavailableError, match="2 requests already wait"):
        client.generate(user("a"), GREEDY)
    with pytest.raises(EngineUnavailableError, match="2 requests already wait"):
        client.encode_image(picture())
    for stream in streams:
        stream.close()


def test_closing_the_stream_ends_the_run_within_one_token(client: EngineClient, model: ScriptedModel) -> None:
    model.answer = "w " * 500
    model.hold()
    model.release(3)
    with client.generate(user("a"), GREEDY):
        for _ in range(3):
            assert model.pieces_written.acquire(timeout=PROMPTLY_S)
    wait_until(lambda: model.finish_reasons == ["cancelled"])
    assert client.health().queue.running == 0
    assert not model.pieces_written.acquire(blocking=False)


def test_closing_from_another_thread_ends_the_iteration(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    model.release(1)
    stream = client.generate(user("a b c"), GREEDY)
    assert first_piece(stream).text == "a"
    closer = threading.Timer(0.1, stream.close)
    closer.start()
    assert list(stream) == []
    closer.join()
    wait_until(lambda: model.finish_reasons == ["cancelled"])


def test_leaving_while_waiting_frees_the_place_without_a_run(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    with client.generate(user("a"), GREEDY):
        with client.generate(user("b"), GREEDY) as waiting:
            assert next(waiting) == QueuePosition(before=1)
        wait_until(lambda: client.health().queue.waiting == 0)
        assert client.health().queue.running == 1
    wait_until(lambda: model.finish_reasons == ["cancelled"])


def test_cancel_by_id_gives_the_waiting_and_the_running_an_end(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    model.release(1)
    with (
        client.generate(user("a b"), GREEDY) as running,
        client.generate(user("c"), GREEDY, request_id="w-1") as waiting,
    ):
        assert first_piece(running).text == "a"
        assert client.cancel("chatcmpl-w-1")
        assert client.cancel(running.completion_id)
        *_, ended = waiting
        *_, stopped = running
    assert isinstance(ended, Generation)
    assert isinstance(stopped, Generation)
    assert (ended.text, ended.finish_reason) == ("", "cancelled")
    assert (stopped.text, stopped.finish_reason) == ("a", "cancelled")
    assert not client.cancel("chatcmpl-w-1")


def test_an_id_in_use_is_refused_and_free_afterwards(client: EngineClient, model: ScriptedModel) -> None:
    model.hold()
    with (
        client.generate(user("a"), GREEDY, request_id="same"),
        pytest.raises(EngineUnavailableError, match="not finished yet"),
    ):
        client.generate(user("a"), GREEDY, request_id="same")
    wait_until(lambda: client.health().queue.running == 0)
    client.generate(user("a"), GREEDY, request_id="same").close()


def test_health_says_what_the_screen_shows(client: EngineClient, model: ScriptedModel) -> None:
    health = client.health()
    assert health.status == "ready"
    assert health.model is not None
    assert (health.model.name, health.model.warning) == ("scripted", "Scripted: not a model.")
    assert (health.model.context_length, health.model.takes_images) == (2048, True)
    assert health.providers == ("CPUExecutionProvider",)
    assert (health.queue.running, health.queue.waiting, health.queue.limit) == (0, 0, 2)
    assert health.load_s == model.load_s


def test_nobody_at_the_address(tmp_path: Path) -> None:
    for address in (EngineAddress(socket=str(tmp_path / "none.sock")), EngineAddress(port=1)):
        with pytest.raises(EngineUnavailableError, match="not running"):
            EngineClient(address).health()
        with pytest.raises(EngineUnavailableError, match="not running"):
            EngineClient(address).generate(user("a"), GREEDY)


@pytest.mark.parametrize(
    "reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"HTTP/1.1 500 No\r\n\r\n"]
)
def test_something_else_at_the_address(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = EngineAddress(port=server.getsockname()[1])

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EngineUnavailableError):
            EngineClient(address).health()
        thread.join()


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {broken\n\n",
        b"data: " + b"[" * 100_000,
        b"data: {" + b'"a":[' * 100_000,
        b"data: {}\n\ndata: [DONE]\n\n",
        b'data: {"choices":"no"}\n\n',
        b": working\n\n",
    ],
)
def test_a_stream_that_is_none_of_ours_is_an_error(stream: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + stream)

        thread = threading.Thread(target=answer)
        thread.start()
        client = EngineClient(EngineAddress(port=server.getsockname()[1]))
        with client.generate(user("a"), GREEDY) as opened, pytest.raises(EngineUnavailableError):
            list(opened)
        thread.join()


def test_a_silent_engine_is_taken_for_hung(model: ScriptedModel) -> None:
    with EngineProcess("--stall-after", "1") as process:
        client = EngineClient(process.address, silence_s=0.5)
        wait_until(lambda: process.client.health().status == "ready")
        with client.generate(user("a b c"), GREEDY) as stream:
            assert first_piece(stream).text == "a"
            process.signal(signal.SIGSTOP)
            with pytest.raises(EngineUnavailableError, match="stopped answering"):
                list(stream)
        with pytest.raises(EngineUnavailableError, match="does not answer"):
            client.health(timeout_s=0.2)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:/run/dermstation/engine.sock", "unix:/run/dermstation/engine.sock"),
        ("127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://localhost:80/", "http://localhost:80"),
        ("[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_addresses_are_read_and_written(text: str, shown: str) -> None:
    assert str(EngineAddress.parse(text)) == shown
    assert EngineAddress.parse(shown) == EngineAddress.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:" + "x" * 200,
        "8765",
        "0.0.0.0:1",
        "192.168.1.2:80",
        "example.org:80",
        "127.0.0.1:70000",
        "127.0.0.1:²",
    ],
)
def test_addresses_that_are_not_this_machine_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        EngineAddress.parse(text)


def test_the_settings_socket_goes_before_the_port() -> None:
    assert EngineAddress.from_config(EngineConfig()).port == 8765
    assert EngineAddress.from_config(EngineConfig(socket="/run/e.sock")) == EngineAddress(socket="/run/e.sock")


def wait_until(claim: object, timeout_s: float = PROMPTLY_S) -> None:
    """Poll a claim; for what another process or thread does in its own time."""
    assert callable(claim)
    ends_at_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_at_s:
        try:
            if claim():
                return
        except EngineUnavailableError:
            pass
        threading.Event().wait(0.01)
    raise AssertionError("it did not become true in time")
