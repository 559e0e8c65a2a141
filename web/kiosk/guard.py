"""Keeps other sites out of the kiosk and the kiosk's pages shut in: host, origin, token, strict headers, and who may.

Source: OWASP Cross-Site Request Forgery Prevention; W3C Content Security Policy 3; W3C Fetch Metadata.
"""

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal, TypeVar

from flask import Flask, Response, abort, g, request

from appliance.records.users import Permission
from web.hosts import name_of_host

CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
Access = Permission | Literal["nobody-signed-in", "at-the-screen", "signed-in", "paired", "first-run"]
"""Who may use a route: whoever has the permission, anybody who is signed in, also who takes photos without a PIN in an
emergency, whoever holds a paired device of the clinic's network, everybody until the box is set up, or everybody."""
V = TypeVar("V", bound=Callable[..., object])
_ACCESS: Final = "kiosk_access"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=(), serial=(), interest-cohort=()",
}


def allow(access: Access) -> Callable[[V], V]:
    """Say who may use a route; stands below the route's own decorator. One without it is used by nobody."""

    def mark(view: V) -> V:
        vars(view)[_ACCESS] = access
        return view

    return mark


def access_of(view: Callable[..., object] | None) -> Access | None:
    """Return what `allow` said of a view; None when it said nothing."""
    found: Access | None = getattr(view, _ACCESS, None)
    return found


def install_guard(
    app: Flask, allowed_hosts: Callable[[], frozenset[str]], token: Callable[[], str] | None = None
) -> None:
    """Check every request before its route, and set the headers of every response.

    Args:
        app: The application.
        allowed_hosts: Tells the names under which this box may be addressed, lower case, without port.
        token: Tells what an unsafe request must bring along; the same for the whole process when absent.
    """
    own_token = secrets.token_urlsafe(32)
    token_now = token or (lambda: own_token)
    app.before_request(lambda: _check(allowed_hosts(), token_now))
    app.context_processor(lambda: {"csrf_token": token_now()})
    app.after_request(_harden)


def _check(allowed_hosts: frozenset[str], token: Callable[[], str]) -> None:
    # A foreign Host is how DNS rebinding looks from here.
    if name_of_host(request.host).lower() not in allowed_hosts:
        abort(HTTPStatus.MISDIRECTED_REQUEST, "This box is not known by that name.")
    if request.method in SAFE_METHODS:
        # A link from elsewhere opens a page; a picture or script of ours in another site's page does not.
        is_foreign = request.headers.get("Sec-Fetch-Site", "none") in {"cross-site", "same-site"}
        if is_foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":
            abort(HTTPStatus.FORBIDDEN, "Another site may not read from this box.")
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        abort(HTTPStatus.FORBIDDEN, "Another site may not press this box's buttons.")
    origin = request.headers.get("Origin")
    if origin is not None and origin != request.host_url.rstrip("/"):
        abort(HTTPStatus.FORBIDDEN, "Another site may not press this box's buttons.")
    sent = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(sent.encode(), token().encode()):
        abort(HTTPStatus.FORBIDDEN, "This page is out of date. Load it again.")


def _harden(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if not g.get("may_be_cached", False):
        # Photos of people, and every page that shows one, stay out of the browser's profile.
        response.headers["Cache-Control"] = "no-store"
    return response
