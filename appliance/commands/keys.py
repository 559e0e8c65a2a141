"""`dermstation keys`: what opens the records besides the phrase and the sheets; the station must not be running."""

from pathlib import Path

import click

from appliance.commands.records_folder import ask_secret, config_option, folder_option, open_store, records_folder
from appliance.records.errors import MissingError

_STICK = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def keys() -> None:
    """Key fobs and the box PIN; the station must not be running. A box PIN is chosen at the screen."""


@keys.command(name="list")
@config_option
@folder_option
def list_keys(*, config: Path | None, records: Path | None) -> None:
    """Say which key fobs open the records, and whether a box PIN does."""
    with open_store(records_folder(config, records)) as store:
        found = store.held_slots()
    for held in found:
        doubt = "" if held.is_date_confirmed else ", date not confirmed"
        kind = "key fob" if held.slot.kind == "fob" else "security chip"
        click.echo(f"{held.name}: {kind}, made {held.made_at[:10]}{doubt}")
    if not found:
        click.echo("Only the clinic's phrase and the recovery sheets open the records.")


@keys.command(name="make-fob")
@click.argument("stick", type=_STICK)
@click.option("--name", required=True, help="What it is called in the list, such as whose it is.")
@config_option
@folder_option
def make_fob(*, stick: Path, name: str, config: Path | None, records: Path | None) -> None:
    """Make a key fob of the stick that is mounted at STICK; nothing else on it is touched."""
    from appliance.records.fobs import make_fob as make

    with open_store(records_folder(config, records)) as store:
        make(store, ask_secret(), stick, name, None)
    click.echo(f"{name} opens the records. Take it out and keep it with you.")


@keys.command()
@click.argument("name")
@config_option
@folder_option
def revoke(*, name: str, config: Path | None, records: Path | None) -> None:
    """Let the key fob called NAME, or the box PIN, open the records no more; needs no phrase."""
    from appliance.records.slots import remove_held_slot

    with open_store(records_folder(config, records)) as store:
        held = next((one for one in store.held_slots() if one.name == name), None)
        if held is None:
            raise MissingError(f"Nothing called {name} opens the records.")
        remove_held_slot(store, held.slot.slot_id, None)
    click.echo(f"{name} opens the records no more.")
