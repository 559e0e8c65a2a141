"""What the demonstration model is taught to say, and how it is written as tokens."""

import json

import jsonschema
import numpy as np
import pytest
from demo_truths import BARE, LESION
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from appliance.assessment import (
    ASSESSMENT_PROMPT,
    ASSESSMENT_SCHEMA,
    COLOURS,
    FOLLOW_UP_QUESTIONS,
    assessment_from_json,
)
from export.demo.answers import (
    ANSWERABLE_QUESTIONS,
    CANNOT_TELL,
    NO_LESION,
    OUT_OF_SCOPE,
    assessment_answer,
    assessment_object,
    follow_up_answer,
)
from export.demo.examples import choose_example
from export.demo.questions import UNANSWERABLE_QUESTIONS, vary_question
from export.demo.scene import Attributes, plan_scene
from export.demo.tokens import (
    CHAT_TEMPLATE,
    END_OF_IMAGE,
    IMAGE_SOFT_TOKEN,
    IMAGE_TOKENS,
    SPECIAL_TOKENS,
    START_OF_IMAGE,
    VOCABULARY_SIZE,
    encode_example,
    prompt_text,
    train_tokenizer,
    value_spans,
)

TRUTHS = [plan_scene(np.random.default_rng((7, index))).attributes for index in range(300)]

BLURRED = Attributes(quality="blurred", monk_tone=1, number="none", px_per_mm=10.0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TRUTHS)


def test_every_answer_is_an_assessment() -> None:
    validator = jsonschema.Draft202012Validator(ASSESSMENT_SCHEMA)
    for truth in TRUTHS:
        text = assessment_answer(truth)
        assert validator.is_valid(json.loads(text))
        stated = assessment_from_json(text)
        assert stated.quality == truth.quality
        if truth.is_ok:
            assert (stated.skin_tone, stated.number, stated.colours) == (truth.skin_tone, truth.number, truth.colours)


def test_answer_is_compact_with_keys_in_schema_order() -> None:
    assert assessment_answer(LESION) == (
        '{"quality":"ok","skin_tone":"dark","number":"single","asymmetry":"one axis","border":"irregular",'
        '"colours":["dark brown","red"],"diameter_mm":"3-6","surface":"ulcerated","description":"An ulcerated lesion '
        'of 3 to 6 mm on dark skin, asymmetric in one axis, with an irregular border, coloured dark brown and red."}'
    )
    assert list(assessment_object(LESION)) == list(ASSESSMENT_SCHEMA["anyOf"][0]["properties"])


def test_spoilt_picture_states_nothing_but_its_fault() -> None:
    assert list(assessment_object(BLURRED)) == ["quality", "description"]


def test_bare_skin_states_no_lesion() -> None:
    assert list(assessment_object(BARE)) == ["quality", "skin_tone", "number", "description"]


@pytest.mark.parametrize(
    ("truth", "answers"),
    [
        (LESION, ("Yes.", "One lesion.", "3 to 6 mm.", "Dark brown and red.", "No, it is irregular.")),
        (BARE, ("Yes.", NO_LESION, NO_LESION, NO_LESION, NO_LESION)),
        (BLURRED, ("No, it is blurred.", CANNOT_TELL, CANNOT_TELL, CANNOT_TELL, CANNOT_TELL)),
    ],
)
def test_follow_up_answers(truth: Attributes, answers: tuple[str, ...]) -> None:
    assert tuple(follow_up_answer(question, truth) for question in FOLLOW_UP_QUESTIONS) == answers


def test_examples_ask_every_kind_of_question() -> None:
    rng = np.random.default_rng(0)
    examples = [choose_example(rng, LESION) for _ in range(400)]
    answers = {answer for _, answer in examples}
    assert answers == {
        OUT_OF_SCOPE,
        assessment_answer(LESION),
        *(follow_up_answer(question, LESION) for question in ANSWERABLE_QUESTIONS),
    }
    assert len({question for question, _ in examples}) > 30


