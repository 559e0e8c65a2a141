"""First run on the screen: a step a page, what is typed back checked word by word, and the sheets to print."""

from http import HTTPStatus
from typing import Final

import msgspec
from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import ForbiddenError, NotSavedError
from appliance.service.clinic import Clinic
from appliance.service.errors import SignedOutError
from appliance.service.first_run import FirstRun, Step
from appliance.service.printing import Printing
from web.kiosk.access import with_cookie
from web.kiosk.guard import allow
from web.kiosk.requests import decoded
from web.kiosk.sheets import pdf_answer, print_sheets

COOKIE: Final = "dermstation-first-run"
RAIL: Final[tuple[tuple[str, tuple[Step, ...]], ...]] = (
    ("This box", ("about", "clinic")),
    ("Phrase", ("phrase", "phrase-back")),
    ("Sheet 1", ("sheet-1", "sheet-1-back")),
    ("Sheet 2", ("sheet-2", "sheet-2-back")),
    ("You", ("lead",)),
)


class _ClinicRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    is_date_right: bool


class _WordRequest(msgspec.Struct, forbid_unknown_fields=True):
    word: str


class _LeadRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    pin: str
    pin_again: str


def create_first_run(clinic: Clinic, printing: Printing) -> Blueprint:
    """Build the routes of the set-up; each answers only while the box is not set up."""
    blueprint = Blueprint("first_run", __name__)
    run = FirstRun(clinic)

    _add_pages(blueprint, run, clinic)
    _add_sheets(blueprint, run, clinic, printing)
    _add_answers(blueprint, run)
    return blueprint


def is_theirs(run: FirstRun) -> bool:
    """Whether this browser is the one in which the set-up goes on."""
    return run.is_going_on(request.cookies.get(COOKIE, ""))


def _require_theirs(run: FirstRun) -> None:
    if not is_theirs(run):
        raise SignedOutError("The set-up was left alone for too long, or this box was started again. Start anew.")


def _add_pages(blueprint: Blueprint, run: FirstRun, clinic: Clinic) -> None:
    @blueprint.get("/first-run")
    @allow("first-run")
    def page() -> str:
        step: Step = run.step if is_theirs(run) else "about"
        shows_words = step in {"phrase", "sheet-1", "sheet-2"}
        asks_words = step.endswith("-back")
        return render_template(
            "kiosk/first_run.html",
            step=step,
            rail=[(name, step in steps, _is_before(steps, step)) for name, steps in RAIL],
            words=run.words(step) if shows_words else (),
            count=len(run.words(step)) if asks_words else 0,
            left=run.words_left() if asks_words else 0,
            now=clinic.clock.now_at().astimezone(),
        )

    @blueprint.post("/first-run")
    @allow("first-run")
    def start() -> WerkzeugResponse:
        way = redirect(url_for("first_run.page"), HTTPStatus.SEE_OTHER)
        if is_theirs(run):
            return way
        token = run.start()
        run.go_on()
        return with_cookie(way, token, COOKIE)

    @blueprint.post("/first-run/<way>")
    @allow("first-run")
    def turn(way: str) -> WerkzeugResponse:
        _require_theirs(run)
        turns = {"next": run.go_on, "back": run.go_back, "other-phrase": run.other_phrase}
        if way in turns:
            turns[way]()
        return redirect(url_for("first_run.page"), HTTPStatus.SEE_OTHER)


def _add_sheets(blueprint: Blueprint, run: FirstRun, clinic: Clinic, printing: Printing) -> None:
    def now() -> tuple[tuple[str, ...], int]:
        """Return the words and the number of the sheet on the screen."""
        _require_theirs(run)
        step = run.step
        if step not in {"sheet-1", "sheet-2"}:
            raise ForbiddenError("The sheet is shown only before it is typed back.")
        return tuple(run.words(step)), int(step.split("-")[1])

    @blueprint.get("/first-run/sheet.pdf")
    @allow("first-run")
    def sheet() -> Response:
        words, number = now()
        return pdf_answer([words], run.clinic_name, clinic.clock.now_at(), first=number)

    @blueprint.post("/api/first-run/print")
    @allow("first-run")
    def print_sheet() -> Response:
        words, number = now()
        return print_sheets(printing, [words], run.clinic_name, clinic.clock.now_at(), first=number)


def _is_before(steps: tuple[Step, ...], step: Step) -> bool:
    order = [each for _, group in RAIL for each in group]
    return order.index(steps[-1]) < order.index(step)


def _add_answers(blueprint: Blueprint, run: FirstRun) -> None:
    @blueprint.post("/api/first-run/clinic")
    @allow("first-run")
    def answer_clinic() -> Response:
        _require_theirs(run)
        asked = decoded(_ClinicRequest)
        run.answer_clinic(asked.name, is_date_right=asked.is_date_right)
        return jsonify(go="/first-run")

    @blueprint.post("/api/first-run/word")
    @allow("first-run")
    def type_word() -> Response:
        _require_theirs(run)
        left = run.type_word(decoded(_WordRequest).word)
        if left == 0:
            run.go_on()
        return jsonify(left=left, go="/first-run" if left == 0 else None)

    @blueprint.post("/api/first-run/lead")
    @allow("first-run")
    def finish() -> WerkzeugResponse:
        _require_theirs(run)
        asked = decoded(_LeadRequest)
        try:
            token = run.finish(asked.name, asked.pin, asked.pin_again)
        except OSError as error:
            raise NotSavedError(f"The disk did not take the records: {error.strerror}. Nothing was set up.") from error
        answer = with_cookie(jsonify(go="/"), token)
        answer.delete_cookie(COOKIE, httponly=True, samesite="Strict", path="/")
        return answer
