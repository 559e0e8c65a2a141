"""R4, R6, P7: whatever state disk, files and clock are in, opening says what to do, and nothing is lost by it."""

import contextlib
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from manual_clock import ManualClock
from records_boxes import Box, Visited, described, new_box, open_box, photo, visit

from appliance.records import database, space
from appliance.records.content import CapturedImageContent, SubjectContent
from appliance.records.database import durability_for, migration_from_text
from appliance.records.dating import Calendar, is_plausible
from appliance.records.errors import CannotOpenError, DiskFullError, ReadOnlyError, RecordsError
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.space import Space
from appliance.records.store import RecordStore


@pytest.mark.parametrize(
    ("version", "journal_mode"),
    [
        ((3, 40, 1), "persist"),
        ((3, 44, 5), "persist"),
        ((3, 44, 6), "wal"),
        ((3, 50, 6), "persist"),
        ((3, 50, 7), "wal"),
        ((3, 51, 2), "persist"),
        ((3, 51, 3), "wal"),
        ((4, 0, 0), "wal"),
    ],
)
def test_journal_is_chosen_by_what_the_version_can(version: tuple[int, ...], journal_mode: str) -> None:
    chosen = durability_for(version)
    assert chosen.journal_mode == journal_mode
    assert chosen.synchronous == {"wal": "FULL", "persist": "EXTRA"}[journal_mode]


def test_setting_that_is_not_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenError, match="journal_mode"):
        database.connect(tmp_path, durability=database.Durability("sideways", "FULL"))


