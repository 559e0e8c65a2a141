"""Pairing as the telephone sees it: the code that its camera read, a name, four digits to compare, and then it is in.

The code stands behind the `#` of the address, which browsers send to nobody: it is in no log, and a preview of the
link uses nothing up.
"""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.service.pairing import ANSWER_S, NAME_MAX, Pairing
from web.kiosk.guard import allow
from web.lan.access import CLAIM_COOKIE, DEVICE_COOKIE, DEVICE_S, drop_cookie, peer, set_cookie

PAIR: Final = "/pair"
_WAITING: Final = "/pair/waiting"
_ASK_AGAIN_S: Final = 2


def create_pairing_pages(pairing: Pairing) -> Blueprint:
    """Make the blueprint."""
    pages = Blueprint("pairing", __name__)

    @pages.get(PAIR)
    @allow("nobody-signed-in")
    def form() -> str:
        return render_template("lan/pair.html", name_max=NAME_MAX)

    @pages.post(PAIR)
    @allow("nobody-signed-in")
    def redeem() -> WerkzeugResponse:
        asking = pairing.redeem(request.form.get("token", ""), request.form.get("name", ""), peer())
        response = redirect(_WAITING, HTTPStatus.SEE_OTHER)
        set_cookie(response, CLAIM_COOKIE, asking.claim, int(ANSWER_S) * 2)
        return response

    @pages.get(_WAITING)
    @allow("nobody-signed-in")
    def waiting() -> WerkzeugResponse:
        asking = pairing.collect(request.cookies.get(CLAIM_COOKIE, ""))
        if asking.state == "waiting":
            page = make_response(render_template("lan/waiting.html", digits=asking.digits, name=asking.name))
            page.headers["Refresh"] = str(_ASK_AGAIN_S)
            return page
        response: WerkzeugResponse
        if asking.state == "refused":
            sentence = "The box did not take this phone. Have a new code shown and try again."
            response = Response(
                render_template("lan/sentence.html", title="Not paired", sentence=sentence), HTTPStatus.FORBIDDEN
            )
        else:
            response = redirect("/", HTTPStatus.SEE_OTHER)
            set_cookie(response, DEVICE_COOKIE, asking.device_token, DEVICE_S)
        drop_cookie(response, CLAIM_COOKIE)
        return response

    return pages
