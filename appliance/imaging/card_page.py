"""The card as a page to print: an L to cut out, a line to check the print by, and what to do, in a few words.

Source: `card_layout` for every place and colour; ISO 216 for the page.
"""

from typing import TYPE_CHECKING, Final

from appliance.errors import ConfigurationError
from appliance.imaging.card_layout import (
    ARM_LENGTH_MM,
    ARM_WIDTH_MM,
    CHECK_LINE_MM,
    MARKER_BITS,
    MARKER_CELLS,
    MARKER_CORNERS_MM,
    MARKER_MM,
    PATCH_MM,
    PATCHES,
    marker_cells,
)

if TYPE_CHECKING:
    from fpdf import FPDF

CARD_AT_MM: Final = (30.0, 95.0)
"""Where on the page the card's origin lies, from the upper left corner."""
_LINE_AT_MM: Final = (30.0, 80.0)
_TICK_MM: Final = (1.2, 2.0, 2.8)
"""Length of the ticks of millimetres, of fives, of tens."""
_INSTRUCTIONS: Final = (
    '1. Print on matt white paper at 100 % ("actual size"), not "fit to page".',
    "2. Check with a ruler: the line below must be exactly 100 mm long. If not, do not use the card.",
    "3. Cut out the L along the thin line. Replace it when it is bent, dirty or has touched broken skin.",
    "4. Lay it flat beside the lesion, the lesion inside the angle, all three black squares in the picture.",
)


def card_pdf() -> bytes:
    """Return the page as a PDF, A4.

    Raises:
        ConfigurationError: The package that writes PDFs is not installed.
    """
    try:
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise ConfigurationError("The card needs the package 'fpdf2'; install the extra [print].") from error
    page = FPDF(format="A4", unit="mm")
    page.set_title("dermstation card")
    page.set_auto_page_break(False)
    page.add_page()
    _write_instructions(page)
    _draw_check_line(page)
    _draw_outline(page)
    for number in range(len(MARKER_BITS)):
        _draw_marker(page, number)
    _draw_patches(page)
    _draw_scales(page)
    _write_values(page)
    return bytes(page.output())


def _write_instructions(page: "FPDF") -> None:
    page.set_font("Helvetica", "B", 16)
    page.text(30, 30, "Card for scale and colour")
    page.set_font("Helvetica", "", 10)
    for number, line in enumerate(_INSTRUCTIONS):
        page.text(30, 40 + 7 * number, line)


def _draw_check_line(page: "FPDF") -> None:
    x, y = _LINE_AT_MM
    page.set_draw_color(0)
    page.set_line_width(0.2)
    page.line(x, y, x + CHECK_LINE_MM, y)
    for millimetre in range(round(CHECK_LINE_MM) + 1):
        page.line(x + millimetre, y, x + millimetre, y - _tick_mm(millimetre))
    page.set_font("Helvetica", "", 7)
    for millimetre in range(0, round(CHECK_LINE_MM) + 1, 10):
        page.text(x + millimetre - 1.3, y + 3.2, str(millimetre))
    page.text(x + CHECK_LINE_MM + 6, y + 1, "100 mm: check with a ruler")


def _draw_outline(page: "FPDF") -> None:
    x, y = CARD_AT_MM
    page.set_draw_color(170)
    page.set_line_width(0.1)
    long, wide = ARM_LENGTH_MM, ARM_WIDTH_MM
    outline = [(0, 0), (long, 0), (long, wide), (wide, wide), (wide, long), (0, long)]
    page.polygon([(x + dx, y + dy) for dx, dy in outline], style="D")


def _draw_marker(page: "FPDF", number: int) -> None:
    x, y = (at + offset for at, offset in zip(CARD_AT_MM, MARKER_CORNERS_MM[number], strict=True))
    cell = MARKER_MM / MARKER_CELLS
    page.set_fill_color(0)
    # One black square with white cells in it: black cells side by side would show seams.
    page.rect(x, y, MARKER_MM, MARKER_MM, style="F")
    page.set_fill_color(255)
    for row, cells in enumerate(marker_cells(number)):
        for column, is_white in enumerate(cells):
            if is_white:
                page.rect(x + column * cell, y + row * cell, cell, cell, style="F")


def _draw_patches(page: "FPDF") -> None:
    for patch in PATCHES:
        page.set_fill_color(*patch.srgb)
        left, top = CARD_AT_MM[0] + patch.x_mm - PATCH_MM / 2, CARD_AT_MM[1] + patch.y_mm - PATCH_MM / 2
        page.rect(left, top, PATCH_MM, PATCH_MM, style="F")


def _draw_scales(page: "FPDF") -> None:
    """Put millimetres along both inner edges, beginning where the arms meet, where no marker is."""
    x, y = CARD_AT_MM
    page.set_draw_color(0)
    page.set_line_width(0.15)
    for millimetre in range(round(ARM_LENGTH_MM - ARM_WIDTH_MM)):
        tick, along = _tick_mm(millimetre) * 0.8, ARM_WIDTH_MM + millimetre
        page.line(x + along, y + ARM_WIDTH_MM, x + along, y + ARM_WIDTH_MM - tick)
        page.line(x + ARM_WIDTH_MM, y + along, x + ARM_WIDTH_MM - tick, y + along)


def _write_values(page: "FPDF") -> None:
    page.set_font("Helvetica", "", 7)
    page.text(30, 172, "Colours as printed by a printer that keeps to sRGB (red, green, blue of 255):")
    for number, (name, (red, green, blue)) in enumerate({patch.name: patch.srgb for patch in PATCHES}.items()):
        column, row = divmod(number, 4)
        page.text(30 + column * 52, 177 + 4 * row, f"{name}: {red}, {green}, {blue}")


def _tick_mm(millimetre: int) -> float:
    return _TICK_MM[2 if millimetre % 10 == 0 else 1 if millimetre % 5 == 0 else 0]
