"""`dermstation selftest`: whether the model on this machine says what it said when it was made."""

from pathlib import Path

import click

from appliance.errors import DermstationError


@click.command()
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the model bundle; the demonstration bundle by default.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Compute threads; one a core by default.")
def selftest(bundle: Path | None, threads: int | None) -> None:
    """Ask the model what it was asked when it was made, and compare token by token."""
    from appliance.demo import bundle_path
    from appliance.medgemma.engine import MedGemma, RuntimeOptions

    with MedGemma.load(bundle or bundle_path(), RuntimeOptions(threads=threads)) as model:
        answers = model.self_test()
        name, providers = model.bundle.manifest.name, ", ".join(model.providers)
    if not answers:
        raise NothingToCompareError(f"The bundle of {name} carries no golden answers, so nothing was compared.")
    click.echo(f"{name} says what it said when it was made: {answers} golden answers compared on {providers}.")


class NothingToCompareError(DermstationError):
    """The bundle carries no golden answers."""

    exit_code = 65  # EX_DATAERR
