"""The real station's process on real disks: killed, full, read-only, damaged, failing; through real HTTP.

Every photo that was answered with 201 is there afterwards, and each series has a control that must lose some.
"""

import http.client
import logging
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kiosk_process import END_S, StationProcess, station_process, write_settings
from kiosk_station import picture_folder
from records_boxes import LEAD_PIN, Box, new_box, open_box, visit

from appliance.records.content import CapturedImageContent
from appliance.records.errors import MissingError
from appliance.records.opening import open_records
from appliance.service.visits import CLOSED_FORM

logger = logging.getLogger(__name__)

KILLS = 4
KILLS_SLOW = 1000
LONGEST_S = 0.5

ANSWERS_BEFORE_IT_SAVES = """
import threading
from appliance.service.record_captures import RecordCaptureStore
keep = RecordCaptureStore.keep
RecordCaptureStore.keep = lambda self, image: threading.Timer(0.15, keep, (self, image)).start()
"""
FAILS_WHEN_TOLD = """
import errno, pathlib
from appliance.records.door import FileDoor
sync_folder = FileDoor.sync_folder
def failing(self, *args):
    if pathlib.Path({trigger!r}).exists():
        raise OSError(errno.EIO, "Input/output error")
    return sync_folder(self, *args)
FileDoor.sync_folder = failing
"""


