"""The harness's results as a table to read and as JSON to keep."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def table(entries: Sequence[dict[str, Any]], ours: str, peers: Sequence[str]) -> str:
    """Return a Markdown table: medians of every engine, our ratio to every peer, and whether promises are kept."""
    head = ["figure", ours, *peers, *(f"ratio to {peer}" for peer in peers), "promised", "kept"]
    rows = [head, ["---"] * len(head)]
    for entry in entries:
        medians = [_number(entry["medians"].get(name)) for name in (ours, *peers)]
        shares = [_number(entry["ratios"].get(name)) for name in peers]
        rows.append([f"{entry['title']}, {entry['unit']}", *medians, *shares, *_promised(entry)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def notes(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return one sentence for every figure whose rounds lie far apart: half of the median or more."""
    lines = []
    for entry in entries:
        for name, values in entry["samples"].items():
            found = [value for value in values if value is not None]
            middle = entry["medians"][name]
            if len(found) > 1 and middle and max(found) - min(found) >= middle / 2:
                spread = f"{_number(min(found))} to {_number(max(found))} {entry['unit']}"
                lines.append(f"{entry['title']}: the rounds of {name} lie far apart, {spread}.")
    return lines


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
