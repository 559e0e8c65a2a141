"""The `dermstation` command: finds its sub-commands by entry point and turns every known error into one sentence.

The sub-commands of `web` and `export` are found by name, not imported: nothing below may import them.
"""

import logging
import sys
from importlib.metadata import EntryPoint, entry_points

import click

from appliance.errors import DermstationError

COMMAND_GROUP = "dermstation.commands"


class _CommandGroup(click.Group):
    """Sub-commands from entry points, loaded only when called: `generate` must not pay for `serve`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        return sorted(point.name for point in entry_points(group=COMMAND_GROUP))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        point = _entry_point(cmd_name)
        if point is None:
            return None
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            return _missing_command(cmd_name, error)
        if not isinstance(command, click.Command):
            raise TypeError(f"{point.value} is not a click command")
        return command


def _entry_point(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=COMMAND_GROUP, name=name)), None)


def _missing_command(name: str, error: ModuleNotFoundError) -> click.Command:
    """Stand in for a command whose extra is not installed, so that --help still works."""

    def fail() -> None:
        raise click.ClickException(
            f"'{name}' needs the package {error.name!r}, which is not installed; install the matching extra."
        )

    return click.Command(name, callback=fail, help=f"(needs {error.name!r}, which is not installed)")


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dermstation")
@click.option("-v", "--verbose", count=True, help="Log more: -v for events, -vv for details.")
def dermstation(verbose: int) -> None:
    """A box for rural clinics: photographs skin lesions and describes them, offline."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def main() -> None:
    """Run the command line; a `DermstationError` ends with its sentence on stderr and its exit code."""
    try:
        dermstation()
    except DermstationError as error:
        click.echo(f"dermstation: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
