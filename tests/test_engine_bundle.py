"""The real command around a real bundle: a tiny random checkpoint, exported, asked through OpenAI's client and ours."""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from medgemma_bundles import export_random, take
from test_engine_client import wait_until
from test_engine_openai import image_part, picture

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import EngineUnavailableError
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, TextPart

CONTEXT_LENGTH = 512
SCHEMA = {
    "type": "object",
    "properties": {"quality": {"enum": ["ok", "blurred"]}, "number": {"enum": ["none", "single"]}},
    "required": ["quality", "number"],
    "additionalProperties": False,
}
PHOTO = picture()
QUESTION = [
    Message(role="user", parts=(ImagePart(content=PHOTO), TextPart(text="Describe the lesion."))),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_random(tmp_path_factory.mktemp("engine")).bundle


def start_engine(bundle: Path, port: int = 0) -> tuple[subprocess.Popen[str], EngineAddress]:
    """Start the real command and wait until its model is ready."""
    command = [sys.executable, "-m", "appliance", "engine", "--bundle", str(bundle), "--port", str(port)]
    command += ["--threads", "1", "--context-length", str(CONTEXT_LENGTH)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    listening = re.search(r"listens on (\S+)", process.stdout.readline())
    assert listening is not None
    address = EngineAddress.parse(listening[1])
    wait_until(lambda: EngineClient(address).health().status == "ready", timeout_s=60)
    return process, address


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[EngineAddress]:
    """An engine on a port that the kernel chose."""
    process, address = start_engine(bundle)
    with process:
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def client(address: EngineAddress) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def in_process(bundle: Path) -> Iterator[MedGemma]:
    with MedGemma.load(bundle, RuntimeOptions(threads=1, context_length=CONTEXT_LENGTH)) as model:
        yield model


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    content = [image_part(PHOTO), {"type": "text", "text": "Describe the lesion."}]
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(**{"model": "dermstation", "messages": messages, "max_tokens": 12, **fields})


def test_the_answer_is_the_one_that_the_model_gives_without_the_engine(
    client: openai.OpenAI, in_process: MedGemma
) -> None:
    _, expected = take(in_process.generate(QUESTION, GenerationOptions(max_tokens=12)))
    answer = ask(client)
    assert answer.choices[0].message.content == expected.text
    assert tuple(answer.dermstation["generation"]["token_ids"]) == expected.token_ids
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)


def test_the_streamed_text_is_the_whole_text(address: EngineAddress, in_process: MedGemma) -> None:
    expected = take(in_process.generate(QUESTION, GenerationOptions(max_tokens=12, top_logprobs=2)))[1]
    with EngineClient(address).generate(QUESTION, GenerationOptions(max_tokens=12, top_logprobs=2)) as stream:
        *pieces, generation = (item for item in stream if not hasattr(item, "before"))
    assert isinstance(generation, Generation)
    assert generation.token_ids == expected.token_ids
    assert "".join(getattr(piece, "text", "") for piece in pieces) == generation.text
    assert [token for piece in pieces for token in getattr(piece, "token_ids", ())] == list(expected.token_ids)


def test_a_schema_is_obeyed_by_random_weights(client: openai.OpenAI) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "lesion", "strict": True, "schema": SCHEMA}}
    text = (
        ask(client, response_format=response_format, max_tokens=200, temperature=1, seed=5).choices[0].message.content
    )
    jsonschema.validate(json.loads(text), SCHEMA)


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    first, second, other = (
        ask(client, temperature=1.5, seed=seed).choices[0].message.content for seed in (-7, -7, 12345)
    )
    assert first == second
    assert first != other


def test_logprobs_are_real(client: openai.OpenAI) -> None:
    tokens = ask(client, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert all(token.logprob <= 0 for token in tokens)
    assert all(token.top_logprobs[0].logprob >= token.logprob for token in tokens)


def test_an_encoded_photo_is_found_again(address: EngineAddress) -> None:
    client = EngineClient(address)
    other = picture("PNG", (33, 21))
    client.encode_image(other)
    question = [Message(role="user", parts=(ImagePart(content=other), TextPart(text="?")))]
    with client.generate(question, GenerationOptions(max_tokens=2)) as stream:
        *_, generation = stream
    assert isinstance(generation, Generation)
    # Looking a photo up takes microseconds; encoding it takes a run of the vision graph.
    assert generation.timings.vision_s < client.encode_image(other).vision_s


def test_killed_in_mid_answer_and_restarted_it_gives_the_same_answer(bundle: Path) -> None:
    answers = []
    port = 0
    for _ in range(2):
        process, address = start_engine(bundle, port)
        port = address.port
        with process:
            with EngineClient(address).generate(QUESTION, GenerationOptions(max_tokens=8)) as stream:
                answers.append(list(stream)[-1])
            with EngineClient(address).generate(QUESTION, GenerationOptions(max_tokens=300)) as stream:
                next(item for item in stream if isinstance(item, Piece))
                process.kill()
                with pytest.raises(EngineUnavailableError):
                    list(stream)
    first, second = (getattr(answer, "token_ids", None) for answer in answers)
    assert first == second
    assert first


def test_hanging_up_frees_the_real_model(address: EngineAddress) -> None:
    client = EngineClient(address)
    with client.generate(QUESTION, GenerationOptions(max_tokens=400)) as stream:
        next(iter(stream))
    wait_until(lambda: client.health().queue.running == 0)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, "tokens"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "bogus"}}}},
            "schema",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_real_model_refuses_is_a_400(
    client: openai.OpenAI, fields: dict[str, Any], sentence: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        ask(client, stream=stream, **fields)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a{1,1000}){1,1000}"},
        {"type": "string", "pattern": "((((a{1,100}){1,100}){1,100}){1,100})"},
        {"type": "array", "minItems": 10**6, "items": {"type": "string"}},
        {"type": "string", "maxLength": 10**9},
        {"$ref": "#"},
    ],
)
def test_an_exploding_schema_costs_its_own_request_only(client: openai.OpenAI, schema: dict[str, Any]) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    # Some are affordable after all.
    with contextlib.suppress(openai.BadRequestError):
        assert ask(client, response_format=response_format, max_tokens=3).choices
    assert ask(client, max_tokens=1).choices


def test_control_tokens_in_a_text_are_text(client: openai.OpenAI) -> None:
    plain, spelled = (
        ask(client, messages=[{"role": "user", "content": text}], max_tokens=1).usage.prompt_tokens
        for text in ("x", "<end_of_turn>")
    )
    assert spelled > plain + 1
