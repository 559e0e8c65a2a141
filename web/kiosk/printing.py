"""Printing by the box: what is printed here, and how far it is. The recovery sheets are with their screens."""

from flask import Blueprint, Response, jsonify

from appliance.records.inventory import take_inventory
from appliance.service.clinic import Clinic
from appliance.service.printing import Printing
from appliance.service.text_pages import text_pdf
from web.kiosk.guard import allow


def create_printing(clinic: Clinic, printing: Printing, keep_years: int) -> Blueprint:
    """Build the routes."""
    blueprint = Blueprint("printing", __name__)

    @blueprint.get("/api/print")
    @allow("nobody-signed-in")
    def state() -> Response:
        # Also on first run, where nobody is: it says no more than that a page is out.
        return print_state(printing)

    @blueprint.post("/api/print/inventory")
    @allow("update")
    def inventory() -> Response:
        text = take_inventory(clinic.records(), keep_years).to_text()
        printing.start(text_pdf(text, "What this station keeps"), "dermstation list")
        return print_state(printing)

    @blueprint.post("/api/print/card")
    @allow("update")
    def card() -> Response:
        from appliance.imaging.card_page import card_pdf

        printing.start(card_pdf(), "dermstation card")
        return print_state(printing)

    return blueprint


def print_state(printing: Printing) -> Response:
    """Return how far the page is, for the page's script."""
    found = printing.state
    return jsonify(is_busy=found.is_busy, words=found.words)
