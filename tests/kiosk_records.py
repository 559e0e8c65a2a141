"""What the tests of the kiosk with records share: a station on a box that was set up, and its screens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiosk_browser import Screen, served
from kiosk_station import picture_folder
from records_boxes import LEAD_PIN, Box, new_box

from appliance.camera.replay import ReplayCamera
from appliance.clock import SystemClock
from appliance.config import RecordsConfig
from appliance.records.opening import Opening
from appliance.records.people import People
from appliance.records.users import Role, User
from appliance.service.clinic import Clinic
from appliance.service.station import EngineClientLike, Station
from appliance.service.visits import Visits

NURSE_PIN = "739164"
TECHNICIAN_PIN = "518273"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKiosk:
    """A kiosk whose photos go into records."""

    box: Box
    clinic: Clinic
    station: Station
    nurse: User
    url: str


def add_user(box: Box, name: str, role: Role, pin: str) -> User:
    """Let the lead add somebody."""
    return People(box.store).add(name, role, pin, box.lead)


@contextmanager
def kept_kiosk(
    engine: EngineClientLike,
    folder: Path,
    *,
    box: Box | None = None,
    idle_s: float = 3600,
    records: RecordsConfig | None = None,
) -> Iterator[KeptKiosk]:
    """Serve a station with records on loopback; the box is unlocked unless one is given."""
    used = box or new_box(folder / "records")
    users = {user.name: user for user in People(used.store).users()}
    nurse = users.get("Nurse Thandi") or add_user(used, "Nurse Thandi", "nurse", NURSE_PIN)
    pictures = folder / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        picture_folder(pictures)
    opening = Opening(state="ready", found="The records are open.", store=used.store)
    clinic = Clinic(opening, clock=SystemClock(), folder=used.folder, idle_s=idle_s)
    visits = Visits(clinic.records, clinic.operator, has_records=lambda: clinic.store is not None)
    camera = ReplayCamera(pictures, frames_per_s=50, picture_s=60)
    with clinic, Station(camera, engine, visits=visits) as station, served(station, clinic, records) as url:
        yield KeptKiosk(box=used, clinic=clinic, station=station, nurse=nurse, url=url)


def sign_in(screen: Screen, name: str = "Nurse Thandi", pin: str = NURSE_PIN) -> None:
    """Touch the tile, then the digits, and leave the change of shift if it comes."""
    screen.open("/sign-in")
    screen.page.locator("[data-user]", has_text=name).tap()
    for digit in pin:
        screen.page.locator(f'[data-digit="{digit}"]:visible').first.tap()
    screen.page.wait_for_url(lambda url: "/sign-in" not in url)
    screen.open()


__all__ = ["LEAD_PIN", "NURSE_PIN", "TECHNICIAN_PIN", "KeptKiosk", "add_user", "kept_kiosk", "sign_in"]