def damages(content: bytes, rng: random.Random) -> Iterator[bytes]:
    yield b""
    yield content[: len(content) // 2]
    yield bytes(len(content))
    yield rng.randbytes(len(content))
    yield content[:100]
    for _ in range(20):
        at = rng.randrange(max(1, len(content) - 600))
        yield content[:at] + rng.randbytes(500) + content[at + 500 :]


def test_every_damaged_file_of_its_own_is_met_with_a_sentence(box: Box, seed: int) -> None:
    """R6: truncated, zeroed, garbage: never an exception that is not the records' own."""
    rng = random.Random(seed)
    visited = visit(box, "one")
    box.store.close()
    states = set()
    whole = {path: path.read_bytes() for path in box.folder.iterdir() if path.is_file() and path.name != "ballast"}
    for path, before in sorted(whole.items()):
        for damaged in damages(before or bytes(4096), rng):
            path.write_bytes(damaged)
            opening = open_records(box.folder, clock=box.clock)
            states.add(opening.state)
            assert opening.found.endswith(".")
            if opening.store is not None:
                _use_or_be_told(box, opening.store, visited.capture_id)
            else:
                assert opening.action.endswith(".")
            for left in box.folder.glob("records.sqlite-*"):
                left.unlink()
            path.write_bytes(before)
    assert {"damaged", "ready"} <= states
    assert "in-use" not in states


def _use_or_be_told(box: Box, store: RecordStore, capture_id: str) -> None:
    with store, contextlib.suppress(RecordsError):
        store.unlock(box.sheet())
        store.photo(store.get(CapturedImageContent, capture_id))
        People(store, clock=box.clock).users()


def test_database_without_its_file_is_not_taken_for_a_new_box(box: Box) -> None:
    visit(box, "one")
    box.store.close()
    (box.folder / "records.sqlite").unlink()
    opening = open_records(box.folder)
    assert opening.state == "damaged"
    assert "restore" in opening.action.lower()


def test_photo_that_is_gone_is_counted_at_the_start(box: Box) -> None:
    visited = visit(box, "one")
    path = box.store.saver.blobs.path(visited.capture_id)
    box.store.close()
    path.unlink()
    opening = open_records(box.folder, clock=box.clock)
    assert (opening.state, opening.photos_missing) == ("ready", 1)
    assert "1 photos are missing" in opening.found
    assert opening.store is not None
    opening.store.close()


def test_what_a_cut_left_of_a_photo_is_swept(box: Box) -> None:
    blobs = box.folder / "blobs"
    (blobs / ("a" * 32)).write_bytes(b"unclaimed")
    (blobs / ("b" * 32 + ".new")).write_bytes(b"unfinished")
    visited = visit(box, "one")
    again = box.reopen()
    assert [entry.name for entry in blobs.iterdir()] == [visited.capture_id]
    again.store.close()


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    opening = open_records(tmp_path / "file" / "records")
    assert opening.state == "no-folder"
    assert "cannot be opened" in opening.found


def test_records_of_a_later_version_are_left_alone(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = database.shipped_migrations()
    first, second = (f"{shipped[-1].version + step:04}" for step in (1, 2))
    readable = migration_from_text(f"{first}_more.sql", "-- compat: 1\nCREATE TABLE more (a TEXT) STRICT;\n")
    foreign = migration_from_text(
        f"{second}_other.sql", f"-- compat: {int(second)}\nCREATE TABLE other (a TEXT) STRICT;\n"
    )
    visited = visit(box, "one")
    box.store.close()
    for later, state in ((readable, "ready"), (foreign, "newer")):
        with monkeypatch.context() as patch:
            patch.setattr(
                database, "shipped_migrations", lambda later=later: (*shipped, readable, later)[: later.version]
            )
            open_box(box.folder, box.made).store.close()
        opening = open_records(box.folder)
        assert opening.state == state
        if opening.store is not None:
            opening.store.unlock(box.sheet())
            assert opening.store.get(SubjectContent, visited.subject_id).content.pseudonym == "P-one"
            opening.store.close()


def test_migration_that_fails_leaves_the_version_before(box: Box) -> None:
    box.store.close()
    shipped = database.shipped_migrations()
    name = f"{shipped[-1].version + 1:04}_bad.sql"
    broken = migration_from_text(name, "-- compat: 1\nCREATE TABLE more (a TEXT);\nCREATE TABLE subject (a);\n")
    connection = database.connect(box.folder)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        database.migrate(connection, (*shipped, broken))
    assert database.schema_version(connection) == shipped[-1].version
    assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchone() is None
    connection.close()
    assert open_records(box.folder).state == "ready"


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 8 MiB that is really full when it is full."""
    monkeypatch.setattr(space, "_LEVELS", ())
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs root to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_keeps_what_it_has_and_says_so(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: no photo, no half photo; reading, signing in and the audit go on with the ballast's room."""
    monkeypatch.setattr(space, "SHORT_BYTES", 0)
    box = new_box(small_disk / "records")
    space.lay_ballast(box.folder, 1 << 20)
    kept: list[Visited] = []
    with pytest.raises(DiskFullError, match="full"):
        _visit_without_end(box, kept)
    assert len(kept) > 10
    (small_disk / "filler").write_bytes(bytes(max(0, space.look(small_disk).free_bytes)))
    assert People(box.store, clock=box.clock).sign_in(box.lead.user_id, "482915").role == "lead"
    assert not (box.folder / space.BALLAST_NAME).exists()
    assert not box.store.has_failed
    box.store.lock()
    again = box.reopen()
    for visited in kept:
        image = again.store.get(CapturedImageContent, visited.capture_id)
        assert again.store.photo(image) == visited.content
    assert again.store.saver.blobs.names() == {visited.capture_id for visited in kept}
    assert again.store.verify_audit().problems == ()
    (small_disk / "filler").unlink()
    visit(again, "after somebody made room")
    again.store.close()


def _visit_without_end(box: Box, kept: list[Visited]) -> None:
    while True:
        kept.append(visit(box, f"visit {len(kept)}", size=200_000))


def test_room_is_set_aside_when_there_is_plenty_and_only_then(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.store.close()
    ballast = box.folder / space.BALLAST_NAME
    for free, is_laid in ((space.SHORT_BYTES, False), (space.LOW_BYTES, True)):
        with monkeypatch.context() as patch:
            patch.setattr(space, "look", lambda _, free=free: Space(free_bytes=free))
            opening = open_records(box.folder, clock=box.clock, ballast_bytes=1 << 20)
        assert opening.store is not None
        opening.store.close()
        assert ballast.exists() == is_laid
    assert ballast.stat().st_blocks * 512 >= 1 << 20


def test_photos_stop_before_the_disk_is_full(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "look", lambda _: Space(free_bytes=space.FULL_BYTES - 1))
    visited = photo("one")
    with pytest.raises(DiskFullError):
        visit(box, "one")
    assert box.store.space().level == "full"
    box.store.add(SubjectContent(pseudonym="small things go on"), box.lead.user_id)
    assert described(visited).size_bytes == len(visited)


@pytest.mark.parametrize(("free", "level"), [(3e9, "ample"), (1e9, "low"), (4e8, "short"), (5e7, "full"), (0, "full")])
def test_room_is_told_in_four_levels(free: float, level: str) -> None:
    found = Space(free_bytes=int(free))
    assert found.level == level
    assert (found.action == "") == (level == "ample")


def test_disk_that_takes_no_writes_can_be_read(small_disk: Path) -> None:
    box = new_box(small_disk / "records")
    visited = visit(box, "one")
    box.store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    opening = open_records(box.folder, clock=box.clock)
    assert (opening.state, opening.action != "") == ("read-only", True)
    assert opening.store is not None
    opening.store.unlock(box.sheet())
    assert opening.store.photo(opening.store.get(CapturedImageContent, visited.capture_id)) == visited.content
    reading = Box(folder=box.folder, store=opening.store, made=box.made, lead=box.lead, clock=box.clock)
    with pytest.raises(ReadOnlyError, match="no writes"):
        opening.store.add(SubjectContent(pseudonym="x"), None)
    with pytest.raises(ReadOnlyError, match="no writes"):
        visit(reading, "two")
    opening.store.close()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "is_confirmed"),
    [
        (NOW + timedelta(hours=12), True),
        (NOW - timedelta(minutes=1), True),
        (NOW - timedelta(days=1), False),
        (NOW + timedelta(days=15), False),
        (NOW + timedelta(days=400), False),
        (datetime(1970, 1, 1, tzinfo=UTC), False),
        (datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC), False),
        (datetime(2025, 6, 1, tzinfo=UTC), False),
    ],
)
def test_date_is_believed_when_it_follows_what_was_recorded(now: datetime, is_confirmed: bool) -> None:
    assert is_plausible(now, NOW) == is_confirmed
    assert not is_plausible(now, None)


