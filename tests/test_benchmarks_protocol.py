"""Parent and child of the harness, with an engine that only counts; and whole rounds of two such engines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import rounds
from harness.engine import Order, Timing
from harness.engines.fake import LATE_S
from harness.parent import EngineCommand, EngineError, EngineProcess, harness_environment
from harness.rounds import GROUPS, Plan, Results, decode_speed, measure, memory_to_touch
from tokenizers import Tokenizer

from appliance.demo import bundle_path


def command(name: str = "fake", module: str = "fake", files: tuple[Path, ...] = ()) -> EngineCommand:
    options = {"greeting": name}
    return EngineCommand(name=name, python=Path(sys.executable), module=module, options=options, files=files)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with EngineProcess(command(), tmp_path / "log") as process:
        yield process


def test_an_engine_says_what_it_is_and_carries_out_orders(engine: EngineProcess, tmp_path: Path) -> None:
    assert engine.facts["version"] == "fake"
    assert engine.start_s > 0
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"12345")
    timing = engine.ask(Order(prompt="one two three", tokens=4, photo=str(photo), schema={"type": "string"}))
    assert (timing.prompt_tokens, timing.tokens, timing.distinct_tokens) == (8, 4, 4)
    assert timing.image_s > 0
    assert timing.read_ahead_s > 0
    assert 0 < timing.first_token_s <= timing.generate_s


def test_without_a_photo_no_time_is_its(engine: EngineProcess) -> None:
    timing = engine.ask(Order(prompt="a", tokens=1))
    assert (timing.image_s, timing.read_ahead_s) == (0.0, 0.0)


def test_a_photo_that_is_encoded_late_counts_as_the_photos_time(engine: EngineProcess, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"12345")
    late = engine.ask(Order(prompt="encode late", tokens=1, photo=str(photo)))
    assert late.image_s >= LATE_S
    assert -LATE_S < late.first_token_s <= late.generate_s < 0


def test_processor_time_is_told_beside_the_clock(engine: EngineProcess) -> None:
    timing = engine.ask(Order(prompt="a", tokens=200_000))
    assert timing.cpu_s > 0
    assert timing.cpu_s < timing.generate_s + 1


def test_chatter_of_a_library_is_no_answer(engine: EngineProcess, tmp_path: Path) -> None:
    engine.ask(Order(prompt="a", tokens=1))
    engine.stop()
    assert "a library's chatter" in (tmp_path / "log").read_text()


def test_a_failed_order_is_told_and_the_next_one_works(engine: EngineProcess) -> None:
    with pytest.raises(EngineError, match=r"^fake failed: ValueError: as told\.$"):
        engine.ask(Order(prompt="fail", tokens=1))
    assert engine.ask(Order(prompt="a", tokens=2)).tokens == 2


def test_an_engine_that_writes_nothing_failed(engine: EngineProcess) -> None:
    with pytest.raises(EngineError, match="wrote 0 tokens, of 1"):
        engine.ask(Order(prompt="end early", tokens=1))


def test_an_engine_that_dies_is_told(engine: EngineProcess) -> None:
    with pytest.raises(EngineError, match="ended unexpectedly"):
        engine.ask(Order(prompt="die", tokens=1))
    with pytest.raises(EngineError, match=r"is gone|ended unexpectedly"):
        engine.ask(Order(prompt="a", tokens=1))


def test_an_engine_that_does_not_load_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"its last words are in .*: there is no engine 'no such engine'"):
        EngineProcess(command(module="no such engine"), tmp_path / "log")


def test_memory_is_watched_from_outside(engine: EngineProcess) -> None:
    memory = engine.memory()
    assert 0 < memory["anonymous_gb"] <= memory["peak_rss_gb"] < 1


def test_as_much_memory_is_touched_as_the_largest_engine_takes(tmp_path: Path) -> None:
    files = [tmp_path / "small", tmp_path / "large"]
    for file, size in zip(files, (10, 1000), strict=True):
        file.write_bytes(bytes(size))
    commands = [command("one", files=(files[0],)), command("two", files=tuple(files)), command("none")]
    assert memory_to_touch(commands, available=1_000_000) == 2020
    assert memory_to_touch(commands, available=3000) == 1500
    assert memory_to_touch(commands, available=None) == 0


def test_touching_takes_the_memory() -> None:
    script = """
import sys
from appliance.benchmark.machine import peak_rss_bytes
from harness import touch_memory
sys.argv = ["", str(100 << 20)]
touch_memory.main()
print(peak_rss_bytes() >> 20)
"""
    environment = harness_environment()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert 100 <= int(done.stdout) < 200


def test_decode_speed_counts_the_tokens_after_the_first() -> None:
    timing = Timing(
        image_s=9,
        read_ahead_s=1,
        first_token_s=2,
        generate_s=4,
        prompt_tokens=5,
        tokens=11,
        cpu_s=3,
        distinct_tokens=11,
    )
    assert decode_speed(timing) == 5.0


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(rounds, "read_bandwidth_gb_per_s", lambda _threads: 10.0)  # its own test reads memory
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    return Plan(
        commands=[command("one", files=(file,)), command("two")],
        tokenizer=Tokenizer.from_file(str(bundle_path() / "tokenizer.json")),
        side_px=32,
        folder=tmp_path,
        rounds=2,
        groups=frozenset(GROUPS),
        threads=1,
        seed=1,
        say=lambda _line: None,
    )


def test_rounds_give_every_engine_one_sample_a_figure_in_turn(plan: Plan) -> None:
    results = Results()
    measure(plan, results)
    for figure, by_engine in results.samples.items():
        assert {name: len(values) for name, values in by_engine.items()} == {"one": 2, "two": 2}, figure
    expected = {"prefill_300", "prefill_600", "decode_600", "decode_bandwidth", "image", "first_token", "decode_schema"}
    assert expected | {"assessment", "peak_rss_gb", "start_warm", "start_cold", "decode_busy"} <= set(results.samples)
    assert json.loads(json.dumps(results.timings)) == results.timings
    # Who begins changes from round to round.
    assert [next(t["engine"] for t in results.timings if t["round"] == number) for number in (0, 1)] == ["one", "two"]


def test_no_two_samples_share_a_prompt(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    ask = EngineProcess.ask

    def listen(self: EngineProcess, order: Order) -> Timing:
        asked.append((self.command.name, order.prompt))
        return ask(self, order)

    monkeypatch.setattr(EngineProcess, "ask", listen)
    measure(plan, Results())
    prompts = [prompt for name, prompt in asked if name == "one"]
    # The two timed starts and what follows are three processes: each may be given the same first question.
    assert len(set(prompts)) == len(prompts) - 2 * plan.rounds
    assert {prompt for name, prompt in asked if name == "two"} == set(prompts)


def test_an_answer_that_ends_early_is_not_compared(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "text_of", lambda *_: "end early")
    monkeypatch.setattr(rounds, "SHORTEST", 1)
    results = Results()
    with pytest.raises(EngineError):
        measure(plan, results)
