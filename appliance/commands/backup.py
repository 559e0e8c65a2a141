"""`dermstation backup`, `restore` and `drill`: the records on a stick, back from it, and the proof of that."""

import random
from pathlib import Path

import click

from appliance.commands.records_folder import ask_secret, config_option, folder_option, open_store, records_folder

_ARCHIVE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("target", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--label", default="", help="What is written on the stick; the folder's name by default.")
@config_option
@folder_option
def backup(*, target: Path, label: str, config: Path | None, records: Path | None) -> None:
    """Write an encrypted backup into TARGET and read it back; needs no phrase. The station must not be running."""
    from appliance.records.backup import make_backup

    with open_store(records_folder(config, records)) as store:
        made = make_backup(store, target, label=label)
    click.echo(f"{made.path}: {made.encounters} visits, {made.size_bytes / 1e6:.1f} MB, read back.")


@click.command()
@click.argument("archive", type=_ARCHIVE)
@config_option
@folder_option
def restore(*, archive: Path, config: Path | None, records: Path | None) -> None:
    """Put ARCHIVE in the place of the records, which are kept beside. The station must not be running."""
    from appliance.records.restore import restore as restore_archive

    done = restore_archive(archive, records_folder(config, records), ask_secret())
    click.echo(f"{done.encounters} visits and {done.photos} photos are back, as of {done.made_at}.")
    if done.erased_again:
        click.echo(f"Erased since and erased again: {done.erased_again} patients and visits.")
    click.echo("Compare with the paper book who was erased since: this box knows only its own list and this stick's.")
    if done.set_aside is not None:
        click.echo(f"What was there lies in {done.set_aside}.")
    if not done.pins_hold:
        click.echo("No PIN holds on this box: set the lead's by the phrase, and the lead sets the others.")


@click.command()
@click.argument("archive", type=_ARCHIVE)
def drill(*, archive: Path) -> None:
    """Prove that ARCHIVE would come back: read all of it and open some visits with a recovery sheet."""
    from appliance.records.drill import drill as try_archive

    found = try_archive(archive, ask_secret(), random.SystemRandom())
    click.echo(
        f"This backup would come back: {found.encounters} visits, of which {found.opened_encounters} were opened "
        f"with {found.opened_photos} photos."
    )
