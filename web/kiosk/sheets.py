"""Answers with the recovery sheets as pages to print: never kept, neither here nor by the browser."""

from collections.abc import Sequence
from datetime import datetime

from flask import Response

from appliance.service.recovery_sheets import sheets_pdf


def pdf_answer(sheets: Sequence[Sequence[str]], clinic_name: str, made_at: datetime, *, first: int = 1) -> Response:
    """Return the sheets as a PDF that the browser shows and does not store."""
    response = Response(sheets_pdf(sheets, clinic_name, made_at, first=first), mimetype="application/pdf")
    response.headers["Content-Disposition"] = "inline; filename=recovery-sheet.pdf"
    return response
