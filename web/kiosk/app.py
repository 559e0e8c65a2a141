"""The kiosk's Flask application: a thin face over the station.

Routes hold no rule of the clinic: they translate, and what the station refuses they say in its own sentence.
"""

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, g, jsonify, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.config import RecordsConfig
from appliance.errors import CameraError, DermstationError, ImageError, PromptError
from appliance.records.errors import (
    ForbiddenError,
    LockedError,
    MissingError,
    NotSavedError,
    ThrottledError,
    WrongSecretError,
)
from appliance.service.clinic import Clinic
from appliance.service.errors import (
    EncounterClosedError,
    FreshPinError,
    LampError,
    LimitError,
    NotFoundError,
    SignedOutError,
    StaleFrameError,
    UnreadablePhotoError,
)
from appliance.service.station import Station
from appliance.service.unlocking import Unlocking
from web.kiosk import api, pages
from web.kiosk.access import KioskApp
from web.kiosk.door import create_door, tell_templates
from web.kiosk.guard import install_guard
from web.kiosk.measures import create_measures
from web.kiosk.shots import create_shots
from web.kiosk.visit_view import tell_visit

if TYPE_CHECKING:
    from web.lan.face import LanFace

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_RECORDS: Final = RecordsConfig()
_FRAME_WAIT_S: Final = 2.0
MAX_BODY_BYTES: Final = 64 << 10
"""The kiosk's own requests are a few hundred bytes."""

_STATUS: Final[dict[type[DermstationError], HTTPStatus]] = {
    EncounterClosedError: HTTPStatus.CONFLICT,
    StaleFrameError: HTTPStatus.CONFLICT,
    UnreadablePhotoError: HTTPStatus.CONFLICT,
    LampError: HTTPStatus.CONFLICT,
    CameraError: HTTPStatus.SERVICE_UNAVAILABLE,
    NotFoundError: HTTPStatus.NOT_FOUND,
    LimitError: HTTPStatus.TOO_MANY_REQUESTS,
    PromptError: HTTPStatus.BAD_REQUEST,
    ImageError: HTTPStatus.BAD_REQUEST,
    SignedOutError: HTTPStatus.UNAUTHORIZED,
    FreshPinError: HTTPStatus.FORBIDDEN,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    WrongSecretError: HTTPStatus.FORBIDDEN,
    ThrottledError: HTTPStatus.TOO_MANY_REQUESTS,
    LockedError: HTTPStatus.LOCKED,
    MissingError: HTTPStatus.NOT_FOUND,
    NotSavedError: HTTPStatus.INSUFFICIENT_STORAGE,
}

_NOT_DONE: Final = "The box could not do that. Go back to the start page."
_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND.value: "There is no such page on this box.",
    HTTPStatus.METHOD_NOT_ALLOWED.value: "That cannot be done here.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value: "That is more than this box takes at once.",
}


def create_kiosk_app(
    station: Station,
    *,
    clinic: Clinic | None = None,
    lan: "LanFace | None" = None,
    records: RecordsConfig = _RECORDS,
    allowed_hosts: frozenset[str] = LOOPBACK_HOSTS,
) -> Flask:
    """Build the WSGI application.

    Args:
        station: A started station.
        clinic: The records and who is at the screen; without it nothing is stored and everybody may use every route.
        lan: The box's face on the network, for the screens of phones; None when phones may not come in.
        records: Where sticks are mounted, and how long records are kept.
        allowed_hosts: Names under which the box may be addressed, lower case, without port.
    """
    app = KioskApp(clinic)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # Asked for again each time, answered by its ETag: an update never meets yesterday's scripts.
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None
    install_guard(app, lambda: allowed_hosts)
    app.before_request(_allow_caching_of_static_files)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DermstationError, _station_error)
    tell_templates(app, clinic)
    tell_visit(app, station)
    app.register_blueprint(pages.create_pages(station))
    app.register_blueprint(api.create_api(station, clinic))
    app.register_blueprint(create_shots(station))
    app.register_blueprint(create_measures(station))
    if clinic is not None:
        _register_clinic(app, clinic, station, lan, records)
    return app


