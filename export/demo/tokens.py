"""The demonstration model's tokenizer and chat layout: Gemma 3's special tokens and turns around a small vocabulary.

A prompt is always encoded as one string with the special tokens in it, as a runtime does, never joined from pieces.
Source: Gemma 3 chat format (turns, and the image between blank lines).
"""

import re
from collections.abc import Iterable
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from appliance.assessment import ASSESSMENT_PROMPT
from export.demo.answers import ANSWERABLE_QUESTIONS, OUT_OF_SCOPE, assessment_answer, follow_up_answer
from export.demo.questions import UNANSWERABLE_QUESTIONS
from export.demo.scene import Attributes

PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
START_OF_IMAGE, END_OF_IMAGE, IMAGE_SOFT_TOKEN = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
SPECIAL_TOKENS: Final = (
    PAD,
    EOS,
    BOS,
    UNK,
    START_OF_TURN,
    END_OF_TURN,
    START_OF_IMAGE,
    END_OF_IMAGE,
    IMAGE_SOFT_TOKEN,
)
"""In the order of their ids, 0 to 8."""

VOCABULARY_SIZE: Final = 768
"""A multiple of 32, the block of the quantized embedding."""

IMAGE_TOKENS: Final = 25
"""Soft tokens per picture: 10 x 10 patches pooled 2 x 2."""

CHAT_TEMPLATE: Final = """\
{{ bos_token }}
{%- set system = '' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content'] %}
    {%- set system = (first if first is string else first[0]['text']) + '\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- system if loop.first else '' }}
    {%- if message['content'] is string %}
        {{- message['content'] | trim }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'image' %}
                {{- '<start_of_image>' }}
            {%- elif item['type'] == 'text' %}
                {{- item['text'] | trim }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""

# A value in the JSON that is not a key; a list counts up to its closing bracket, which decides what is left out.
_VALUE: Final = re.compile(r'\[[^\]]*\]|(?<=:)"[^"]*"')


def train_tokenizer(truths: Iterable[Attributes]) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the answers to these drawings; it fills the vocabulary exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(truths), trainer)
    missing = VOCABULARY_SIZE - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken(f"<unused{i}>", special=True, normalized=False) for i in range(missing)])
    return tokenizer


def prompt_text(question: str) -> str:
    """Return one user turn with the picture and a question, ready for the model's answer."""
    picture = f"\n\n{START_OF_IMAGE}{IMAGE_SOFT_TOKEN * IMAGE_TOKENS}{END_OF_IMAGE}\n\n"
    turn = f"{START_OF_TURN}user\n{picture}{question.strip()}{END_OF_TURN}\n"
    return f"{BOS}{turn}{START_OF_TURN}model\n"


def encode_example(tokenizer: Tokenizer, question: str, answer: str) -> tuple[list[int], list[bool], int]:
    """Encode a prompt with its answer as one string.

    Returns:
        The ids, for each of them whether it carries a value of the answer, and the length of the prompt in ids.
    """
    prompt = prompt_text(question)
    encoding = tokenizer.encode(f"{prompt}{answer}{END_OF_TURN}", add_special_tokens=False)
    prompt_length = len(tokenizer.encode(prompt, add_special_tokens=False).ids)
    spans = value_spans(answer)
    values = [
        any(start < len(prompt) + last and end > len(prompt) + first for first, last in spans)
        for start, end in encoding.offsets
    ]
    return encoding.ids, values, prompt_length


def value_spans(answer: str) -> list[tuple[int, int]]:
    """Return the character ranges that state a value: a whole sentence, or all values of a JSON but its description."""
    if not answer.startswith("{"):
        return [(0, len(answer))]
    end = answer.index('"description"')
    return [match.span() for match in _VALUE.finditer(answer, 0, end)]


def _corpus(truths: Iterable[Attributes]) -> Iterable[str]:
    yield from (prompt_text(question) for question in UNANSWERABLE_QUESTIONS)
    for truth in truths:
        yield prompt_text(ASSESSMENT_PROMPT)
        yield assessment_answer(truth)
        for question in ANSWERABLE_QUESTIONS:
            yield prompt_text(question)
            yield follow_up_answer(question, truth)
        yield OUT_OF_SCOPE
