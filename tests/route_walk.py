"""Walking an application's URL map: every path and method, with views that only say that they were reached."""

import re
from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from web.kiosk.access import SIGN_IN
from web.kiosk.guard import CSRF_HEADER, Access, access_of, allow

ID = "0" * 32
REACHED = 418
"""What every view answers here instead of doing its work."""


def with_stand_ins(app: Flask) -> Flask:
    """Put a stand-in in the place of every view, with the view's own word on who may."""
    for endpoint, view in app.view_functions.items():
        if endpoint != "static":
            app.view_functions[endpoint] = stand_in(access_of(view))
    return app


def stand_in(access: Access | None) -> Callable[..., tuple[str, int]]:
    def view(**_: str) -> tuple[str, int]:
        return "", REACHED

    return view if access is None else allow(access)(view)


def token_of(app: Flask) -> str:
    with app.test_request_context():
        found: dict[str, object] = {}
        app.update_template_context(found)
    return str(found["csrf_token"])


def is_denied(client: FlaskClient, path: str, method: str, token: str) -> bool:
    answer = client.open(path, method=method, headers={CSRF_HEADER: token})
    if answer.status_code == REACHED:
        return False
    assert answer.status_code in {401, 403} or answer.location == SIGN_IN, (path, method, answer.status)
    return True


def routes(app: Flask) -> list[tuple[str, str, Access | None]]:
    """Every path and method of the map, with what its view says."""
    return [
        (re.sub(r"<[^>]+>", ID, rule.rule), method, access_of(app.view_functions[rule.endpoint]))
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.endpoint != "static"
    ]
