"""Who may use which route of the kiosk: denied unless the route says otherwise, and asked after every other check.

The browser that signed in holds a random cookie; everything else about the session stays on the box.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from flask import Flask, abort, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import ForbiddenError
from appliance.records.users import User
from appliance.service.clinic import EMERGENCY_PERMISSIONS, Clinic
from appliance.service.errors import FreshPinError, SignedOutError
from web.kiosk.guard import Access, access_of

COOKIE: Final = "dermstation"
SIGN_IN: Final = "/sign-in"


class GuardedApp(Flask):
    """A Flask application whose routes are denied unless `guard.allow` names who may use them."""

    def refusal(self, access: Access) -> WerkzeugResponse | None:
        """Let the request pass with None, or return what is answered instead; a subclass knows who asks.

        Raises:
            DermstationError: Whoever asks may not; the sentence says why.
        """
        raise NotImplementedError(access)

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer the request, if whoever asks may; the last thing before the route itself."""
        if request.routing_exception is None and request.endpoint != "static":
            access = access_of(self.view_functions.get(request.endpoint or ""))
            if access is None:
                abort(HTTPStatus.FORBIDDEN, "Nobody may use this page.")
            if (refusal := self.refusal(access)) is not None:
                return refusal
        return super().dispatch_request()


class KioskApp(GuardedApp):
    """The kiosk's application: who may is whoever is at the screen."""

    def __init__(self, clinic: Clinic | None) -> None:
        super().__init__("web", template_folder="templates", static_folder="static")
        self.clinic = clinic

    def refusal(self, access: Access) -> WerkzeugResponse | None:
        """Ask the clinic; without one everybody may use every route."""
        return None if self.clinic is None else _refusal(self.clinic, access)


def is_this_browser(clinic: Clinic) -> bool:
    """Whether the request comes from the browser in which somebody signed in."""
    return clinic.is_token(request.cookies.get(COOKIE, ""))


def still_theirs(clinic: Clinic | None) -> Callable[[], bool]:
    """Return what tells, also after the request, whether its session goes on: a long answer ends with it."""
    if clinic is None:
        return lambda: True
    token = request.cookies.get(COOKIE, "")
    return lambda: clinic.is_token(token) and clinic.session.state == "active"


def with_cookie(response: WerkzeugResponse, token: str, name: str = COOKIE) -> WerkzeugResponse:
    """Give a browser its secret: no script reads it, no other site sends it, and it ends with the browser."""
    response.set_cookie(name, token, httponly=True, samesite="Strict", path="/")
    return response


def require_fresh_pin(clinic: Clinic) -> None:
    """Insist that the PIN was typed within two minutes, for what a passer-by must not do at an open screen.

    Raises:
        FreshPinError: It was not; the page asks for it and comes again.
    """
    if not clinic.session.has_fresh_pin(clinic.clock.monotonic_s()):
        raise FreshPinError("Type your PIN once more.")


def lead_now(clinic: Clinic) -> User:
    """Return the lead at the screen, whose PIN was typed just now.

    Raises:
        FreshPinError: It was not.
        SignedOutError, ForbiddenError: Nobody is there, or no lead.
    """
    require_fresh_pin(clinic)
    return clinic.require("people")


def _refusal(clinic: Clinic, access: Access) -> WerkzeugResponse | None:
    """Let the request pass, or return the way to the sign-in screen.

    Raises:
        SignedOutError: A page's own call; the page goes to the sign-in screen by itself.
        ForbiddenError: The role does not allow it.
    """
    is_theirs = is_this_browser(clinic)
    if is_theirs and _is_touch():
        clinic.touch()
    if access == "nobody-signed-in":
        return None
    if access == "first-run":
        if clinic.state != "first-run":
            raise ForbiddenError("This box is set up already.")
        return None
    if not is_theirs or clinic.session.state != "active":
        if not request.path.startswith(("/api/", "/preview")):
            return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        raise SignedOutError("The screen is locked. Sign in first.")
    _require(clinic, access)
    if request.method == "GET" and _is_page():
        # Where an unlocked screen goes on; the path of a page, kept in memory only.
        clinic.page = request.full_path.rstrip("?")
    return None


def _is_page() -> bool:
    # Only a browser that shows a page names it; a script, a picture or a stream asks for anything, or for itself.
    return "text/html" in request.headers.get("Accept", "")


def _is_touch() -> bool:
    """Whether a person did it: pictures, states and streams are asked for by pages, and must not keep a screen open."""
    return request.method != "GET" or _is_page()


def _require(clinic: Clinic, access: Access) -> None:
    if clinic.is_emergency and access not in {"at-the-screen", *EMERGENCY_PERMISSIONS}:
        raise ForbiddenError("Without a PIN only photos can be taken. Sign in first.")
    match access:
        case "at-the-screen" | "signed-in" | "nobody-signed-in" | "first-run":
            return
        case "paired":
            raise ForbiddenError("This page is for the devices of the clinic's network.")
        case _ if not clinic.is_emergency:
            clinic.require(access)
