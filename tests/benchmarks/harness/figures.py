"""Figures and statistics: what is measured, what the project promises, medians, and ratios within a round.

Pure: no process, no clock, no file.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Samples = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By figure, then by engine: one value a round, `None` where that round has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a figure must reach and what it aims at, as a ratio to the baseline engine or as it is."""

    of: Literal["ratio", "value"]
    must: float | None = None
    aim: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that is measured."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    promise: Promise | None = None

    def is_reached(self, value: float, limit: float) -> bool:
        """Whether a value is as good as a limit."""
        return value >= limit if self.better == "higher" else value <= limit


FIGURES: Final = (
    Figure(
        key="prefill_300",
        title="prefill, prompt of 300 tokens",
        unit="tokens/s",
        better="higher",
        promise=Promise(of="ratio", must=1.35, aim=1.5),
    ),
    Figure(
        key="prefill_600",
        title="prefill, prompt of 600 tokens",
        unit="tokens/s",
        better="higher",
        promise=Promise(of="ratio", must=1.35, aim=1.5),
    ),
    Figure(
        key="decode_600",
        title="decode at context 600",
        unit="tokens/s",
        better="higher",
        promise=Promise(of="ratio", must=1.2, aim=1.5),
    ),
    Figure(
        key="decode_bandwidth",
        title="decode at context 600, weights read, of the bandwidth measured",
        unit="%",
        better="higher",
        promise=Promise(of="value", aim=80),
    ),
    Figure(
        key="image",
        title="one photo to features",
        unit="s",
        better="lower",
        promise=Promise(of="ratio", must=0.42, aim=0.30),
    ),
    Figure(
        key="first_token",
        title="Assess to first token, photo encoded (and read ahead) before",
        unit="s",
        better="lower",
        promise=Promise(of="value", must=2, aim=1),
    ),
    Figure(
        key="decode_schema",
        title="decode held to the assessment's schema",
        unit="tokens/s",
        better="higher",
        promise=Promise(of="ratio", aim=2),
    ),
    Figure(
        key="assessment",
        title="shutter to finished assessment",
        unit="s",
        better="lower",
        promise=Promise(of="ratio", must=0.5, aim=0.35),
    ),
    Figure(
        key="assessment_constrained",
        title="the same, search for allowed tokens included",
        unit="s",
        better="lower",
    ),
    Figure(
        key="peak_rss_gb",
        title="peak memory, mapped weights included",
        unit="GB",
        better="lower",
        promise=Promise(of="value", must=4.0, aim=3.2),
    ),
    Figure(key="anonymous_gb", title="peak memory, mapped weights not counted", unit="GB", better="lower"),
    Figure(
        key="start_warm",
        title="start to ready, files in the page cache",
        unit="s",
        better="lower",
        promise=Promise(of="value", must=5),
    ),
    Figure(
        key="first_answer_warm", title="start to the first token of a short question, warm", unit="s", better="lower"
    ),
    Figure(
        key="start_cold",
        title="start to ready, files not in the page cache",
        unit="s",
        better="lower",
        promise=Promise(of="value", must=12),
    ),
    Figure(
        key="first_answer_cold", title="start to the first token of a short question, cold", unit="s", better="lower"
    ),
    Figure(key="decode_busy", title="decode at context 300, a kiosk busy beside it", unit="tokens/s", better="higher"),
    Figure(
        key="decode_busy_share",
        title="the same, of the quiet figure",
        unit="%",
        better="higher",
        promise=Promise(of="value", must=50),
    ),
    Figure(
        key="kiosk_p95",
        title="that kiosk's 20 ms of work, 95th percentile of its duration",
        unit="ms",
        better="lower",
        promise=Promise(of="value", must=200),
    ),
)


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of what there is, or `None` if there is nothing."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def ratios(ours: Sequence[float | None], peer: Sequence[float | None]) -> list[float | None]:
    """Return our value over the peer's, round by round; `None` where either is missing or the peer's is 0.

    Raises:
        ValueError: They are not of the same rounds.
    """
    if len(ours) != len(peer):
        raise ValueError(f"{len(ours)} rounds of ours and {len(peer)} of a peer's cannot be compared")
    return [None if mine is None or not other else mine / other for mine, other in zip(ours, peer, strict=True)]


def summarise(samples: Samples, ours: str, baseline: str | None) -> list[dict[str, Any]]:
    """Return one entry a figure that has samples, in the order of `FIGURES`.

    Args:
        samples: Of all engines.
        ours: Name of the engine whose promises are looked at.
        baseline: Name of the engine that ratios are promised against; `None` when it is missing.
    """
    return [_entry(figure, samples[figure.key], ours, baseline) for figure in FIGURES if figure.key in samples]


def _entry(
    figure: Figure, by_engine: Mapping[str, Sequence[float | None]], ours: str, baseline: str | None
) -> dict[str, Any]:
    mine = by_engine.get(ours, ())
    by_peer = {name: ratios(mine, values) for name, values in by_engine.items() if name != ours and mine}
    middle = {name: median(values) for name, values in by_peer.items()}
    entry: dict[str, Any] = {
        "figure": figure.key,
        "title": figure.title,
        "unit": figure.unit,
        "better": figure.better,
        "samples": {name: list(values) for name, values in by_engine.items()},
        "medians": {name: median(values) for name, values in by_engine.items()},
        "ratio_samples": by_peer,
        "ratios": middle,
    }
    if figure.promise is not None:
        found = median(mine) if figure.promise.of == "value" else middle.get(baseline or "")
        entry["promise"] = _verdict(figure, figure.promise, found)
    return entry


def _verdict(figure: Figure, promise: Promise, found: float | None) -> dict[str, Any]:
    limits = {"must": promise.must, "aim": promise.aim}
    verdict: dict[str, Any] = {"of": promise.of, "found": found}
    for name, limit in limits.items():
        if limit is not None:
            verdict[name] = limit
            verdict[f"{name}_met"] = None if found is None else figure.is_reached(found, limit)
    return verdict