@pytest.mark.parametrize("question", ANSWERABLE_QUESTIONS)
def test_question_is_asked_in_its_own_words_most_often(question: str) -> None:
    rng = np.random.default_rng(0)
    asked = [vary_question(rng, question) for _ in range(300)]
    assert 120 < asked.count(question) < 220
    assert any(text.islower() for text in asked)


def test_no_wording_is_taught_two_answers() -> None:
    rng, answers = np.random.default_rng(0), dict[str, str]()
    for question in ANSWERABLE_QUESTIONS:
        for _ in range(400):
            wording = vary_question(rng, question).lower()
            assert answers.setdefault(wording, question) == question
    assert not {question.lower() for question in UNANSWERABLE_QUESTIONS} & set(answers)


def test_kiosks_follow_ups_come_first() -> None:
    assert ANSWERABLE_QUESTIONS[: len(FOLLOW_UP_QUESTIONS)] == FOLLOW_UP_QUESTIONS


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is it symmetric?", "No, it is asymmetric in one axis."),
        ("What is its surface like?", "It is ulcerated."),
        ("What is the skin tone?", "The skin is dark."),
        ("Describe the lesion.", str(assessment_object(LESION)["description"])),
    ],
)
def test_further_answers(question: str, answer: str) -> None:
    assert follow_up_answer(question, LESION) == answer
    assert follow_up_answer(question, BLURRED) == CANNOT_TELL


def test_tokenizer_fills_the_vocabulary_and_starts_with_gemmas_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE
    assert VOCABULARY_SIZE % 32 == 0
    assert tuple(tokenizer.id_to_token(index) for index in range(len(SPECIAL_TOKENS))) == SPECIAL_TOKENS


def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer) -> None:
    text = 'Größe? "日本" {x}'
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_example_is_the_prompt_and_its_answer(tokenizer: Tokenizer) -> None:
    answer = assessment_answer(LESION)
    ids, values, prompt_length = encode_example(tokenizer, ASSESSMENT_PROMPT, answer)
    prompt_ids = tokenizer.encode(prompt_text(ASSESSMENT_PROMPT), add_special_tokens=False).ids
    assert ids[:prompt_length] == prompt_ids
    assert tokenizer.decode(ids[prompt_length:]) == answer
    assert not any(values[:prompt_length])


def test_values_weigh_and_keys_and_description_do_not() -> None:
    answer = assessment_answer(LESION)
    values = [answer[start:stop] for start, stop in value_spans(answer)]
    assert values[:3] == ['"ok"', '"dark"', '"single"']
    assert '["dark brown","red"]' in values
    assert len(values) == len(assessment_object(LESION)) - 1


def test_template_renders_the_prompt_that_was_trained() -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    parts = [{"type": "image"}, {"type": "text", "text": f" {ASSESSMENT_PROMPT}\n"}]
    rendered = environment.from_string(CHAT_TEMPLATE).render(
        bos_token="<bos>", messages=[{"role": "user", "content": parts}], add_generation_prompt=True
    )
    picture = f"\n\n{START_OF_IMAGE}{IMAGE_SOFT_TOKEN * IMAGE_TOKENS}{END_OF_IMAGE}\n\n"
    assert rendered.replace(START_OF_IMAGE, picture) == prompt_text(ASSESSMENT_PROMPT)


def test_template_folds_the_system_turn_into_the_first_user_turn() -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    turns = [("system", "Be brief."), ("user", " Hello "), ("assistant", "Yes."), ("user", "Why?")]
    rendered = environment.from_string(CHAT_TEMPLATE).render(
        bos_token="<bos>",
        messages=[{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
    )
    assert rendered == (
        "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>\n"
        "<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_every_colour_can_be_said() -> None:
    assert {colour for truth in TRUTHS for colour in truth.colours} == set(COLOURS)
