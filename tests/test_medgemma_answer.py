"""What an answer shows: stop strings, every eos, and thought set aside."""

from itertools import pairwise

import pytest
from checkpoint_files import make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.medgemma.answer import Answer
from appliance.medgemma.spec import TokenSpec
from appliance.medgemma.stops import StopStrings
from appliance.medgemma.tokenizer import Tokenizer

IDS = make_tokenizer().get_vocab()
TOKENS = TokenSpec(
    bos_token_id=IDS["<bos>"],
    pad_token_id=IDS["<pad>"],
    eos_token_ids=(IDS["<eos>"], IDS["<end_of_turn>"]),
    thought_start_token_id=IDS["<unused94>"],
    thought_end_token_id=IDS["<unused95>"],
)
TOKENIZER = Tokenizer(make_tokenizer(), TOKENS)


def read(text: str, stop: tuple[str, ...] = ()) -> tuple[Answer, list[str]]:
    """Feed a text whose control strings are meant as control tokens."""
    answer = Answer(TOKENIZER, TOKENS, stop)
    shown = []
    for token_id in TOKENIZER.encode(text):
        shown.append(answer.push(token_id))
        if answer.is_finished:
            break
    shown.append(answer.flush())
    return answer, shown


@pytest.mark.parametrize("eos", ["<eos>", "<end_of_turn>"])
def test_every_eos_ends_the_answer_and_is_not_shown(eos: str) -> None:
    answer, shown = read(f"a lesion{eos} and more")
    assert answer.is_finished
    assert answer.text == "".join(shown) == "a lesion"
    assert answer.token_ids[-1] == IDS[eos]


def test_thought_is_set_aside_and_never_shown() -> None:
    answer, shown = read("Well <unused94>thought\nis it é?<unused95>the lesion is é.<eos>")
    assert answer.thought == "thought\nis it é?"
    assert answer.text == "".join(shown) == "Well the lesion is é."


def test_thought_without_an_end_leaves_no_text() -> None:
    answer, shown = read("<unused94>thought é")
    assert (answer.text, answer.thought) == ("", "thought é")
    assert set(shown) == {""}


def test_end_of_thought_without_a_beginning_changes_nothing() -> None:
    assert read("a<unused95>b")[0].text == "ab"


def test_stop_string_in_a_thought_does_not_end_the_answer() -> None:
    answer, _ = read("<unused94>STOP<unused95>go", stop=("STOP",))
    assert answer.text == "go"
    assert not answer.is_finished


def test_text_ends_before_the_stop_string() -> None:
    answer, shown = read("the lesion\n\nUser: more", stop=("\n\nUser:",))
    assert answer.is_finished
    assert answer.text == "".join(shown) == "the lesion"


def test_what_only_looked_like_a_stop_string_is_shown() -> None:
    answer, _ = read("the lesion\n\nUse", stop=("\n\nUser:",))
    assert answer.text == "the lesion\n\nUse"
    assert not answer.is_finished


texts = st.text(alphabet="ab", max_size=24)


@given(texts, st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 24)))
@settings(deadline=None)  # a busy machine is no failure
def test_stop_strings_cut_at_the_earliest_however_text_is_split(text: str, strings: list[str], cuts: list[int]) -> None:
    stops = StopStrings(strings)
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    shown = "".join(stops.push(text[start:end]) for start, end in pairwise(places)) + stops.flush()

    found = [(text.find(string) + len(string), text.find(string)) for string in strings if string in text]
    if not found:
        assert shown == text
        assert not stops.is_reached
        return
    assert stops.is_reached
    # Nothing that was shown holds a stop string, and it is the text up to one of them.
    assert text.startswith(shown)
    assert not any(string in shown for string in strings)
    assert any(text[len(shown) :].startswith(string) for string in strings)


def test_empty_stop_string_is_no_stop_string() -> None:
    stops = StopStrings([""])
    assert stops.push("a") == "a"
    assert not stops.is_reached
