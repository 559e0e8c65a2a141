"""Keeps browsers out of the engine: a web page must not reach it through the nurse's own machine.

A page can send simple requests to any address (hence no Origin but our own) and, by DNS rebinding, can make its own
name mean 127.0.0.1 (hence only names that are loopback by themselves). A Unix socket is out of a browser's reach.
Source: WHATWG Fetch, "Origin header"; RFC 9110, section 7.2 (Host).
"""

from http import HTTPStatus

from werkzeug.datastructures import Headers

from appliance.engine_address import is_loopback
from web.engine.api_errors import ApiError
from web.hosts import name_of_host


def check_origin(headers: Headers) -> None:
    """See that a request over TCP does not come from somebody else's page.

    Raises:
        ApiError: The Host header is not a loopback name, or the Origin is another one.
    """
    host = headers.get("Host", "")
    if not is_loopback(name_of_host(host)):
        raise ApiError(
            HTTPStatus.FORBIDDEN, "The engine answers to localhost and its addresses only.", code="foreign_host"
        )
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        raise ApiError(HTTPStatus.FORBIDDEN, "The engine does not answer to other sites' pages.", code="foreign_origin")
