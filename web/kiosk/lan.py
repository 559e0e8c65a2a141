"""What the clinic's network may see before there is any login: that the box is here and how it is, nothing of anybody.

The screens with photos answer to this machine only; pairing and people come with the records.
"""

from http import HTTPStatus
from itertools import islice
from typing import Final

from flask import Flask, Response, abort, render_template, request

from appliance.engine_address import is_loopback
from appliance.host.addresses import lan_addresses
from appliance.host.names import host_name, instance_names
from appliance.service.station import Station

_NAMES_TRIED: Final = 50
"""As many as the advertisement tries when a name is taken."""


def lan_hosts(name: str, host: str) -> frozenset[str]:
    """Return the names and addresses under which other machines may address this box, lower case."""
    names = {host_name(instance).rstrip(".").lower() for instance in islice(instance_names(name), _NAMES_TRIED)}
    return frozenset(names | set(lan_addresses(host)))


def keep_lan_out(app: Flask, station: Station) -> None:
    """Answer other machines with one page about the box, and refuse them everything else."""

    @app.before_request
    def answer_from_afar() -> Response | None:
        if is_loopback(request.remote_addr or "") or request.endpoint == "static":
            return None
        if request.path != "/" or request.method not in {"GET", "HEAD"}:
            abort(HTTPStatus.FORBIDDEN, "The screens of this box are on the box itself.")
        return Response(render_template("lan/home.html", state=station.state()), mimetype="text/html")
