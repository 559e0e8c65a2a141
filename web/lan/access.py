"""Who may use which page of the network: a stranger, a paired device, or the person who signed in on one.

An address says nothing of who somebody is; only the device's token and the person's session do, and both are asked at
every request.
"""

import hashlib
import hmac
import secrets
from http import HTTPStatus
from typing import Final

from flask import Response, g, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from appliance.records.devices import Device
from appliance.records.errors import ForbiddenError
from appliance.records.users import User
from appliance.service.lan_sessions import LanSessions
from web.kiosk.access import GuardedApp
from web.kiosk.guard import Access
from web.lan.control import DEVICE_HEADER, PEER_HEADER

DEVICE_COOKIE: Final = "__Host-device"
SESSION_COOKIE: Final = "__Host-session"
CLAIM_COOKIE: Final = "__Host-pairing"
DEVICE_S: Final = 400 * 24 * 3600
"""As long as browsers keep one; what ends a device is its being revoked, for the box may not know the date."""
SIGN_IN: Final = "/sign-in"


class LanApp(GuardedApp):
    """The network's application; the front has ended TLS and kept the limits."""

    def __init__(self, sessions: LanSessions | None) -> None:
        super().__init__("web", template_folder="templates", static_folder="static/lan", static_url_path="/static")
        self.sessions = sessions
        self._key = secrets.token_bytes(32)
        self.after_request(_name_device)

    def csrf_token(self) -> str:
        """What a form of this device and session must bring: a stranger who loads a page learns another."""
        theirs = f"{request.cookies.get(DEVICE_COOKIE, '')} {request.cookies.get(SESSION_COOKIE, '')}"
        return hmac.digest(self._key, theirs.encode(), hashlib.sha256).hex()

    def refusal(self, access: Access) -> WerkzeugResponse | None:
        """Let strangers to the strangers' pages, devices to theirs, and people to what their role allows.

        Raises:
            ForbiddenError: The device is not paired, or the role does not allow it.
        """
        g.device = self._device()
        g.user = self._user(g.device)
        if access == "nobody-signed-in":
            return None
        if g.device is None:
            raise ForbiddenError("This phone is not paired with the box, or not any more.")
        if access == "paired":
            return None
        if g.user is None:
            return redirect(SIGN_IN, HTTPStatus.SEE_OTHER)
        match access:
            case "signed-in":
                return None
            case "at-the-screen" | "first-run":
                raise ForbiddenError("This is done at the box itself.")
            case _:
                g.user.require(access)
                return None

    def _device(self) -> Device | None:
        return self.sessions.device(request.cookies.get(DEVICE_COOKIE, "")) if self.sessions is not None else None

    def _user(self, device: Device | None) -> User | None:
        if self.sessions is None or device is None:
            return None
        return self.sessions.user(device, request.cookies.get(SESSION_COOKIE, ""))


def peer() -> str:
    """Return the address of whoever asks, as the front saw it; good for counting, never for trusting."""
    return request.headers.get(PEER_HEADER, "")


def set_cookie(response: WerkzeugResponse, name: str, value: str, max_age_s: int | None = None) -> None:
    """Give a device a secret: only over TLS, to no script, along with no other site's request."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="Strict")


def drop_cookie(response: WerkzeugResponse, name: str) -> None:
    """Take a secret back."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="Strict")


def _name_device(response: Response) -> Response:
    device: Device | None = g.get("device")
    if device is not None:
        response.headers[DEVICE_HEADER] = device.device_id
    return response
