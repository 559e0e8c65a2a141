"""Plain text as pages to print: a fixed pitch, so that columns of numbers stay columns."""

from typing import Final

from appliance.errors import ConfigurationError

LINE_CHARACTERS: Final = 100
_LEFT_MM: Final = 15.0
_TOP_MM: Final = 20.0
_BOTTOM_MM: Final = 280.0
_LINE_MM: Final = 4.2
_POINTS: Final = 8.5


def text_pdf(text: str, title: str) -> bytes:
    """Return A4 pages of the text's lines, which are cut after 100 characters.

    Raises:
        ConfigurationError: The package that draws PDFs is not installed.
    """
    try:
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise ConfigurationError("Printing needs the packages of the extra [print]; write it to a stick.") from error
    page = FPDF(format="A4", unit="mm")
    page.set_title(title)
    page.set_auto_page_break(False)
    at_mm = _BOTTOM_MM
    # The standard fonts know Latin-1.
    for line in text.encode("latin-1", "replace").decode("latin-1").splitlines():
        if at_mm >= _BOTTOM_MM:
            page.add_page()
            page.set_font("Courier", "", _POINTS)
            at_mm = _TOP_MM
        if line:
            page.text(_LEFT_MM, at_mm, line[:LINE_CHARACTERS])
        at_mm += _LINE_MM
    return bytes(page.output())
