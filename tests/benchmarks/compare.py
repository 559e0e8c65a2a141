"""Measure this project and its peers side by side, in turn, in one run; print a table, write JSON.

    python tests/benchmarks/compare.py [--bundle B] [--peers FOLDER] [--engines …] [--groups …] [--rounds 5]

Each engine runs in a process of its own, with the same prompts and as many threads, and computes alone. Without peers,
or with a small bundle, it measures what is there and says what is missing. How and why: README.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.figures import summarise
from harness.parent import EngineCommand, EngineError
from harness.peers import BASELINE, OURS, ours, peers
from harness.report import notes, table, write_json
from harness.rounds import ASSESSMENT_TOKENS, DECODED_TOKENS, GROUPS, Plan, Results, measure
from tokenizers import Tokenizer

from appliance.benchmark.machine import describe_machine
from appliance.demo import bundle_path
from appliance.medgemma.sessions import available_cores

BUILD = Path(__file__).parents[2] / "build"


def main() -> int:
    values = arguments()
    folder: Path = values.output.parent.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepared, missing = peers(values.peers.resolve(), values.threads)
    bundle = values.bundle or (values.peers / "bundle" if (values.peers / "bundle").is_dir() else bundle_path())
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    if is_small(manifest):
        prepared, missing = [], ["The bundle is not of the 4B shape, so no peer is compared with it."]
    commands = chosen([ours(bundle.resolve(), Path(sys.executable), values.threads), *prepared], values.engines)
    plan = Plan(
        commands=commands,
        tokenizer=Tokenizer.from_file(str(bundle / manifest["tokenizer_file"])),
        side_px=manifest["architecture"]["vision"]["image_size"],
        folder=folder,
        rounds=values.rounds,
        groups=frozenset(values.groups),
        threads=values.threads,
        seed=values.seed,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    results = Results()
    started_at, load_before = datetime.now(UTC), os.getloadavg()
    failure = run(plan, results)
    content = {
        "started_at": started_at.isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "load_before": load_before,
        "load_after": os.getloadavg(),
        "threads": values.threads,
        "rounds": values.rounds,
        "seed": values.seed,
        "tokens": {"decoded": DECODED_TOKENS, "assessment": ASSESSMENT_TOKENS},
        "failure": failure,
        "missing": missing,
        "bandwidth_gb_per_s": results.bandwidth_gb_per_s,
        "engines": results.facts,
        "figures": summarise(results.samples, OURS, BASELINE),
        "timings": results.timings,
    }
    write_json(values.output, content)
    print(page(content, [command.name for command in commands if command.name != OURS]))
    print(f"\nEvery sample: {values.output}")
    return 1 if failure else 0


def run(plan: Plan, results: Results) -> str | None:
    """Measure; return why it broke off, if it did."""
    try:
        measure(plan, results)
    except EngineError as error:
        results.pad(plan.rounds)
        return str(error)
    return None


def page(content: dict[str, Any], peer_names: Sequence[str]) -> str:
    machine, bandwidth = content["machine"], max(content["bandwidth_gb_per_s"], default=0.0)
    lines = [
        (
            f"{content['started_at']}, {machine['processor']}, {machine['cores']} cores, {content['threads']} threads, "
            f"memory read at {bandwidth:.1f} GB/s, load {content['load_before'][0]:.1f} before, "
            f"{content['rounds']} rounds, medians; a ratio is the median of the rounds' ratios."
        ),
        "",
        table(content["figures"], OURS, peer_names),
        "",
        *notes(content["figures"], content["timings"]),
        *content["missing"],
        *([f"It broke off: {content['failure']}"] if content["failure"] else []),
    ]
    return "\n".join(lines)


def is_small(manifest: dict[str, Any]) -> bool:
    """Whether a bundle is smaller than 4B shape: the peers' files are made from that one."""
    return bool(manifest["architecture"]["text"]["hidden_size"] < 2560)


def chosen(commands: Sequence[EngineCommand], names: Sequence[str] | None) -> list[EngineCommand]:
    """Return the commands whose names are wanted; all without a wish."""
    found = [command for command in commands if names is None or command.name in names]
    if not found:
        sys.exit(f"None of the engines {', '.join(names or ())} is here; there are "
                 f"{', '.join(command.name for command in commands)}.")  # fmt: skip
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="Ours; PEERS/bundle or the demonstration bundle by default.")
    parser.add_argument("--peers", type=Path, default=BUILD / "peers", help="What make bench-peers prepared.")
    parser.add_argument("--engines", nargs="+", help="Names as in the table; all by default.")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="What to measure; all by default.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=BUILD / "bench" / "compare.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
