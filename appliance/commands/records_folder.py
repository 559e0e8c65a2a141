"""What the commands about the records share: opening them by the settings, and asking for the secret."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.commands.doctor import SETTINGS
from appliance.config import load_config
from appliance.errors import ConfigurationError
from appliance.records.errors import CannotOpenError

if TYPE_CHECKING:
    from appliance.records.clinic_key import PhraseKey, SheetKey
    from appliance.records.store import RecordStore

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings file; {SETTINGS} where it exists, else the defaults.",
)
folder_option = click.option(
    "--records", type=click.Path(path_type=Path, file_okay=False), help="Folder of the records; as the settings say."
)


def records_folder(config: Path | None, folder: Path | None) -> Path:
    """Return the folder that was named, or that of the settings.

    Raises:
        ConfigurationError: The settings are refused, or name no folder.
    """
    if folder is not None:
        return folder
    named = load_config(config or (SETTINGS if SETTINGS.exists() else None)).records.folder
    if named is None:
        raise ConfigurationError("The settings name no folder of records; give one with --records.")
    return Path(named)


def open_store(folder: Path) -> "RecordStore":
    """Open the records of a station that is not running.

    Raises:
        CannotOpenError: They do not open; the sentence says what to do.
    """
    from appliance.records.opening import open_records

    if not folder.is_dir():
        raise CannotOpenError(f"There is no folder {folder}.", state="no-folder", action="Name the right one.")
    opening = open_records(folder)
    if opening.store is None:
        raise CannotOpenError(f"{opening.found} {opening.action}", state=opening.state, action=opening.action)
    return opening.store


def ask_secret() -> "PhraseKey | SheetKey":
    """Ask for the phrase or a sheet's words without showing them."""
    from appliance.records.clinic_key import typed_secret

    typed: str = click.prompt("The clinic's phrase, or the words of a recovery sheet", hide_input=True)
    return typed_secret(typed)
