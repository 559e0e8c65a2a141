"""Whose visit is on the screen, for the top bar and the steps of every page; also on a station without records."""

from typing import Any

from flask import Flask, url_for

from appliance.service.station import Station


def tell_visit(app: Flask, station: Station) -> None:
    """Let every template say whose visit is on the screen: `visit`, None where nothing is stored or none is open."""
    app.context_processor(lambda: {"visit": visit_view(station)})


def visit_view(station: Station) -> dict[str, Any] | None:
    """Return whose visit is on the screen, in words; None where nothing is stored or none is open."""
    current, visits = station.captures.current, station.visits
    if current is None or visits is None or not visits.has_records():
        return None
    person = visits.person(current.encounter_id)
    photos = visits.photos.count(current.encounter_id)
    return {
        "title": person.title,
        "details": person.details,
        "is_named": person.is_named,
        "subject_id": person.subject_id,
        "lesion": visits.lesions.words(current.encounter_id),
        "photos": photos,
        "hidden": photos - visits.photos.count_readable(current.encounter_id),
        "url": url_for("pages.capture", encounter_id=current.encounter_id),
    }
