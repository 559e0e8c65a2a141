"""`dermstation audit`: whether anybody changed what the station wrote down."""

from pathlib import Path

import click

from appliance.commands.records_folder import ask_secret, config_option, folder_option, open_store, records_folder


@click.group()
def audit() -> None:
    """The chained record of who did what."""


@audit.command()
@config_option
@folder_option
@click.option("--unlock", is_flag=True, help="Ask for the phrase, and also check who wrote each entry.")
@click.option(
    "--fob", type=click.Path(path_type=Path, file_okay=False), help="As --unlock, by the key fob mounted there."
)
@click.pass_context
def verify(ctx: click.Context, /, *, config: Path | None, records: Path | None, unlock: bool, fob: Path | None) -> None:
    """Check every entry and every record against it; status 1 when something was changed."""
    from appliance.records.fobs import fob_key

    with open_store(records_folder(config, records)) as store:
        if fob is not None:
            store.unlock(fob_key(store, fob))
        elif unlock:
            store.unlock(ask_secret())
        verdict = store.verify_audit()
    for problem in verdict.problems:
        click.echo(f"PROBLEM  {problem}")
    checked = "each by this box" if verdict.macs_checked else "chain only; --unlock also checks who wrote them"
    click.echo(f"{verdict.entries} entries, {checked}.")
    click.echo(f"Digest for the paper book: {verdict.digest}")
    ctx.exit(1 if verdict.problems else 0)
