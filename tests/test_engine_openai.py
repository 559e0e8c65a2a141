"""The engine through the real OpenAI client, in front of a scripted model."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import jsonschema
import openai
import pydantic
import pytest
from PIL import Image
from scripted_engine import TOKENS_PER_IMAGE, RunningEngine, ScriptedModel

from appliance.assessment import ASSESSMENT_SCHEMA
from appliance.errors import BundleError
from appliance.medgemma.generation import ImagePart, TextPart

HELLO: list[Any] = [{"role": "user", "content": "one two three four"}]


def picture(kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (180, 120, 90)).save(buffer, kind)
    return buffer.getvalue()


def image_part(content: bytes, media_type: str = "image/jpeg") -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}", "detail": "high"}}


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def engine(model: ScriptedModel) -> Iterator[RunningEngine]:
    with RunningEngine(model) as running:
        assert running.service.host.wait(5)
        yield running


@pytest.fixture
def client(engine: RunningEngine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0, timeout=10) as opened:
        yield opened


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "dermstation", "messages": HELLO, **fields})


def test_models_lists_the_one_that_is_loaded(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "dermstation"
    with pytest.raises(openai.NotFoundError, match="no model of that name"):
        client.models.retrieve("gpt-4o")


def test_answer_has_text_usage_and_the_model_that_really_answered(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == "one two three four"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 4, 8)
    assert answer.model == "scripted"
    assert answer.dermstation["warning"] == "Scripted: not a model."
    assert answer.dermstation["generation"]["finish_reason"] == "stop"


def test_stream_gives_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert pieces == ["one", " two", " three", " four"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_without_usage_ends_with_the_finish_reason(client: openai.OpenAI) -> None:
    *_, last = ask(client, stream=True)
    assert last.choices[0].finish_reason == "stop"
    assert last.dermstation["generation"]["text"] == "one two three four"


def test_several_images_reach_the_model_as_the_bytes_that_were_sent(
    client: openai.OpenAI, model: ScriptedModel
) -> None:
    photos = [picture(), picture("PNG", (16, 16))]
    content = [
        image_part(photos[0]),
        {"type": "text", "text": "Compare."},
        image_part(photos[1], "image/png"),
    ]
    answer = ask(client, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}])
    (system, user), _ = model.generations[0]
    assert system.role == "system"
    assert user.parts == (ImagePart(content=photos[0]), TextPart(text="Compare."), ImagePart(content=photos[1]))
    assert answer.usage.prompt_tokens == 2 * TOKENS_PER_IMAGE + 3


def test_json_schema_reaches_the_model_and_the_answer_obeys_it(client: openai.OpenAI, model: ScriptedModel) -> None:
    schema = {"name": "assessment", "strict": True, "schema": ASSESSMENT_SCHEMA}
    answer = ask(client, response_format={"type": "json_schema", "json_schema": schema})
    jsonschema.validate(json.loads(answer.choices[0].message.content), ASSESSMENT_SCHEMA)
    assert model.generations[0][1].json_schema == ASSESSMENT_SCHEMA


def test_the_clients_own_parser_of_structured_answers_works(client: openai.OpenAI, model: ScriptedModel) -> None:
    class Quality(pydantic.BaseModel):
        quality: str

    model.answer = '{"quality":"ok"}'
    parsed = client.chat.completions.parse(model="dermstation", messages=HELLO, response_format=Quality)
    assert parsed.choices[0].message.parsed == Quality(quality="ok")


def test_json_object_asks_for_an_object(client: openai.OpenAI, model: ScriptedModel) -> None:
    ask(client, response_format={"type": "json_object"})
    assert model.generations[0][1].json_schema == {"type": "object"}


def test_logprobs_come_with_alternatives_and_stay_json(client: openai.OpenAI) -> None:
    content = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [token.token for token in content] == ["one", " two", " three", " four"]
    assert content[0].logprob == -0.25
    assert bytes(content[1].bytes) == b" two"
    assert [alternative.logprob for alternative in content[0].top_logprobs] == [-0.25, -9999.0]


def test_logprobs_come_with_each_streamed_piece(client: openai.OpenAI) -> None:
    chunks = [chunk for chunk in ask(client, stream=True, logprobs=True) if chunk.choices[0].delta.content]
    assert [chunk.choices[0].logprobs.content[0].token for chunk in chunks] == ["one", " two", " three", " four"]
    assert chunks[0].choices[0].logprobs.content[0].top_logprobs == []


def test_stop_string_and_max_tokens_end_the_answer(client: openai.OpenAI) -> None:
    stopped = ask(client, stop="three").choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("one two ", "stop")
    assert ask(client, stop=["x", "two"]).choices[0].message.content == "one "
    cut = ask(client, max_completion_tokens=2).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("one two", "length")


def test_every_option_reaches_the_model(client: openai.OpenAI, model: ScriptedModel) -> None:
    ask(
        client,
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=-3,
        stop=["a", "b"],
        extra_body={"top_k": 40, "thought": True, "deadline_s": 30},
    )
    options = model.generations[0][1]
    assert (options.max_tokens, options.temperature, options.top_p, options.top_k) == (7, 0.5, 0.9, 40)
    assert (options.seed, options.stop, options.deadline_s) == (2**63 - 3, ("a", "b"), 30)
    assert options.ban_thought is False
    assert options.top_logprobs is None


def test_the_answers_length_is_cut_to_the_context_and_its_time_to_the_limit(
    client: openai.OpenAI, model: ScriptedModel
) -> None:
    ask(client, max_tokens=10**9, extra_body={"deadline_s": 10**6})
    options = model.generations[0][1]
    assert options.max_tokens == model.context_length - 4
    assert options.deadline_s == 120


def test_harmless_fields_are_ignored(client: openai.OpenAI) -> None:
    answer = ask(client, user="nurse", n=1, store=False, presence_penalty=0, tool_choice="none", modalities=["text"])
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://example.org/lesion.jpg", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "nothing is fetched"),
        ("data:image/jpeg;base64,@@@", "not base64"),
        ("data:image/jpeg;base64," + base64.b64encode(b"GIF89a").decode(), "neither a JPEG nor a PNG"),
        ("data:image/png;base64," + base64.b64encode(picture()).decode(), "claims to be image/png"),
        ("data:image/jpeg;base64," + base64.b64encode(picture()[:200]).decode(), "damaged"),
        ("data:image/png;base64," + base64.b64encode(picture("PNG", (9000, 1))).decode(), "9000 x 1 pixels"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_picture_is_refused_before_it_waits(
    client: openai.OpenAI, model: ScriptedModel, url: str, sentence: str, stream: bool
) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    with pytest.raises(openai.BadRequestError, match=sentence) as refused:
        ask(client, messages=[{"role": "user", "content": content}], stream=stream)
    assert refused.value.code == "invalid_image"
    assert model.generations == []


def test_only_users_show_pictures(client: openai.OpenAI) -> None:
    message = {"role": "assistant", "content": [image_part(picture())]}
    with pytest.raises(openai.BadRequestError, match="Only a user's message"):
        ask(client, messages=[message, *HELLO])


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_refused(client: openai.OpenAI, model: ScriptedModel, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="the context holds 2048"):
        ask(client, messages=[{"role": "user", "content": "w " * 3000}], stream=stream)
    with pytest.raises(openai.BadRequestError, match="leaves no room"):
        ask(client, messages=[{"role": "user", "content": "w " * 2048}], stream=stream)
    assert model.generations == []


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"type": "bogus"}, "cannot be enforced"),
        ({"$ref": "http://example.org/schema"}, "cannot be enforced"),
        ({"anyOf": []}, "cannot be enforced"),
        ({"enum": ["x" * 70_000]}, "at most 65536"),
        ({"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, "nested"),
    ],
)
def test_a_hopeless_schema_is_refused(client: openai.OpenAI, schema: dict[str, Any], sentence: str) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence) as refused:
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert refused.value.param == "response_format.json_schema.schema"


def test_another_models_name_is_not_answered_for(client: openai.OpenAI) -> None:
    assert ask(client, model="scripted").model == "scripted"
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-4o' here"):
        ask(client, model="gpt-4o")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_breaks_costs_one_request_only(client: openai.OpenAI, model: ScriptedModel, stream: bool) -> None:
    model.late_error = ZeroDivisionError("inside")
    with pytest.raises(openai.APIError, match="The model failed on this request") as failed:
        list(ask(client, stream=stream))
    assert "inside" not in str(failed.value)
    assert ask(client).choices[0].message.content


def test_a_loading_engine_answers_503_with_the_sentence() -> None:
    arrives = threading.Event()
    model = ScriptedModel()

    def load() -> ScriptedModel:
        assert arrives.wait(10)
        return model

    with (
        RunningEngine(load=load) as engine,
        openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0) as client,
    ):
        assert engine.client.health().status == "loading"
        with pytest.raises(openai.InternalServerError, match="still loading") as refused:
            ask(client)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["Retry-After"] == "1"
        arrives.set()
        assert engine.service.host.wait(5)
        assert ask(client).choices[0].message.content
    assert model.is_closed


def test_a_failed_bundle_keeps_the_engine_up_and_says_why() -> None:
    def load() -> ScriptedModel:
        raise BundleError("The bundle is damaged: decoder.onnx is missing.")

    with RunningEngine(load=load) as engine, httpx.Client(base_url=f"http://{engine.address.authority}") as client:
        assert engine.service.host.wait(5)
        health = client.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "failed"
        assert health.json()["error"] == "The bundle is damaged: decoder.onnx is missing."
        assert client.get("/v1/models").status_code == 503


def test_a_loader_that_breaks_is_told_apart_from_loading() -> None:
    def load() -> ScriptedModel:
        raise ZeroDivisionError

    with RunningEngine(load=load) as engine:
        assert engine.service.host.wait(5)
        assert engine.client.health().status == "failed"
        assert "cannot be loaded" in str(engine.client.health().error)


def test_openai_over_a_unix_socket(tmp_path: Any) -> None:
    path = tmp_path / "engine.sock"
    with RunningEngine(socket=path) as engine:
        assert engine.service.host.wait(5)
        transport = httpx2.HTTPTransport(uds=str(path))
        with openai.OpenAI(
            base_url="http://localhost/v1", api_key="none", http_client=openai.DefaultHttpxClient(transport=transport)
        ) as client:
            assert ask(client).choices[0].message.content == "one two three four"
            assert len(list(ask(client, stream=True))) == 6
