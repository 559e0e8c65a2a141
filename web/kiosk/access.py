"""Who may use which route of the kiosk: denied unless the route says otherwise, and asked after every other check.

The browser that signed in holds a random cookie; everything else about the session stays on the box.
"""

from http import HTTPStatus
from typing import Final

from flask import Flask, abort, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.errors import ForbiddenError
from appliance.service.clinic import Clinic
from appliance.service.errors import SignedOutError
from web.kiosk.guard import Access, access_of

COOKIE: Final = "dermstation"
SIGN_IN: Final = "/sign-in"
NOT_TOUCHES: Final = frozenset({"api.state", "api.preview", "api.events", "api.press", "static"})
"""What a page asks for by itself: it does not keep the screen from locking."""


class KioskApp(Flask):
    """A Flask application whose routes are denied unless `guard.allow` names who may use them."""

    def __init__(self, clinic: Clinic | None) -> None:
        super().__init__("web", template_folder="templates", static_folder="static")
        self.clinic = clinic

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer the request, if whoever asks may; the last thing before the route itself."""
        if request.routing_exception is None and request.endpoint != "static":
            access = access_of(self.view_functions.get(request.endpoint or ""))
            if access is None:
                abort(HTTPStatus.FORBIDDEN, "Nobody may use this page.")
            if self.clinic is not None and (refusal := _refusal(self.clinic, access)) is not None:
                return refusal
        return super().dispatch_request()


def is_this_browser(clinic: Clinic) -> bool:
    """Whether the request comes from the browser in which somebody signed in."""
    return clinic.is_token(request.cookies.get(COOKIE, ""))


def _refusal(clinic: Clinic, access: Access) -> WerkzeugResponse | None:
    """Let the request pass, or return the way to the sign-in screen.

    Raises:
        SignedOutError: A page's own call; the page goes to the sign-in screen by itself.
        ForbiddenError: The role does not allow it.
    """
    is_theirs = is_this_browser(clinic)
    if is_theirs and request.endpoint not in NOT_TOUCHES:
        clinic.touch()
    if access == "nobody-signed-in":
        return None
    if not is_theirs or clinic.session.state != "active":
        if not request.path.startswith(("/api/", "/preview")):
            return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        raise SignedOutError("The screen is locked. Sign in first.")
    if access == "at-the-screen":
        return None
    if access != "signed-in" and clinic.may(access):
        return None
    if clinic.is_emergency:
        raise ForbiddenError("Without a PIN only photos can be taken. Sign in first.")
    user = clinic.require_user()
    if access != "signed-in":
        user.require(access)
    return None
