"""The benchmark's result: as values for JSON, and as one page that a technician can read."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from appliance.benchmark.machine import Climate
from appliance.benchmark.model import Run, reading_speed, writing_speed

BUSY_LOAD_PER_CORE: Final = 0.5
"""Above it other programs take part of what is measured."""
SPREAD_MAX: Final = 1.5
"""Of the longest run over the shortest: beyond it a median of few runs says little."""
MEMORY_SHARE_MAX: Final = 0.8
"""Of the machine's memory for the model; the screen and the system need the rest."""
_LABEL_WIDTH: Final = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that one benchmark found."""

    at: str
    """ISO 8601, UTC."""
    machine: dict[str, Any]
    """As `describe_machine` gives it."""
    bundle: str
    warning: str | None
    """The bundle's own, such as that it is a demonstration."""
    disk_bytes: int
    providers: tuple[str, ...]
    threads: int
    load_before: float
    climate_before: Climate
    climate_after: Climate
    load_s: float
    peak_rss_bytes: int
    weight_bytes: int
    """That writing one token reads."""
    bandwidth_gb_per_s: float
    runs: tuple[Run, ...]

    def figures(self) -> dict[str, float | None]:
        """Return medians, by name and unit; `None` where the model wrote too little to be timed."""
        long_speed = writing_speed([run.long for run in self.runs])
        return {
            "load_s": self.load_s,
            "vision_s": self._median(lambda run: run.assessment.vision_s),
            "read_ahead_s": self._median(lambda run: run.assessment.read_ahead_s),
            "prefill_tokens_per_s": reading_speed([run.long for run in self.runs]),
            "first_token_s": self._median(lambda run: run.assessment.first_token_s),
            "decode_short_tokens_per_s": writing_speed([run.short for run in self.runs]),
            "decode_long_tokens_per_s": long_speed,
            "decode_schema_tokens_per_s": writing_speed([run.assessment for run in self.runs]),
            "assessment_s": self._median(lambda run: run.assessment_s),
            "peak_rss_gb": self.peak_rss_bytes / 1e9,
            "bandwidth_gb_per_s": self.bandwidth_gb_per_s,
            "decode_long_of_bandwidth": (long_speed or 0.0) * self.weight_bytes / 1e9 / self.bandwidth_gb_per_s,
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything, every run included, as values that JSON knows."""
        return {**asdict(self), "figures": self.figures(), "meaning": self.meaning()}

    def meaning(self) -> list[str]:
        """Return sentences: what the figures mean for a clinic, and what spoils them."""
        figures, assessments = self.figures(), [run.assessment_s for run in self.runs]
        sentences = [f"A photo is described in about {_duration(figures['assessment_s'])} on this machine."]
        if self.warning is not None:
            sentences.append(f'The model is marked "{self.warning}": name your own with --bundle.')
        if self.load_before > BUSY_LOAD_PER_CORE * self.machine["cores"]:
            sentences.append(f"Other programs were busy (load {self.load_before:.1f}): measure again when it is quiet.")
        shortest, longest = _duration(min(assessments)), _duration(max(assessments))
        if max(assessments) > SPREAD_MAX * min(assessments) and shortest != longest:
            sentences.append(
                f"The runs differ much, between {shortest} and {longest}: something else uses the machine."
            )
        before, after = self.climate_before.throttled, self.climate_after.throttled
        if before is not None and after is not None and after > before:
            sentences.append("The processor slowed down because of heat: give it air or a larger heat sink.")
        memory_gb = self.machine["memory_gb"]
        if memory_gb is not None and self.peak_rss_bytes / 1e9 > MEMORY_SHARE_MAX * memory_gb:
            sentences.append(
                f"The model takes most of this machine's {memory_gb:.1f} GB of memory: use a larger machine."
            )
        return sentences

    def _median(self, value_of: Callable[[Run], float]) -> float:
        return statistics.median(map(value_of, self.runs))


def page(measured: Measured) -> str:
    """Return the page."""
    figures, machine, runs = measured.figures(), measured.machine, measured.runs
    words = runs[0].long.prompt_tokens
    assessments = [run.assessment_s for run in runs]
    spread = (
        f"of {len(runs)}: {_seconds(min(assessments))} to {_seconds(max(assessments))}" if len(runs) > 1 else "once"
    )
    share = figures["decode_long_of_bandwidth"] or 0.0
    rows = [
        ("measured", f"{measured.at}, {len(runs)} runs, medians"),
        ("machine", f"{machine['processor']}, {machine['cores']} cores, {_memory(machine)}, {machine['architecture']}"),
        ("model", f"{measured.bundle}, {_size(measured.disk_bytes)} on disk"),
        ("runs on", f"{' + '.join(measured.providers)}, {measured.threads} threads"),
        ("conditions", _conditions(measured)),
        ("", ""),
        ("model opened and checked", _seconds(figures["load_s"])),
        ("photo read", f"{_seconds(figures['vision_s'])}, and {_seconds(figures['read_ahead_s'])} into the prompt"),
        (f"question of {words} tokens read", f"{_speed(figures['prefill_tokens_per_s'])}"),
        ("first word, once the photo is read", _seconds(figures["first_token_s"])),
        ("writing after a short question", _speed(figures["decode_short_tokens_per_s"])),
        ("writing after the long question", _speed(figures["decode_long_tokens_per_s"])),
        ("writing an assessment", _speed(figures["decode_schema_tokens_per_s"])),
        ("photo to finished assessment", f"{_seconds(figures['assessment_s'])} ({spread})"),
        ("memory at its peak", _size(measured.peak_rss_bytes)),
        ("reading memory", f"{measured.bandwidth_gb_per_s:.1f} GB/s; writing uses {100 * share:.0f} % of it"),
        ("", ""),
    ]
    lines = [f"{label:<{_LABEL_WIDTH}}  {text}".rstrip() for label, text in rows]
    return "\n".join([*lines, *measured.meaning()])


def _conditions(measured: Measured) -> str:
    before, after = measured.climate_before, measured.climate_after
    parts = [f"load {measured.load_before:.1f}"]
    if before.temperature_c is not None and after.temperature_c is not None:
        parts.append(f"{before.temperature_c:.0f} to {after.temperature_c:.0f} °C")
    if before.frequency_mhz is not None and after.frequency_mhz is not None:
        parts.append(f"{before.frequency_mhz:.0f} to {after.frequency_mhz:.0f} MHz")
    values = {"temperature": after.temperature_c, "clock frequency": after.frequency_mhz}
    unknown = [name for name, value in values.items() if value is None]
    if unknown:
        parts.append(f"{' and '.join(unknown)} cannot be read")
    return ", ".join(parts)


def _memory(machine: dict[str, Any]) -> str:
    return "memory unknown" if machine["memory_gb"] is None else f"{machine['memory_gb']:.1f} GB of memory"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def _speed(value: float | None) -> str:
    return "too little was written to tell" if value is None else f"{_rounded(value)} tokens/s"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _duration(value: float | None) -> str:
    """Say a duration as people do: a second at least, minutes from two on."""
    seconds = max(1, round(value or 0))
    if seconds < 120:
        return f"{seconds} second" + ("s" if seconds > 1 else "")
    return f"{round(seconds / 60)} minutes"
