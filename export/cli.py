"""The command `dermstation export`: a checkpoint in, a bundle out; or a bundle compared with its checkpoint.

It parses, shows progress and passes on; every error is a `DermstationError` that the caller turns into one sentence.
"""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.errors import DermstationError
from appliance.medgemma.bundle import MANIFEST_NAME
from export.errors import CheckpointError
from export.exporter import ExportOptions, export_checkpoint
from export.hub import locate_checkpoint
from export.recipe import DEFAULT_RECIPE, RECIPES

_INT_OR_FLOAT = click.Choice(["int4", "int8", "float32"])


class _Bar:
    """Progress on stderr while it lasts; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("Reading", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, what: str, total_bytes: int) -> None:
        """Start a new part."""
        self._progress.reset(self._task, total=total_bytes, description=what)

    def advance(self, size_bytes: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, size_bytes)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder that the bundle becomes.")
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default=DEFAULT_RECIPE,
    show_default=True,
    help="Which matrices get how many bits.",
)
@click.option("--decoder", type=_INT_OR_FLOAT, help="All decoder matrices alike, in place of the recipe's.")
@click.option("--embedding", type=_INT_OR_FLOAT, help="Embedding table and head, in place of the recipe's.")
@click.option(
    "--vision",
    type=click.Choice(["int8", "float16", "float32"]),
    help="Matrices of the vision tower, in place of the recipe's.",
)
@click.option("--cache", type=click.Choice(["int8", "float32"]), help="Keys and values, in place of the recipe's.")
@click.option("--name", help="Name of the bundle; the checkpoint's own by default.")
@click.option("--licence", help="Licence of the weights, if the checkpoint does not say: an SPDX id or a name.")
@click.option("--warning", help="Sentence that every screen shows beside the model's text.")
@click.option(
    "--card", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Measured accuracy, as JSON."
)
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--verify", type=click.Path(path_type=Path), metavar="BUNDLE", help="Compare a bundle with --reference.")
@click.option("--reference", metavar="CHECKPOINT", help="What --verify compares with; may be another bundle of it.")
@click.option(
    "--pictures", type=click.IntRange(min=0), default=12, show_default=True, help="Drawings that --verify talks about."
)
@click.option(
    "--golden", type=click.Path(path_type=Path), metavar="BUNDLE", help="Write what the model says into its bundle."
)
def export(
    checkpoint: str | None, output: Path | None, verify: Path | None, golden: Path | None, **options: Any
) -> None:
    """Turn CHECKPOINT, a Hugging Face folder or hub id, into a bundle that the engine runs.

    With --verify, compare a bundle with its checkpoint stage by stage and write the result into the bundle; that
    needs torch and transformers. With another bundle as --reference, best one in float32, only next tokens are
    compared, and neither is needed.

    With --golden, ask a finished bundle once and write its answers into it: the engine asks the same at every start,
    and leaves a model that answers otherwise switched off.
    """
    reference, revision, pictures = options.pop("reference"), options.pop("revision"), options.pop("pictures")
    if verify is not None:
        if checkpoint is not None or output is not None or reference is None:
            raise click.UsageError("--verify BUNDLE takes --reference CHECKPOINT and nothing else.")
        _verify(verify, reference, revision, pictures)
        return
    if golden is not None:
        if checkpoint is not None or output is not None:
            raise click.UsageError("--golden BUNDLE takes nothing else.")
        _record_golden(golden)
        return
    if checkpoint is None or output is None:
        raise click.UsageError("Give a CHECKPOINT and -o BUNDLE, or --verify BUNDLE --reference CHECKPOINT.")
    options["replace"] = options.pop("force")
    options["card"] = _read_card(options["card"])
    source = locate_checkpoint(checkpoint, revision)
    with _Bar() as bar:
        export_checkpoint(source, output, ExportOptions(**options), bar)
    click.echo(output)


def main() -> None:
    """Run the command by itself; errors end as they do under `dermstation`."""
    try:
        export(prog_name="python -m export")
    except DermstationError as error:
        click.echo(f"dermstation: {error}", err=True)
        sys.exit(error.exit_code)


def _verify(bundle: Path, reference: str, revision: str | None, pictures: int) -> None:
    # Imported here: an export needs neither ONNX Runtime nor the reference.
    from export.parity import compare_bundles, verify_bundle

    if (Path(reference) / MANIFEST_NAME).is_file():
        result = compare_bundles(bundle, Path(reference), pictures=max(pictures, 1))
    else:
        result = verify_bundle(bundle, locate_checkpoint(reference, revision).path, pictures=pictures)
    for case in result.get("cases", ()):
        logits, greedy = case["logits"], case["greedy"]
        click.echo(
            f"{case['name']}: logits differ by {logits['max_abs']:.2g} at most, {logits['relative_rms']:.2%} rms; "
            f"{greedy['equal']} of {greedy['tokens']} greedy tokens equal"
        )
    if fidelity := result.get("conversations"):
        click.echo(
            f"{fidelity['tokens']} next tokens of answers: KL divergence {fidelity['mean_kl_divergence']:.2g} in the "
            f"mean, {fidelity['p99_kl_divergence']:.2g} at the 99th percentile; {fidelity['top_1_agreement']:.2%} of "
            "the likeliest tokens equal"
        )
    click.echo(f"parity written to {bundle / MANIFEST_NAME}")


def _record_golden(bundle: Path) -> None:
    # Imported here: an export needs no ONNX Runtime.
    from export.golden import record_golden_answers

    for answer in record_golden_answers(bundle):
        shown = "a picture and " if answer.image_file else ""
        click.echo(f"{shown}{answer.prompt!r}: {len(answer.token_ids)} tokens")
    click.echo(f"golden answers written to {bundle / MANIFEST_NAME}")


def _read_card(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return card
