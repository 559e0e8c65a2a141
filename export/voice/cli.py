"""The command `dermstation export-voice`: a Whisper checkpoint in, a folder with graphs and their digests out."""

import sys
from pathlib import Path

import click

from appliance.errors import DermstationError


@click.command("export-voice", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the graphs; new.")
@click.option(
    "--precision", type=click.Choice(["int8", "float32"]), default="int8", show_default=True, help="Of the matrices."
)
@click.option("--licence", help="Licence of the weights, if the checkpoint does not say: an SPDX id or a name.")
def export_voice(checkpoint: Path, output: Path, precision: str, licence: str | None) -> None:
    """Turn CHECKPOINT, a local folder with a Whisper model in safetensors, into ONNX graphs.

    Needs the extra `voice-export`, which excludes the extra `reference`: give it a virtual environment of its own.
    """
    # Imported here: other commands must not wait for it.
    from export.voice.exporter import export_whisper

    manifest = export_whisper(checkpoint, output, int8=precision == "int8", licence=licence)
    for stage, difference in manifest["parity"].items():
        click.echo(
            f"{stage}: differs by {difference['max_abs']:.2g} at most, {difference['relative_rms']:.2%} rms, from "
            f"transformers"
        )
    click.echo(output)


def main() -> None:
    """Run the command by itself; errors end as they do under `dermstation`."""
    try:
        export_voice(prog_name="python -m export.voice")
    except DermstationError as error:
        click.echo(f"dermstation: {error}", err=True)
        sys.exit(error.exit_code)
