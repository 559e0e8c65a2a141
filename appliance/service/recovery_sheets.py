"""Recovery sheets as pages to print: the words large, the same words as a QR code, and what to do with the paper.

Who holds a sheet and the box reads everything, so a page is made when it is asked for and kept nowhere.
Source: ISO/IEC 18004 (QR code, by `segno`); ISO 216 (A4).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from appliance.errors import ConfigurationError

if TYPE_CHECKING:
    from fpdf import FPDF

SHEETS: Final = 2
_LEFT_MM: Final = 25.0
_RIGHT_MM: Final = 185.0
_CODE_MM: Final = 48.0
_WORDS_AT_MM: Final = 92.0
_ROW_MM: Final = 17.0
_COLUMNS: Final = 3
_WHAT: Final = (
    "Whoever has this paper and the box can read every record of the clinic.",
    "It is needed when the clinic's phrase is forgotten, and to restore a backup on a new box.",
    "Without the phrase and without both sheets nobody can open the records, not even the makers.",
)
_KEEP: Final = (
    "1.  Check each word: it is typed back on the screen before the set-up goes on.",
    "2.  Fold the paper with the words inside, put it into an envelope, close it and sign over the flap.",
    "3.  Keep the two sheets in two places, neither beside the box: a locked drawer, another building.",
    "4.  Never photograph or copy it. Lost, or the envelope open: More, Phrase, sheets and keys, New sheets.",
)


def sheets_pdf(sheets: Sequence[Sequence[str]], clinic_name: str, made_at: datetime, *, first: int = 1) -> bytes:
    """Return one A4 page a sheet.

    Args:
        sheets: The words of each.
        clinic_name: As typed on first run.
        made_at: The box's date.
        first: Number of the first of them.

    Raises:
        ConfigurationError: The packages that draw PDFs and codes are not installed.
    """
    try:
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "The sheets need the packages of the extra [print]; copy the words by hand."
        ) from error
    page = FPDF(format="A4", unit="mm")
    page.set_title("Recovery sheet")
    page.set_auto_page_break(False)
    for number, words in enumerate(sheets, first):
        page.add_page()
        _write_head(page, number, clinic_name, made_at)
        _write_words(page, words)
        _draw_code(page, "-".join(words))
        _write_lines(page, _KEEP, 248.0)
    return bytes(page.output())


def _write_head(page: "FPDF", number: int, clinic_name: str, made_at: datetime) -> None:
    page.set_font("Helvetica", "B", 26)
    page.text(_LEFT_MM, 35, f"Recovery sheet {number} of {SHEETS}")
    page.set_font("Helvetica", "", 13)
    # The standard fonts know Latin-1; another script's name is written by hand on the line.
    name = clinic_name.encode("latin-1", "replace").decode("latin-1")
    page.text(_LEFT_MM, 45, f"{name}    {made_at.day} {made_at:%B %Y}")
    _write_lines(page, _WHAT, 58.0)


def _write_lines(page: "FPDF", lines: Sequence[str], top_mm: float) -> None:
    page.set_font("Helvetica", "", 10)
    for number, line in enumerate(lines):
        page.text(_LEFT_MM, top_mm + 7 * number, line)


def _write_words(page: "FPDF", words: Sequence[str]) -> None:
    page.set_draw_color(0)
    page.set_line_width(0.4)
    width_mm = (_RIGHT_MM - _LEFT_MM) / _COLUMNS
    rows = -(-len(words) // _COLUMNS)
    page.rect(_LEFT_MM - 4, _WORDS_AT_MM - 10, _RIGHT_MM - _LEFT_MM + 8, rows * _ROW_MM + 4)
    for index, word in enumerate(words):
        x = _LEFT_MM + width_mm * (index % _COLUMNS)
        y = _WORDS_AT_MM + 3 + _ROW_MM * (index // _COLUMNS)
        page.set_font("Helvetica", "", 11)
        page.text(x, y, f"{index + 1}")
        page.set_font("Courier", "B", 26)
        page.text(x + 8, y, word)


def _draw_code(page: "FPDF", text: str) -> None:
    import segno

    matrix = segno.make(text, error="m", micro=False).matrix
    cell_mm = _CODE_MM / len(matrix)
    top_mm = _WORDS_AT_MM + 3 * _ROW_MM + 12
    page.set_fill_color(0)
    for row, cells in enumerate(matrix):
        for column, is_dark in enumerate(cells):
            if is_dark:
                # A hair of overlap: viewers draw white lines between touching cells otherwise.
                page.rect(_LEFT_MM + column * cell_mm, top_mm + row * cell_mm, cell_mm + 0.02, cell_mm + 0.02, "F")
    page.set_font("Helvetica", "", 11)
    for number, line in enumerate(
        ("The same words as a code: the box reads it", "with its own camera, and keeps no picture.")
    ):
        page.text(_LEFT_MM + _CODE_MM + 10, top_mm + 8 + 7 * number, line)
    page.set_font("Helvetica", "", 11)
    page.text(_LEFT_MM + _CODE_MM + 10, top_mm + 32, "Kept at: ________________________________")
    page.text(_LEFT_MM + _CODE_MM + 10, top_mm + 44, "Closed and signed by: ______________________")
