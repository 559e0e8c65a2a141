"""The streaming detokenizer: whole characters only, and joined the same as decoding at once."""

import unicodedata

import pytest
import tokenizers
from checkpoint_files import make_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.medgemma.detokenizer import Detokenizer
from appliance.medgemma.spec import TokenSpec
from appliance.medgemma.tokenizer import Tokenizer

TOKENS = TokenSpec(bos_token_id=2, pad_token_id=0, eos_token_ids=(1, 6))
TOKENIZER = Tokenizer(make_tokenizer(), TOKENS)
FIRST_BYTE_ID = make_tokenizer().get_vocab()["<0x00>"]


def byte_level_tokenizer() -> tokenizers.Tokenizer:
    """Make a vocabulary in which every token is one byte and none is called so."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<end>": 6, **{c: 10 + i for i, c in enumerate(alphabet)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


BYTE_LEVEL = Tokenizer(byte_level_tokenizer(), TOKENS)
BYTE_LEVEL_PIECES = Detokenizer(BYTE_LEVEL)


def stream(token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(TOKENIZER)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


@given(st.text(max_size=40))
@settings(deadline=None)  # a busy machine is no failure
@example("a\N{ZERO WIDTH JOINER}b")
@example("\N{WOMAN}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}\N{ZERO WIDTH JOINER}\N{MICROSCOPE} naevus")
@example("त्वचा पर घाव")
@example("皮肤 病变\n\n  x")
def test_any_text_streams_back_whole(text: str) -> None:
    token_ids = TOKENIZER.encode_text(text)
    pieces = stream(token_ids)
    assert "".join(pieces) == TOKENIZER.decode(token_ids) == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@given(st.lists(st.integers(0, 420), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_tokens_stream_to_what_decoding_at_once_gives(token_ids: list[int]) -> None:
    assert "".join(stream(token_ids)) == TOKENIZER.decode(token_ids)


byte_runs = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=5).map(lambda run: [FIRST_BYTE_ID + byte for byte in run]),
        st.sampled_from([[0], [1], [7], [9], [300], [290]]),
    ),
    max_size=12,
)


@given(byte_runs)
@settings(max_examples=300, deadline=None)
def test_broken_byte_runs_stream_to_what_decoding_at_once_gives(runs: list[list[int]]) -> None:
    token_ids = [token_id for run in runs for token_id in run]
    assert "".join(stream(token_ids)) == TOKENIZER.decode(token_ids)


def test_character_comes_with_the_token_after_its_last_byte() -> None:
    emoji = [FIRST_BYTE_ID + byte for byte in "🔬".encode()]
    letter = TOKENIZER.encode("x")
    assert stream([*emoji, *letter]) == ["", "", "", "", "🔬x", ""]


def test_incomplete_character_at_the_end_becomes_replacement_characters() -> None:
    half = [FIRST_BYTE_ID + byte for byte in "é".encode()[:1]]
    assert stream(half) == ["", "\N{REPLACEMENT CHARACTER}"]


@given(st.text(max_size=20))
@settings(deadline=None)  # a busy machine is no failure
@example("🔬é皮")
def test_byte_level_vocabularies_stream_whole_characters_too(text: str) -> None:
    pieces = [BYTE_LEVEL_PIECES.push(token_id) for token_id in BYTE_LEVEL.encode_text(text)]
    shown = "".join([*pieces, BYTE_LEVEL_PIECES.flush()])
    assert shown == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("text", ["plain words only", unicodedata.normalize("NFD", "née à Orléans")])
def test_text_is_shown_as_soon_as_it_is_certain(text: str) -> None:
    """Only the tokens of a byte run wait: everything before it is out."""
    token_ids = TOKENIZER.encode_text(text)
    detokenizer = Detokenizer(TOKENIZER)
    shown = ""
    for count, token_id in enumerate(token_ids, 1):
        shown += detokenizer.push(token_id)
        if token_id not in TOKENIZER.byte_token_ids:
            assert shown == TOKENIZER.decode(token_ids[:count])
