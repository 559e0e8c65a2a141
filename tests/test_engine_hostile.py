"""Clients that lie, stall, nest, flood or come from a browser get a 4xx in JSON, and the engine goes on."""

import json
import os
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_engine import EngineProcess, RunningEngine, ScriptedModel
from test_engine_client import GREEDY, PROMPTLY_S, first_piece, user, wait_until
from test_engine_openai import image_part, picture

import web.server
from web.engine.limits import EngineLimits

MAX_BODY = 200_000
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture(scope="module")
def engine(model: ScriptedModel) -> Iterator[RunningEngine]:
    limits = EngineLimits(
        queue_limit=2, max_body_bytes=MAX_BODY, max_images=2, max_messages=8, max_text_characters=5000
    )
    with RunningEngine(model, limits=limits) as running:
        assert running.service.host.wait(5)
        yield running


@pytest.fixture(scope="module")
def client(engine: RunningEngine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{engine.address.authority}", timeout=PROMPTLY_S) as opened:
        yield opened


@pytest.fixture(autouse=True)
def the_engine_still_answers(client: httpx.Client) -> Iterator[None]:
    yield
    answer = client.post(CHAT, json=question("still here"))
    assert answer.json()["choices"][0]["message"]["content"] == "still here"


def question(text: str = "x", **fields: Any) -> dict[str, Any]:
    return {"model": "dermstation", "messages": [{"role": "user", "content": text}], **fields}


def raw(engine: RunningEngine, *parts: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes as they are; return the status and the JSON body."""
    with socket.create_connection((engine.address.host, engine.address.port), timeout=PROMPTLY_S) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
            head, _, body = received.partition(b"\r\n\r\n")
            if b"Content-Length: %d\r\n" % len(body) in head + b"\r\n":
                break
    assert b"Content-Type: application/json" in head
    return int(head.split()[1]), json.loads(body)


def head(path: str = CHAT, **headers: str) -> bytes:
    fields = {"Host": "localhost", "Content-Type": "application/json", **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(engine: RunningEngine) -> None:
    status, body = raw(engine, head(Content_Length=str(10 << 30)))
    assert (status, body["error"]["type"]) == (413, "invalid_request_error")


def test_a_body_over_the_limit_is_refused_to_a_client_that_sends_all_of_it(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=question("x" * MAX_BODY))
    assert answer.status_code == 413


def test_a_chunked_body_without_end_is_cut_at_the_limit(engine: RunningEngine) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    status, body = raw(engine, head(Transfer_Encoding="chunked"), *[chunk] * (MAX_BODY // 0x10000 + 1))
    assert status == 413
    assert body["error"]["message"]


def test_a_chunked_body_within_the_limit_is_read(engine: RunningEngine) -> None:
    content = json.dumps(question("in two parts")).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:9], content[9:])) + b"0\r\n\r\n"
    status, body = raw(engine, head(Transfer_Encoding="chunked"), chunks)
    assert (status, body["choices"][0]["message"]["content"]) == (200, "in two parts")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST " + CHAT.encode() + b" HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (head(Transfer_Encoding="chunked") + b"zz\r\n", 400),
    ],
)
def test_what_is_not_http_is_refused_in_json(engine: RunningEngine, request_bytes: bytes, status: int) -> None:
    answered, body = raw(engine, request_bytes)
    assert answered == status
    assert body["error"]["message"]


def test_a_body_that_trickles_is_refused_in_time(engine: RunningEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.server, "REQUEST_S", 0.3)
    status, body = raw(engine, head(Content_Length="1000") + b"{")
    assert (status, body["error"]["code"]) == (408, "request_timeout")


def test_clients_that_hang_up_early_leave_nothing_behind(engine: RunningEngine) -> None:
    for cut in (0, 5, 40, 150):
        with socket.create_connection((engine.address.host, engine.address.port)) as connection:
            connection.sendall((head(Content_Length="1000") + b"{")[:cut])
    wait_until(lambda: engine.client.health().queue.running == 0)


def test_a_thousand_hostile_requests_cost_no_memory(seed: int) -> None:
    refused = [
        head(Content_Length=str(10 << 30)),
        head(Transfer_Encoding="chunked") + b"zz\r\n",
        head(Content_Length="2") + b"{}",
        head(Content_Length="3", Content_Encoding="gzip") + b"\x1f\x8b\x08",
        head("/v1/images", Content_Type="image/png", Content_Length="8") + b"\x89PNG\r\n\x1a\n",
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ]
    generator = random.Random(seed)
    with EngineProcess("--port", "0") as process:
        wait_until(lambda: process.client.health().status == "ready")
        before_mib = resident_mib(process.pid)
        for _ in range(1000):
            with socket.create_connection((process.address.host, process.address.port), PROMPTLY_S) as connection:
                connection.sendall(generator.choice(refused))
                assert re.match(rb"HTTP/1\.[01] 4\d\d ", connection.recv(4096))
        assert resident_mib(process.pid) - before_mib < 64
        assert process.client.health().status == "ready"


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_bodies_never_touch_the_disk(engine: RunningEngine) -> None:
    opened_before = set(opened_files())
    with socket.create_connection((engine.address.host, engine.address.port)) as connection:
        connection.sendall(head(Content_Length=str(MAX_BODY - 1)) + b"x" * (MAX_BODY - 10))
        wait_until(lambda: received_bytes(engine) >= MAX_BODY - 10)
        assert set(opened_files()) - opened_before == set()


def opened_files() -> list[str]:
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except OSError:
            continue
    return [name for name in names if name.startswith("/") and not name.startswith(("/dev", "/proc"))]


def received_bytes(engine: RunningEngine) -> int:
    channels = list(engine._server._server.active_channels.values())
    return max((channel.request.body_bytes_received for channel in channels if channel.request is not None), default=0)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "foreign_host"),
        ({"Host": "127.0.0.1.evil.example:8765"}, "foreign_host"),
        ({"Host": "localhost:80@evil.example"}, "foreign_host"),
        ({"Host": "[::1"}, None),
        ({"Host": ""}, "foreign_host"),
        ({"Origin": "https://evil.example"}, "foreign_origin"),
        ({"Origin": "null"}, "foreign_origin"),
        ({"Origin": "http://localhost:1"}, "foreign_origin"),
    ],
)
def test_browsers_of_other_sites_are_kept_out(client: httpx.Client, headers: dict[str, str], code: str | None) -> None:
    answer = client.post(CHAT, json=question(), headers=headers)
    if code is None:
        assert answer.status_code in {200, 400, 403}
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9999", "[::1]:8765", "LOCALHOST:80"])
def test_loopback_names_are_let_in(client: httpx.Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", CHAT, 405),
        ("POST", "/health", 405),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/static/x", 404),
        ("DELETE", CHAT + "/chatcmpl-unknown", 404),
        ("POST", "/v1/images", 415),
        ("POST", CHAT, 415),
    ],
)
def test_every_refusal_is_json(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {"Content-Type": "application/json"}),
        (b"{", {"Content-Type": "application/json"}),
        (b"[]", {"Content-Type": "application/json"}),
        (b"\xff\xfe", {"Content-Type": "application/json"}),
        (b'{"model":"\\ud800"}', {"Content-Type": "application/json"}),
        (b"[" * 100_000, {"Content-Type": "application/json"}),
        (b'{"x":' * 30_000, {"Content-Type": "application/json"}),
        (b'{"tools":' + b"[" * 50_000, {"Content-Type": "application/json"}),
        (b"{}", {"Content-Type": "text/plain"}),
        (b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
        (json.dumps(question()).encode(), {"Content-Type": "application/json", "X-Request-Id": "../x"}),
        (json.dumps(question()).encode(), {"Content-Type": "application/json", "X-Request-Id": "x" * 65}),
        (json.dumps(question("x" * 6000)).encode(), {"Content-Type": "application/json"}),
        (json.dumps(question(seed=10**30)).encode(), {"Content-Type": "application/json"}),
        (json.dumps(question(temperature=float("nan"))).encode(), {"Content-Type": "application/json"}),
        (
            b'{"model":"dermstation","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
            {"Content-Type": "application/json"},
        ),
    ],
)
def test_bodies_that_are_wrong_are_refused(client: httpx.Client, content: bytes, headers: dict[str, str]) -> None:
    answer = client.post(CHAT, content=content, headers=headers)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


def test_too_many_of_anything_is_refused_by_name(client: httpx.Client) -> None:
    many = question()
    many["messages"] = many["messages"] * 9
    assert "At most 8 messages" in client.post(CHAT, json=many).json()["error"]["message"]
    photos = question()
    photos["messages"] = [{"role": "user", "content": [image_part(picture())] * 3}]
    assert "3 images; at most 2" in client.post(CHAT, json=photos).json()["error"]["message"]


def test_control_tokens_in_a_name_are_not_echoed_whole(client: httpx.Client) -> None:
    answer = client.post(CHAT, json={**question(), "model": "<script>" * 1000})
    assert answer.status_code == 404
    assert len(answer.json()["error"]["message"]) < 300


@pytest.mark.parametrize("content", [b"", b"GIF89a", picture()[:60], b"\xff\xd8\xff" * 100])
def test_a_photo_that_is_none_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/images", content=content, headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


def test_a_client_that_does_not_read_does_not_stop_the_others(
    engine: RunningEngine, client: httpx.Client, model: ScriptedModel
) -> None:
    with socket.create_connection((engine.address.host, engine.address.port)) as deaf:
        content = json.dumps(question("w " * 2000, stream=True, max_tokens=2000)).encode()
        deaf.sendall(head(Content_Length=str(len(content))) + content)
        assert client.post(CHAT, json=question("me too")).json()["choices"][0]["message"]["content"] == "me too"


def test_many_clients_at_once_are_answered_one_by_one(engine: RunningEngine, model: ScriptedModel) -> None:
    statuses: list[int] = []
    freed = threading.Event()

    def one(number: int) -> None:
        with httpx.Client(base_url=f"http://{engine.address.authority}", timeout=PROMPTLY_S) as own:
            while True:
                answer = own.post(CHAT, json=question(f"client {number}"))
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    assert answer.json()["choices"][0]["message"]["content"] == f"client {number}"
                    return
                assert answer.headers["Retry-After"]
                freed.wait(0.02)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) == 8
    assert model.most_running == 1


def test_health_answers_while_every_place_is_taken(engine: RunningEngine, model: ScriptedModel) -> None:
    model.hold()
    streams = [engine.client.generate(user("a b"), GREEDY) for _ in range(3)]
    try:
        assert engine.client.health().queue.waiting == 2
        model.release()
        assert first_piece(streams[0]).text == "a"
    finally:
        for stream in streams:
            stream.close()
        model.let_go()
    wait_until(lambda: engine.client.health().queue.running == 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
    *("top_k", "seed", "stop", "logprobs", "top_logprobs", "response_format", "thought", "deadline_s", "n", "tools"),
    *("logit_bias", "user", "metadata"),
)
CONTENT = (
    st.sampled_from(["a b", [], [{"type": "text", "text": "a"}], [image_part(picture())], [image_part(b"x")]]) | JSON
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": CONTENT})
REQUEST = st.builds(
    lambda base, changes: {**base, **changes},
    st.fixed_dictionaries({"model": st.just("dermstation"), "messages": st.lists(MESSAGE, max_size=3)}),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)
FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FUZZ
@given(fields=REQUEST)
def test_no_request_makes_the_engine_fail(client: httpx.Client, fields: dict[str, Any]) -> None:
    answer = client.post(CHAT, content=json.dumps(fields).encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
    elif answer.headers["Content-Type"] == "application/json":
        assert answer.json()["choices"]
    else:
        assert b"[DONE]" in answer.content


@FUZZ
@given(schema=JSON)
def test_no_schema_makes_the_engine_fail(client: httpx.Client, schema: Any) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = client.post(
        CHAT,
        content=json.dumps(question(response_format=response_format)).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in {200, 400}


@FUZZ
@given(content=st.binary(max_size=400) | st.binary(max_size=200).map(lambda tail: picture()[:300] + tail))
def test_no_bytes_make_the_engine_fail(client: httpx.Client, content: bytes) -> None:
    for path, media_type in ((CHAT, "application/json"), ("/v1/images", "image/jpeg"), ("/v1/images", "image/png")):
        assert client.post(path, content=content, headers={"Content-Type": media_type}).status_code < 500
