"""What the start page says of the records: visits that wait to be gone on with, room, and the last backup."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from appliance.records.errors import RecordsError
from appliance.service.station import Station
from web.kiosk.dates import NOT_CONFIRMED, age_words, time_words

if TYPE_CHECKING:  # a station without the extra `records` has a start page too
    from appliance.service.visits import OpenVisit

BACKUP_LATE: Final = timedelta(days=7)


def waiting_visits(station: Station) -> list[dict[str, Any]]:
    """Return the open visits of whoever is at the screen, the one on the screen first."""
    visits = station.visits
    if visits is None or not visits.has_records():
        return []
    current = station.captures.current
    found = [_waiting_view(one) for one in visits.waiting()]
    on_screen = [one for one in found if current is not None and one["encounter_id"] == current.encounter_id]
    return [{**one, "is_on_screen": True} for one in on_screen] + [one for one in found if one not in on_screen]


def records_words(station: Station) -> dict[str, str] | None:
    """Return one sentence about the last backup and its state, as for the camera; None where nothing is stored."""
    if station.visits is None or not station.visits.has_records():
        return None
    try:
        return backup_words(station)
    except RecordsError as error:
        return {"state": "off", "words": str(error)}


def backup_words(station: Station) -> dict[str, str]:
    """Say how old the last backup is: one that is a week old is late."""
    from appliance.records.backup import last_backup

    if station.visits is None:
        return {}
    store = station.visits.records()
    last, moment = last_backup(store), store.now()
    if last is None:
        return {"state": "off", "words": "No backup was made yet"}
    if not (last.is_date_confirmed and moment.is_confirmed):
        return {"state": "starting", "words": f"Backup: {last.label}, {NOT_CONFIRMED}"}
    made_at = datetime.fromisoformat(last.recorded_at)
    is_late = moment.at - made_at > BACKUP_LATE
    return {"state": "off" if is_late else "ready", "words": f"Backup: {last.label}, {age_words(made_at, moment.at)}"}


def _waiting_view(visit: "OpenVisit") -> dict[str, Any]:
    photos = "1 photo" if visit.photos == 1 else f"{visit.photos} photos"
    began = "Begun without a PIN" if visit.is_without_pin else "Begun"
    at = time_words(visit.opened_at) if visit.is_date_confirmed else NOT_CONFIRMED
    return {
        "encounter_id": visit.encounter_id,
        "title": " · ".join([visit.person.title, *visit.person.details[:1]]),
        "words": f"{began} {at}, {photos if visit.photos else 'no photo'} saved",
        "is_on_screen": False,
    }