def _register_clinic(
    app: Flask, clinic: Clinic, station: Station, lan: "LanFace | None", records: RecordsConfig
) -> None:
    """Add what is there only when records are: imported here, for they need the extra `records`."""
    from appliance.host.tpm import Tpm
    from appliance.service.backups import Backups
    from appliance.service.box_pin import BoxPin
    from appliance.service.erasures import Erasures
    from appliance.service.key_fobs import KeyFobs
    from appliance.service.printing import Printing
    from appliance.service.sheet_reader import SheetReader

    # The network's face says refusals with this module's statuses, so it comes later.
    from web.kiosk.day import create_day
    from web.kiosk.devices import create_devices
    from web.kiosk.erasing import create_erasing
    from web.kiosk.first_run import create_first_run
    from web.kiosk.keys import create_keys
    from web.kiosk.patients import create_patients
    from web.kiosk.people import create_people
    from web.kiosk.printing import create_printing
    from web.kiosk.unlock import WaysIn, create_unlock
    from web.kiosk.upkeep import create_upkeep
    from web.kiosk.visits import create_visits

    unlocking = Unlocking(clinic)
    ways = WaysIn(
        unlocking=unlocking,
        fobs=KeyFobs(clinic, unlocking, records.stick_folders),
        pin=BoxPin(clinic, unlocking, Tpm(records.chip)),
        sheets=SheetReader(unlocking, lambda: station.camera.frame(-1, _FRAME_WAIT_S)),
    )
    printing = Printing()
    app.context_processor(lambda: {"printing": printing})
    backups = Backups(clinic.records, clinic.operator, records.stick_folders)
    for blueprint in (
        create_door(clinic, station, unlocking),
        create_first_run(clinic, printing),
        create_unlock(clinic, ways),
        create_day(clinic, unlocking, printing),
        create_keys(clinic, ways),
        create_people(clinic),
        create_devices(clinic, lan),
        create_upkeep(clinic, backups, records.keep_years),
        create_printing(clinic, printing, records.keep_years),
    ):
        blueprint.context_processor(lambda: {"state": station.state()})
        app.register_blueprint(blueprint)
    if station.visits is not None:
        clinic.on_unlocked = station.visits.settle
        erasures = Erasures(clinic, station.visits, lambda: _visit_on_screen(station))
        for blueprint in (
            create_visits(station, station.visits),
            create_patients(station.visits),
            create_erasing(clinic, erasures),
        ):
            blueprint.context_processor(lambda: {"state": station.state()})
            app.register_blueprint(blueprint)
    clinic.attach(station)


def _visit_on_screen(station: Station) -> str | None:
    current = station.captures.current
    return None if current is None else current.encounter_id


def _allow_caching_of_static_files() -> None:
    g.may_be_cached = request.endpoint == "static"


def _http_error(error: HTTPException) -> WerkzeugResponse | tuple[Response | str, int]:
    if error.code is not None and error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()
    # The framework's own sentences speak of servers and URLs; ours were given where the request was refused.
    is_own = error.description is not None and error.description != type(error).description
    sentence = error.description if is_own and error.description else _SENTENCES.get(error.code or 0, _NOT_DONE)
    return _answer(sentence, HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR))


def status_of(error: DermstationError) -> HTTPStatus:
    """Return the HTTP status of what the station or the records refused."""
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def _station_error(error: DermstationError) -> tuple[Response | str, int]:
    facts: dict[str, float | bool | None] = {}
    if isinstance(error, ThrottledError):
        facts = {"wait_s": error.wait_s}
    elif isinstance(error, FreshPinError):
        facts = {"pin": True}
    return _answer(str(error), status_of(error), **facts)


def _answer(sentence: str, status: HTTPStatus, **facts: float | bool | None) -> tuple[Response | str, int]:
    """Answer with one sentence: JSON to the page's own calls, a page to a person."""
    if request.path.startswith(("/api/", "/preview")):
        return jsonify(error=sentence, **facts), status
    page = render_template(
        "kiosk/error.html", title="That did not work", sentence=sentence, action_url="/", action_label="Start page"
    )
    return page, status
