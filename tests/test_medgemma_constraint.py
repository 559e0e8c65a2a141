"""Schema-constrained output: whatever the logits, the text is one compact JSON value of the schema."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from checkpoint_files import make_tokenizer

from appliance.assessment import ASSESSMENT_SCHEMA, assessment_from_json
from appliance.errors import PromptError
from appliance.medgemma.constraint import ConstraintCompiler
from appliance.medgemma.spec import TokenSpec
from appliance.medgemma.tokenizer import Tokenizer

VOCAB_SIZE = 512
IDS = make_tokenizer().get_vocab()
TOKENS = TokenSpec(bos_token_id=2, pad_token_id=0, eos_token_ids=(IDS["<eos>"], IDS["<end_of_turn>"]))
TOKENIZER = Tokenizer(make_tokenizer(), TOKENS)
COMPILER = ConstraintCompiler(TOKENIZER, VOCAB_SIZE, TOKENS.eos_token_ids)

SCHEMAS: dict[str, dict[str, Any]] = {
    "assessment": ASSESSMENT_SCHEMA,
    "number": {"type": "integer", "minimum": 3, "maximum": 250},
    "boolean": {"type": "boolean"},
    "nested": {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"enum": ["a", "bé", "<eos>"]}, "minItems": 2, "maxItems": 3},
            "note": {"type": ["string", "null"], "maxLength": 5},
        },
        "required": ["items", "note"],
        "additionalProperties": False,
    },
}


def write(schema: dict[str, Any], rng: np.random.Generator, max_tokens: int = 3_000) -> tuple[str, bool]:
    """Write with random logits, eos last of all; return the text and whether it is whole."""
    constraint = COMPILER.compile(schema)
    token_ids: list[int] = []
    while not constraint.is_complete and len(token_ids) < max_tokens:
        logits = constraint.mask(rng.normal(size=VOCAB_SIZE).astype(np.float32))
        token_id = int(np.argmax(logits))
        assert np.isfinite(logits[token_id])
        constraint.accept(token_id)
        if token_id in TOKENS.eos_token_ids:
            return TOKENIZER.decode(token_ids), True
        token_ids.append(token_id)
    return TOKENIZER.decode(token_ids), constraint.is_complete


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_logits_write_valid_compact_json(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        text, is_whole = write(SCHEMAS[name], rng)
        assert is_whole
        value = json.loads(text)
        jsonschema.validate(value, SCHEMAS[name])
        assert "\n" not in text
        if name == "assessment":
            assert assessment_from_json(text).description


def test_only_json_that_can_still_be_whole_may_come() -> None:
    constraint = COMPILER.compile({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]})
    allowed = np.flatnonzero(np.isfinite(constraint.mask(np.zeros(VOCAB_SIZE, dtype=np.float32))))
    assert {TOKENIZER.decode([int(token_id)]) for token_id in allowed} <= {"{", '{"'}


def test_rows_beyond_the_tokenizer_are_never_allowed() -> None:
    constraint = COMPILER.compile({"type": "string"})
    constraint.accept(IDS['"'])
    logits = constraint.mask(np.zeros(VOCAB_SIZE, dtype=np.float32))
    assert np.isneginf(logits[len(IDS) :]).all()
    assert np.isneginf(logits[list(TOKENIZER.control_ids.values())]).all()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "("},
        {"not": {"type": "string"}},
        {"const": {1, 2}},
    ],
)
def test_schema_that_cannot_be_enforced_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="JSON schema") as caught:
        COMPILER.compile(schema)
    assert "\n" not in str(caught.value)


def test_token_outside_the_schema_is_refused() -> None:
    with pytest.raises(PromptError, match="cannot be followed"):
        COMPILER.compile({"type": "boolean"}).accept(IDS["a"])


def test_prepared_vocabulary_is_not_read_again() -> None:
    compiler = ConstraintCompiler(TOKENIZER, VOCAB_SIZE, TOKENS.eos_token_ids)
    compiler.prepare()
    vocabulary = compiler._vocabulary
    assert vocabulary is not None
    compiler.compile({"type": "boolean"})
    assert compiler._vocabulary is vocabulary
