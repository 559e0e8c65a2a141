"""`dermstation card`: the card for scale and colour as a page to print."""

from pathlib import Path

import click

from appliance.errors import ConfigurationError


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("card.pdf"))
def card(output: Path) -> None:
    """Write the card for scale and colour as a PDF; print it at 100 % and check its line with a ruler."""
    from appliance.imaging.card_page import card_pdf

    content = card_pdf()
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"The card cannot be written to {output}: {error.strerror}.") from error
    click.echo(f"{output}: print it at 100 %, and check that its line is 100 mm long.")
