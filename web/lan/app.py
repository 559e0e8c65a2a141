"""The network's Flask application: pages for strangers, for paired devices, and for people who signed in on one."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from flask import Flask, g, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.errors import DermstationError
from appliance.service.clinic import Clinic
from appliance.service.lan_sessions import LanSessions
from appliance.service.pairing import Pairing
from appliance.service.station import Station
from web.kiosk.app import status_of
from web.kiosk.guard import install_guard
from web.lan import pages, pairing_pages
from web.lan.access import LanApp

MAX_BODY_BYTES: Final = 16 << 10
"""A name and a code, or a PIN."""
_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND.value: "There is no such page on this box.",
    HTTPStatus.METHOD_NOT_ALLOWED.value: "That cannot be done here.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value: "That is more than this box takes at once.",
}
_NOT_DONE: Final = "The box could not do that. Go back to the start page."


@dataclass(frozen=True, slots=True, kw_only=True)
class LanParts:
    """What the pages of the network stand on; without records there are only the strangers' pages."""

    station: Station
    clinic: Clinic | None
    sessions: LanSessions | None
    pairing: Pairing | None


def create_lan_app(parts: LanParts, allowed_hosts: Callable[[], frozenset[str]]) -> Flask:
    """Build the WSGI application.

    Args:
        parts: What it shows.
        allowed_hosts: Tells the names and addresses of the box on the network, lower case, without port.
    """
    app = LanApp(parts.sessions)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None
    install_guard(app, allowed_hosts, app.csrf_token)
    app.before_request(_allow_caching_of_static_files)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DermstationError, _refused)
    app.register_blueprint(pages.create_pages(parts.station, parts.clinic, parts.sessions))
    if parts.pairing is not None:
        app.register_blueprint(pairing_pages.create_pairing_pages(parts.pairing))
    return app


def _allow_caching_of_static_files() -> None:
    g.may_be_cached = request.endpoint == "static"


def _http_error(error: HTTPException) -> WerkzeugResponse | tuple[str, int]:
    if error.code is not None and error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()
    is_own = error.description is not None and error.description != type(error).description
    sentence = error.description if is_own and error.description else _SENTENCES.get(error.code or 0, _NOT_DONE)
    return _answer(sentence, HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR))


def _refused(error: DermstationError) -> tuple[str, int]:
    return _answer(str(error), status_of(error))


def _answer(sentence: str, status: HTTPStatus) -> tuple[str, int]:
    return render_template("lan/sentence.html", title="That did not work", sentence=sentence), status
