"""The child's side: `python -m harness.child ENGINE JSON` loads one engine, then carries out orders read from stdin.

One JSON object a line, both ways. The first line out says that the engine takes questions, the second that it answers.
What the engine's own libraries
write to stdout goes to stderr, so that it cannot be taken for an answer.
"""

import dataclasses
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any, Final

from harness.engine import Engine, Order, Timing

ENGINES: Final = ("ours", "llama_cpp", "openvino_genai", "fake")
"""Modules of `harness.engines`; each has `load(**options) -> Engine`."""


def carry_out(engine: Engine, order: Order) -> Timing:
    """Carry out an order with a clock beside it.

    Raises:
        RuntimeError: The engine wrote nothing, or more than it was told.
    """
    started_s = time.monotonic()
    if order.photo is not None:
        engine.encode(Path(order.photo).read_bytes())
    encoded_s = time.monotonic()
    if order.photo is not None:
        engine.read_ahead()
    asked_s, cpu_s = time.monotonic(), time.process_time()
    token_ids: list[int] = []
    first_s = asked_s
    for token_id in engine.stream(order):
        if not token_ids:
            first_s = time.monotonic()
        token_ids.append(token_id)
    ended_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
    if not 0 < len(token_ids) <= order.tokens:
        raise RuntimeError(f"the engine wrote {len(token_ids)} tokens, of {order.tokens} that it was told")
    late_s = engine.late_image_s if order.photo is not None else 0.0
    return Timing(
        image_s=encoded_s - started_s + late_s if order.photo is not None else 0.0,
        read_ahead_s=asked_s - encoded_s if order.photo is not None else 0.0,
        first_token_s=first_s - asked_s - late_s,
        generate_s=ended_s - asked_s - late_s,
        prompt_tokens=engine.prompt_tokens,
        tokens=len(token_ids),
        cpu_s=cpu_s,
        distinct_tokens=len(set(token_ids)),
        constraint_s=engine.constraint_s,
    )


def serve(engine: Engine, orders: IO[str], answers: IO[str]) -> None:
    """Answer every order until there are no more; a failure is an answer too, and ends nothing."""
    _write(answers, {"ready": engine.facts()})
    started_s = time.monotonic()
    engine.settle()
    _write(answers, {"settled_s": time.monotonic() - started_s})
    for line in orders:
        try:
            answer: dict[str, Any] = {"timing": dataclasses.asdict(carry_out(engine, Order(**json.loads(line))))}
        except Exception as error:  # noqa: BLE001 - the parent reports it, whatever an engine's library raises
            answer = {"error": f"{type(error).__name__}: {error}"}
        _write(answers, answer)


def _write(answers: IO[str], content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def main() -> None:
    """Load the engine that the command line names and serve it on this process's stdin and stdout."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    if name not in ENGINES:
        sys.exit(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = importlib.import_module(f"harness.engines.{name}").load(**options)
    serve(engine, sys.stdin, answers)


if __name__ == "__main__":
    main()
