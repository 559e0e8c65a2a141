"""The harness's results as a table to read and as JSON to keep."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

DISTINCT_SHARE_MIN: Final = 0.5
"""Of an answer's tokens; random weights that are decoded greedily often repeat one token."""


def table(entries: Sequence[dict[str, Any]], ours: str, peers: Sequence[str]) -> str:
    """Return a Markdown table: medians of every engine, our ratio to every peer, and whether promises are kept."""
    head = ["figure", ours, *peers, *(f"ratio to {peer}" for peer in peers), "promised", "kept"]
    rows = [head, ["---"] * len(head)]
    for entry in entries:
        medians = [_number(entry["medians"].get(name)) for name in (ours, *peers)]
        shares = [_number(entry["ratios"].get(name)) for name in peers]
        rows.append([f"{entry['title']}, {entry['unit']}", *medians, *shares, *_promised(entry)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def notes(entries: Sequence[dict[str, Any]], timings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences about what makes figures doubtful.

    Args:
        entries: Figures; one whose rounds lie half of the median apart is named.
        timings: Every order carried out; an engine that wrote few different tokens is named.
    """
    return [*_wide_spreads(entries), *_circles(timings)]


def _wide_spreads(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for name, values in entry["samples"].items():
            found = [value for value in values if value is not None]
            middle = entry["medians"][name]
            if len(found) > 1 and middle and max(found) - min(found) >= middle / 2:
                spread = f"{_number(min(found))} to {_number(max(found))} {entry['unit']}"
                yield f"{entry['title']}: the rounds of {name} lie far apart, {spread}."


def _circles(timings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Name each engine once, with its worst answer: what repeats itself is easily guessed ahead."""
    worst: dict[str, Mapping[str, Any]] = {}
    for timing in timings:
        share = timing["distinct_tokens"] / timing["tokens"]
        if timing["tokens"] > 1 and share < DISTINCT_SHARE_MIN:
            known = worst.get(timing["engine"])
            if known is None or share < known["distinct_tokens"] / known["tokens"]:
                worst[timing["engine"]] = timing
    for name, timing in worst.items():
        counts = f"{timing['distinct_tokens']} different tokens of {timing['tokens']}"
        yield f"{name} wrote only {counts}: guessing tokens ahead looks better than it is with a trained model."


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write everything that was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _promised(entry: dict[str, Any]) -> tuple[str, str]:
    promise = entry.get("promise")
    if promise is None:
        return "", ""
    sign = ">=" if entry["better"] == "higher" else "<="
    unit = "x" if promise["of"] == "ratio" else f" {entry['unit']}"
    limits = [f"{name} {sign} {promise[name]:g}{unit}" for name in ("must", "aim") if name in promise]
    words = {True: "yes", False: "NO", None: "not measured"}
    kept = [f"{name} {words[promise[f'{name}_met']]}" for name in ("must", "aim") if name in promise]
    return ", ".join(limits), ", ".join(kept)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
