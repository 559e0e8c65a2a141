"""The measuring: in each round every engine is started and given the same orders, figure by figure, in turn."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tokenizers import Tokenizer

from appliance.benchmark.bandwidth import read_bandwidth_gb_per_s
from appliance.benchmark.prompts import photo
from appliance.medgemma.plan import available_bytes
from harness.engine import Order, Timing
from harness.parent import EngineCommand, EngineError, EngineProcess, harness_environment
from harness.prompts import UNBOUNDED_ASSESSMENT_SCHEMA, assessment_prompt, text_of

DECODED_TOKENS: Final = 48
ASSESSMENT_TOKENS: Final = 200
SHORTEST, SHORT, LONG = 32, 300, 600
"""Tokens of the prompts."""
PIECES_MIN: Final = 20
"""Of the kiosk's work, for a 95th percentile to mean anything."""
GROUPS: Final = ("prefill", "decode", "assessment", "busy", "cold")
"""What can be chosen; starting and memory are always measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    commands: Sequence[EngineCommand]
    tokenizer: Tokenizer
    """The bundle's, for the lengths of prompts."""
    side_px: int
    """Of a photo, as the model takes it."""
    folder: Path
    """For photos and logs."""
    rounds: int
    groups: frozenset[str]
    threads: int
    seed: int
    say: Callable[[str], None]


@dataclass(slots=True)
class Results:
    """Samples as `figures.Samples`, and what engines said about themselves."""

    samples: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    timings: list[dict[str, object]] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    bandwidth_gb_per_s: list[float] = field(default_factory=list)

    def add(self, figure: str, engine: str, value: float, round_number: int) -> None:
        """Keep a value of a round; rounds without one get `None`."""
        values = self.samples.setdefault(figure, {}).setdefault(engine, [])
        values += [None] * (round_number + 1 - len(values))
        values[round_number] = value

    def pad(self, rounds: int) -> None:
        """Give every list one value a round."""
        for by_engine in self.samples.values():
            for values in by_engine.values():
                values.extend([None] * (rounds - len(values)))


def measure(plan: Plan, results: Results) -> None:
    """Run all rounds, filling `results` as they go, so that what was measured before a failure is kept.

    Raises:
        EngineError: An engine did not do what it was told.
    """
    for number in range(plan.rounds):
        # Another order in each round, so that none always comes after the same one.
        commands = [*plan.commands[number % len(plan.commands) :], *plan.commands[: number % len(plan.commands)]]
        results.bandwidth_gb_per_s.append(read_bandwidth_gb_per_s(plan.threads))
        this_round = _Round(plan, results, number)
        this_round.time_starts(commands, "warm")
        if "cold" in plan.groups:
            this_round.time_starts(commands, "cold")
        this_round.run(commands)
        results.pad(number + 1)


