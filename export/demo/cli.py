"""`python -m export.demo`: draw, train, measure and picture the demonstration model."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from export.demo.answers import ANSWERABLE_QUESTIONS
from export.demo.card import ATTRIBUTES, wrong_pairs
from export.demo.evaluation import FOLLOW_UP_PICTURES, ask_all, assess_all, compose_card, scores_of
from export.demo.pictures import load_set
from export.demo.shipped import write_shipped
from export.demo.training import HELD_OUT_FOLDER, MODEL_FOLDER, Recipe, draw_pictures
from export.demo.training import train as run_training

_REPORT_STEPS = 100

_work = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for drawings, states and the model; several GB.",
)


@click.group()
def main() -> None:
    """Make the demonstration model from nothing: drawings, training, accuracy card."""


@main.command()
@_work
@click.option("--processes", default=2, show_default=True, help="Drawings at the same time.")
def draw(work: Path, processes: int) -> None:
    """Draw the training set and the held-out set."""
    started_s = time.monotonic()
    draw_pictures(work, Recipe(), processes)
    _note_time(work, "drawing", time.monotonic() - started_s)


@main.command()
@_work
@click.option("--threads", default=2, show_default=True, help="Compute threads; does not change the steps.")
def train(work: Path, threads: int) -> None:
    """Train the model on what `draw` has drawn; about half an hour on two cores."""
    import torch

    torch.set_num_threads(threads)
    run_training(work, Recipe(), lambda stage: StepLog(work, stage))


@main.command()
@_work
@click.option(
    "--bundle", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Measure this bundle too."
)
@click.option("--pictures", "count", default=1_200, show_default=True, help="Held-out drawings to assess.")
@click.option("--threads", default=2, show_default=True, help="Compute threads.")
@click.option("--date", "date", required=True, help="Day of the measurement, ISO 8601.")
def evaluate(work: Path, bundle: Path | None, count: int, threads: int, date: str) -> None:
    """Measure the model, and a bundle made from it, on held-out drawings; write WORK/card.json."""
    import torch

    from export.demo.speakers import float32_speaker, runtime_speaker

    torch.set_num_threads(threads)
    pictures = load_set(work / HELD_OUT_FOLDER)
    speakers = {"float32": float32_speaker(work / MODEL_FOLDER)}
    if bundle is not None:
        speakers["quantized"] = runtime_speaker(bundle, threads)
    console, measured = Console(), {}
    for run, speaker in speakers.items():
        started_s = time.monotonic()
        with Progress(console=console) as progress:
            task = progress.add_task(run, total=count + len(ANSWERABLE_QUESTIONS) * FOLLOW_UP_PICTURES)
            on_answer = partial(progress.advance, task)
            samples = assess_all(speaker, pictures, count, on_answer)
            replies = ask_all(speaker, pictures, on_answer)
        measured[run] = scores_of(samples, replies)
        for name in ATTRIBUTES:
            console.print(f"{run}  {name}: {wrong_pairs(samples, name)}", soft_wrap=True)
        _note_time(work, f"evaluation, {run}", time.monotonic() - started_s)
    card = compose_card(pictures, count, measured, date)
    (work / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    _show_card(console, card)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def pictures(folder: Path) -> None:
    """Draw the pictures that ship with the product into FOLDER."""
    for path in write_shipped(folder):
        click.echo(f"{path}  {path.stat().st_size} bytes")


class StepLog:
    """Prints the mean of every hundred steps and records the wall time of a stage."""

    def __init__(self, work: Path, stage: str) -> None:
        self._work, self._stage, self._started_s = work, stage, time.monotonic()
        self._sums: dict[str, float] = {}
        self._console = Console()

    def __call__(self, step: int, figures: dict[str, float]) -> None:
        """Take the figures of one step."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if step % _REPORT_STEPS:
            return
        wall_s = time.monotonic() - self._started_s
        means = "  ".join(f"{name} {total / _REPORT_STEPS:.3f}" for name, total in self._sums.items())
        self._console.print(f"{self._stage} {step} {wall_s:.0f} s  {means}", soft_wrap=True)
        self._sums.clear()
        _note_time(self._work, self._stage, wall_s)


def _show_card(console: Console, card: dict[str, Any]) -> None:
    runs = list(card["mean"])
    table = Table("", *runs, title=f"{card['pictures']} held-out drawings")
    table.add_row("mean of the attributes", *(f"{card['mean'][run]:.3f}" for run in runs))
    for part in ("attributes", "each_colour", "skin_tones", "follow_ups"):
        table.add_section()
        for name, shares in card[part].items():
            table.add_row(name, *(f"{shares[run]:.3f}" if run in shares else "" for run in runs))
    table.add_section()
    for name in ("valid", "all_right"):
        table.add_row(name, *(f"{card[name][run]:.3f}" if run in card[name] else "" for run in runs))
    console.print(table)


def _note_time(work: Path, stage: str, wall_s: float) -> None:
    path = work / "wall_times.json"
    times = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**times, stage: round(wall_s, 1)}, indent=2) + "\n")