class SetClock(ManualClock):
    """A date that is set; seconds that pass."""

    def __init__(self, date: datetime) -> None:
        super().__init__()
        self.date = date

    def now_at(self) -> datetime:
        return self.date + timedelta(seconds=self.passed_s)


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1), timedelta(days=400), timedelta(days=-20_000)])
def test_clock_that_jumps_loses_nothing_and_is_shown(tmp_path: Path, jump: timedelta) -> None:
    """R4: order by number, not by date; the badge until somebody confirms the date."""
    box = new_box(tmp_path / "records")
    clock = SetClock(box.clock.now_at())
    box.store.close()
    opening = open_records(box.folder, clock=clock)
    assert opening.store is not None
    box = Box(folder=box.folder, store=opening.store, made=box.made, lead=box.lead, clock=clock)
    box.store.unlock(box.sheet())
    before = visit(box, "before the jump")
    clock.date += jump
    after = visit(box, "after the jump")
    records = [box.store.get(SubjectContent, one.subject_id) for one in (before, after)]
    assert [record.is_date_confirmed for record in records] == [True, False]
    assert records[0].sequence < records[1].sequence
    assert [hit.subject_id for hit in box.store.find("jump")] == [after.subject_id, before.subject_id]
    box.store.confirm_date(box.lead.user_id)
    later = visit(box, "confirmed")
    # A date before this version existed is believed by nobody's word.
    expected = clock.now_at() > datetime(2026, 11, 1, tzinfo=UTC)
    assert box.store.get(SubjectContent, later.subject_id).is_date_confirmed == expected
    assert box.store.verify_audit().problems == ()
    box.store.close()


def test_calendar_follows_a_clock_that_drifts_a_little() -> None:
    clock = SetClock(NOW)
    calendar = Calendar(clock, NOW)
    clock.passed_s += 3600
    clock.date += timedelta(seconds=30)
    assert calendar.now().is_confirmed


def test_box_secret_and_database_are_for_the_station_alone(box: Box) -> None:
    visit(box, "one")
    modes = {path.name: path.stat().st_mode & 0o077 for path in box.folder.rglob("*") if path.is_file()}
    assert len(modes) > 3
    assert [name for name, mode in modes.items() if mode and name != "ballast"] == []
