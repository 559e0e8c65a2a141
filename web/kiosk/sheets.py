"""The recovery sheets as pages: shown or printed, and never kept, neither here nor by the browser."""

from collections.abc import Sequence
from datetime import datetime

from flask import Response

from appliance.service.printing import Printing
from appliance.service.recovery_sheets import sheets_pdf
from web.kiosk.printing import print_state


def pdf_answer(sheets: Sequence[Sequence[str]], clinic_name: str, made_at: datetime, *, first: int = 1) -> Response:
    """Return the sheets as a PDF that the browser shows and does not store."""
    response = Response(sheets_pdf(sheets, clinic_name, made_at, first=first), mimetype="application/pdf")
    response.headers["Content-Disposition"] = "inline; filename=recovery-sheet.pdf"
    return response


def print_sheets(
    printing: Printing, sheets: Sequence[Sequence[str]], clinic_name: str, made_at: datetime, *, first: int = 1
) -> Response:
    """Print the sheets by the box, and return how far that is.

    Raises:
        NotFoundError: There is no printer, or one whose queue would keep a copy.
        LimitError: Another page is being printed.
    """
    printing.start(sheets_pdf(sheets, clinic_name, made_at, first=first), "dermstation page", is_secret=True)
    return print_state(printing)