@dataclass(slots=True, kw_only=True)
class Clinic:
    """A box on a disk, and the settings of its station."""

    box: Box
    settings: Path
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Encounter by photo, of every 201."""

    def signed_in(self, station: StationProcess) -> None:
        assert station.sign_in(self.box.lead.user_id, LEAD_PIN).status == 200

    def missing(self) -> list[str]:
        """Open the records as after a start, and return the acknowledged photos that do not come back."""
        box = open_box(self.box.folder, self.box.made)
        lost = []
        try:
            for capture_id in self.acknowledged:
                try:
                    record = box.store.get(CapturedImageContent, capture_id)
                    assert record.parents["encounter_id"] == self.acknowledged[capture_id]
                    assert len(box.store.photo(record)) == record.content.size_bytes
                except MissingError:
                    lost.append(capture_id)
            assert box.store.verify_audit().problems == ()
        finally:
            box.store.close()
        return lost


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    box = new_box(tmp_path / "disk" / "records")
    box.store.close()
    return make_clinic(tmp_path, box)


def make_clinic(folder: Path, box: Box) -> Clinic:
    pictures = folder / "pictures"
    pictures.mkdir()
    return Clinic(box=box, settings=write_settings(folder, box.folder, picture_folder(pictures)))


def shoot_until_killed(clinic: Clinic, rng: random.Random, *, before: str = "", waits: bool = True) -> None:
    """Start, sign in, go on with the visit, take photos as fast as it goes, and kill at a random moment.

    With `waits` the moment comes after the second photo that was answered, however slow the machine is.
    """
    with station_process(clinic.settings, before=before) as station:
        clinic.signed_in(station)
        # The first page after the sign-in shows the visit of before the kill, if there is one.
        encounter_id = station.open_visit()
        done, answered = threading.Event(), threading.Semaphore(0)

        def shoot() -> None:
            while not done.is_set():
                try:
                    reply = station.shoot(encounter_id)
                except (OSError, http.client.HTTPException):  # killed before or within its answer
                    return
                if reply.status == 201:
                    clinic.acknowledged[reply.json()["capture_id"]] = encounter_id
                    answered.release()

        shooter = threading.Thread(target=shoot)
        shooter.start()
        for _ in range(2 if waits else 0):
            answered.acquire(timeout=END_S)
        time.sleep(rng.uniform(0.0, LONGEST_S))
        station.kill()
        done.set()
        shooter.join()


@pytest.mark.parametrize(
    "kills", [KILLS, pytest.param(KILLS_SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_photo_that_was_acknowledged_survives_kill_9(clinic: Clinic, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    for number in range(kills):
        shoot_until_killed(clinic, rng, waits=number % 2 == 0)
    logger.info("kills=%d acknowledged=%d", kills, len(clinic.acknowledged))
    assert len(clinic.acknowledged) >= kills
    assert clinic.missing() == []


def test_control_that_answers_before_it_saves_loses_photos(clinic: Clinic, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(3):
        shoot_until_killed(clinic, rng, before=ANSWERS_BEFORE_IT_SAVES)
    assert clinic.missing() != []


def test_visit_goes_on_after_kill_9_while_locked(clinic: Clinic) -> None:
    with station_process(clinic.settings) as station:
        clinic.signed_in(station)
        encounter_id = station.open_visit()
        assert station.shoot(encounter_id).status == 201
        station.kill()
    with station_process(clinic.settings) as station:
        clinic.signed_in(station)
        home = station.page("/").text
        assert f"/encounters/{encounter_id}" in home
        assert "1 photo saved" in home
        photos = station.page(f"/encounters/{encounter_id}").text
        assert "shown after the phrase" in photos
        assert station.shoot(encounter_id).status == 201
        assert station.ask("/api/unlock", {"phrase": clinic.box.made.phrase}).status == 200
        photos = station.page(f"/encounters/{encounter_id}").text
        assert "shown after the phrase" not in photos
        assert photos.count("/image") >= 2


def test_disk_that_fails_ends_the_process_and_the_next_start_goes_on(clinic: Clinic, tmp_path: Path) -> None:
    trigger = tmp_path / "broken"
    with station_process(clinic.settings, before=FAILS_WHEN_TOLD.format(trigger=str(trigger))) as station:
        clinic.signed_in(station)
        encounter_id = station.open_visit()
        kept = station.shoot(encounter_id)
        assert kept.status == 201
        trigger.touch()
        refused = station.shoot(encounter_id)
        assert refused.status == 507
        assert "The station starts anew" in refused.json()["error"]
        output = station.process.communicate(timeout=10)[1]
        assert station.process.returncode == 74
        assert "The disk of the records failed" in output
        assert "Traceback" not in output
    with station_process(clinic.settings) as station:
        clinic.signed_in(station)
        assert "1 photo saved" in station.page("/").text
        assert station.shoot(encounter_id).status == 201


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 MB: short of room from the start."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs root to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small(tmp_path: Path, small_disk: Path) -> Clinic:
    box = new_box(small_disk / "records")
    visit(box, "before", size=20_000)
    box.store.close()
    return make_clinic(tmp_path, box)


def test_full_disk_stops_the_model_first_and_photos_later_and_says_so(small: Clinic, small_disk: Path) -> None:
    with station_process(small.settings) as station:
        small.signed_in(station)
        assert "nearly full" in station.page("/").text
        encounter_id = station.open_visit()
        kept = station.shoot(encounter_id)
        assert kept.status == 201
        capture_id = kept.json()["capture_id"]
        refused = station.ask(f"/api/captures/{capture_id}/assessment", {})
        assert refused.status == 429
        assert "model writes nothing more" in refused.json()["error"]
        (small_disk / "filler").write_bytes(bytes(100_000_000))
        refused = station.shoot(encounter_id)
        assert refused.status in {429, 507}
        assert "full" in refused.json()["error"]
        assert station.ask(f"/captures/{capture_id}/image").status == 200
    with station_process(small.settings) as station:
        small.signed_in(station)
        assert "The disk is full" in station.page("/").text
        assert "1 photo saved" in station.page("/").text
        (small_disk / "filler").unlink()
        assert station.shoot(encounter_id).status == 201
        assert station.ask(f"/encounters/{encounter_id}/close", {}, form=True).status == 303
    box = open_box(small.box.folder, small.box.made)
    assert len(box.store.of(CapturedImageContent, encounter_id=encounter_id)) == 2
    # Closed while locked: what is left to say so in the visit itself, after the phrase, and nothing else.
    forms = box.store.saver.connection.execute("SELECT form FROM draft").fetchall()
    assert forms == [(CLOSED_FORM,)], "it is still open"
    box.store.close()


def test_read_only_disk_is_said_and_read_from_and_nothing_is_lost(small: Clinic, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with station_process(small.settings) as station:
            assert "takes no writes" in station.page("/sign-in").text
            signed = station.sign_in_by_phrase(small.box.lead.user_id, small.box.made.phrase)
            assert signed.status == 200, signed
            assert "takes no writes" in station.page("/").text
            found = station.ask("/api/patients/find", {"text": "before"}).json()["people"]
            assert len(found) == 1
            patient = station.page(found[0]["url"])
            assert "1 visit" in patient.text
            refused = station.shoot(station.open_visit())
            assert refused.status == 507
            assert "takes no writes" in refused.json()["error"]
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with station_process(small.settings) as station:
        small.signed_in(station)
        assert station.shoot(station.open_visit()).status == 201


def test_damaged_records_are_said_and_photos_are_taken_unkept(clinic: Clinic) -> None:
    database = clinic.box.folder / "records.sqlite"
    whole = database.read_bytes()
    database.write_bytes(b"not a database" + whole[14:])
    with station_process(clinic.settings) as station:
        page = station.page("/sign-in").text
        assert "Restore the newest backup" in page
        begun = station.ask("/emergency", {}, form=True)
        assert begun.status == 303
        encounter_id = begun.location.rsplit("/", 1)[-1]
        assert station.shoot(encounter_id).status == 201
        assert "nothing is stored" in station.page(f"/encounters/{encounter_id}").text
    assert database.read_bytes().startswith(b"not a database"), "the damaged file was written over"
    database.write_bytes(whole)
    opening = open_records(clinic.box.folder)
    assert opening.state == "ready"
    assert opening.store is not None
    opening.store.close()