class _Round:
    def __init__(self, plan: Plan, results: Results, number: int) -> None:
        self._plan = plan
        self._results = results
        self._number = number
        self._seed = plan.seed + 1000 * number

    def run(self, commands: Sequence[EngineCommand]) -> None:
        with ExitStack() as stack:
            engines = [self._start(command, stack) for command in commands]
            for engine in engines:
                self._ask_shortest(engine)
            steps = {"prefill": self._prefill, "decode": self._decode, "assessment": self._assess, "busy": self._busy}
            for group, step in steps.items():
                for engine in engines if group in self._plan.groups else ():
                    step(engine)
            for engine in engines:
                for figure, value in engine.memory().items():
                    self._add(figure, engine, value)

    def time_starts(self, commands: Sequence[EngineCommand], state: Literal["warm", "cold"]) -> None:
        """Start each engine alone, as a box does: beside another it waits for memory that is not there yet."""
        prepare = _read if state == "warm" else _forget
        for command in commands:
            for path in command.files:
                prepare(path)
            _touch_memory(memory_to_touch(commands, available_bytes()))
            with ExitStack() as stack:
                engine = self._start(command, stack)
                self._add(f"start_{state}", engine, engine.start_s)
                short = self._ask_shortest(engine)
                self._add(f"first_answer_{state}", engine, engine.start_s + engine.settled_s + short.first_token_s)

    def _start(self, command: EngineCommand, stack: ExitStack) -> EngineProcess:
        """Start an engine that the stack will end."""
        engine = stack.enter_context(EngineProcess(command, self._plan.folder / "engines.log"))
        self._results.facts[command.name] = engine.facts
        return engine

    def _ask_shortest(self, engine: EngineProcess) -> Timing:
        return self._ask(engine, Order(prompt=text_of(SHORTEST, self._seed + 1, self._plan.tokenizer), tokens=1))

    def _prefill(self, engine: EngineProcess) -> None:
        timing = self._ask(engine, Order(prompt=self._text(SHORT, 2), tokens=1))
        self._add("prefill_300", engine, timing.prompt_tokens / timing.first_token_s)

    def _decode(self, engine: EngineProcess) -> None:
        # The limit is measured on the spot, before and after: what a host's other guests leave of the memory changes
        # from one half minute to the next.
        limits = [read_bandwidth_gb_per_s(self._plan.threads)]
        timing = self._ask(engine, Order(prompt=self._text(LONG, 3), tokens=DECODED_TOKENS))
        limits.append(read_bandwidth_gb_per_s(self._plan.threads))
        self._add("prefill_600", engine, timing.prompt_tokens / timing.first_token_s)
        self._add("decode_600", engine, decode_speed(timing))
        weight_gb = float(engine.facts["weight_bytes"]) / 1e9
        self._add("decode_bandwidth", engine, 100 * decode_speed(timing) * weight_gb / max(limits))

    def _assess(self, engine: EngineProcess) -> None:
        if not engine.command.reads_photos:
            return
        path = self._plan.folder / f"photo-{self._seed}.jpg"
        path.write_bytes(photo(self._seed, self._plan.side_px))
        order = Order(
            prompt=assessment_prompt(self._seed),
            photo=str(path),
            schema=UNBOUNDED_ASSESSMENT_SCHEMA,
            tokens=ASSESSMENT_TOKENS,
        )
        timing = self._ask(engine, order)
        total_s = timing.image_s + timing.read_ahead_s + timing.generate_s
        self._add("image", engine, timing.image_s)
        self._add("first_token", engine, timing.first_token_s)
        self._add("assessment", engine, total_s - timing.constraint_s)
        self._add("assessment_constrained", engine, total_s)
        writing_s = timing.generate_s - timing.first_token_s - timing.constraint_s
        self._add("decode_schema", engine, (timing.tokens - 1) / writing_s)

    def _busy(self, engine: EngineProcess) -> None:
        quiet = self._ask(engine, Order(prompt=self._text(SHORT, 4), tokens=DECODED_TOKENS))
        with _kiosk() as durations_ms:
            busy = self._ask(engine, Order(prompt=self._text(SHORT, 5), tokens=DECODED_TOKENS))
        self._add("decode_busy", engine, decode_speed(busy))
        self._add("decode_busy_share", engine, 100 * decode_speed(busy) / decode_speed(quiet))
        if len(durations_ms) >= PIECES_MIN:
            self._add("kiosk_p95", engine, statistics.quantiles(durations_ms, n=20)[-1])

    def _text(self, tokens: int, seed: int) -> str:
        return text_of(tokens, self._seed + seed, self._plan.tokenizer)

    def _ask(self, engine: EngineProcess, order: Order) -> Timing:
        timing = engine.ask(order)
        if timing.tokens < order.tokens and len(self._plan.commands) > 1:
            raise EngineError(f"{engine.command.name} ended after {timing.tokens} tokens: that compares with nothing")
        counts = f"{timing.prompt_tokens} + {timing.tokens} tokens ({timing.distinct_tokens} different)"
        seconds = (
            f"photo {timing.image_s:.1f} s, first token {timing.first_token_s:.2f} s, all {timing.generate_s:.1f} s"
        )
        self._plan.say(f"round {self._number + 1}: {engine.command.name}: {counts}, {seconds}")
        entry: dict[str, object] = {"round": self._number, "engine": engine.command.name, "seed": self._seed}
        self._results.timings.append(entry | {key: getattr(timing, key) for key in timing.__slots__})
        return timing

    def _add(self, figure: str, engine: EngineProcess, value: float) -> None:
        self._results.add(figure, engine.command.name, value, self._number)


def decode_speed(timing: Timing) -> float:
    """Return tokens a second after the first one."""
    return (timing.tokens - 1) / (timing.generate_s - timing.first_token_s)


def memory_to_touch(commands: Sequence[EngineCommand], available: int | None) -> int:
    """Return how many bytes to touch before a start: twice the largest engine's files, or half of what there is."""
    largest = max(sum(path.stat().st_size for path in command.files) for command in commands)
    return min(2 * largest, (available or 0) // 2)


def _touch_memory(wanted_bytes: int) -> None:
    command = [sys.executable, "-m", "harness.touch_memory", str(wanted_bytes)]
    subprocess.run(command, env=harness_environment(), check=True)


@contextmanager
def _kiosk() -> Iterator[list[float]]:
    """Keep a core busy meanwhile; afterwards the list holds how long each piece of work took, in ms."""
    durations_ms: list[float] = []
    command = [sys.executable, "-m", "harness.kiosk_load"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=harness_environment()) as load:
        assert load.stdout is not None
        load.stdout.readline()
        try:
            yield durations_ms
        finally:
            durations_ms += json.loads(load.communicate()[0])


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def _forget(path: Path) -> None:
    """Ask the kernel to drop a file from the page cache; it keeps what some process has mapped."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
