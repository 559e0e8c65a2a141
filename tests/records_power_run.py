"""Cuts the power of a watched process anywhere, or fails any of its calls; started by the power tests.

Its own process, because the watching is done by LD_PRELOAD. Arguments: experiment, number of cuts, seed. Prints one
JSON object.
"""

import errno
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from manual_clock import ManualClock
from records_boxes import Box, new_box, open_box, set_up, visit
from records_power import Fact, Found, check, one_day
from rig.power_cut import FAIL_FROM_THEN_ON, FAIL_ONCE, SHORT_THEN_FULL, Disk, Shim, Step, steps

from appliance.records import database, opening
from appliance.records.content import CapturedImageContent, SubjectContent
from appliance.records.database import Durability
from appliance.records.door import FileDoor
from appliance.records.drafts import Drafts
from appliance.records.errors import NotSavedError, RecordsError, StorageFailedError
from appliance.records.setup import prepare

DURABILITIES = {
    "chosen": None,
    "wal-full": Durability("wal", "FULL"),
    "delete-extra": Durability("delete", "EXTRA"),
    "delete-off": Durability("delete", "OFF"),
    "wal-normal": Durability("wal", "NORMAL"),
}
FAULTS = {
    "EIO once": (errno.EIO, FAIL_ONCE),
    "ENOSPC once": (errno.ENOSPC, FAIL_ONCE),
    "ENOSPC from then on": (errno.ENOSPC, FAIL_FROM_THEN_ON),
    "half a write, then ENOSPC": (errno.ENOSPC, SHORT_THEN_FULL),
    "EROFS from then on": (errno.EROFS, FAIL_FROM_THEN_ON),
}


class ForgetfulDoor(FileDoor):
    """Forgets to fsync the folder: the usual mistake."""

    def sync_folder(self, folder: Path) -> None:
        pass


class Day:
    """One recorded day and its states."""

    def __init__(self, shim: Shim, folder: Path, durability: Durability | None, door: FileDoor) -> None:
        self.records, self._before = folder / "records", folder / "before"
        box = new_box(self.records, durability=durability)
        box.store.close()
        shutil.copytree(self.records, self._before)
        # Watched from before the database is opened.
        shim.start(self.records, folder / "log")
        box = open_box(self.records, box.made, durability=durability, door=door)
        one_day(box, shim.mark)
        shim.stop()
        box.store.close()
        self.made = box.made
        self.steps = list(steps(folder / "log"))

    def states(self, count: int, rng: random.Random) -> Iterator[tuple[Disk, list[Fact]]]:
        """Yield the disk and what was acknowledged, at `count` random steps in order."""
        return _states(self.records, self._before, self.steps, count, rng)


def _states(
    records: Path, before: Path | None, recorded: list[Step], count: int, rng: random.Random, at_end: int = 1
) -> Iterator[tuple[Disk, list[Fact]]]:
    times = Counter(rng.randint(0, len(recorded)) for _ in range(count - at_end))
    times[len(recorded)] += at_end  # also when all is done
    acknowledged: list[Fact] = []
    disk = Disk(records, before)
    for position in range(len(recorded) + 1):
        for _ in range(times[position]):
            yield disk, acknowledged
        if position < len(recorded):
            step = recorded[position]
            disk.apply(step)
            if step.mark is not None:
                acknowledged.append(json.loads(step.mark))


def cuts(shim: Shim, folder: Path, count: int, rng: random.Random, durability: str, door: FileDoor) -> Found:
    """P1, P4: cut the day at random calls."""
    day, found = Day(shim, folder, DURABILITIES[durability], door), Found()
    for disk, acknowledged in day.states(count, rng):
        disk.cut(folder / "cut", rng)
        check(folder / "cut", day.made, acknowledged, found)
    return found


def double_cuts(shim: Shim, folder: Path, count: int, rng: random.Random) -> Found:
    """P6: cut the day, then cut the recovery from that."""
    day, found = Day(shim, folder, None, FileDoor()), Found()
    cut, before, again = folder / "cut", folder / "cut-before", folder / "cut-again"
    for disk, acknowledged in day.states(count, rng):
        disk.cut(cut, rng)
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(cut, before)
        shim.start(cut, folder / "second-log")
        opened = opening.open_records(cut, clock=ManualClock(), ballast_bytes=0)
        shim.stop()
        if opened.store is not None:
            opened.store.close()
        second, recovering = list(steps(folder / "second-log")), Disk(cut, before)
        for step in second[: rng.randint(0, len(second))]:
            recovering.apply(step)
        recovering.cut(again, rng)
        check(again, day.made, acknowledged, found)
    return found


def photo_order(shim: Shim, folder: Path, count: int, rng: random.Random, door: FileDoor) -> Found:
    """P3: of every acknowledged visit the photo's file is whole under its name, wherever the cut is."""
    day, found = Day(shim, folder, None, door), Found()
    # The day's last act erases one visit; its file may be gone before that is acknowledged.
    kept = _kept_photos(day)
    for disk, acknowledged in day.states(count, rng):
        found.cuts += 1
        names = disk.surviving(Path("blobs"), rng)
        photos = {fact["visit"][2] for fact in acknowledged if "visit" in fact} & kept
        found.acknowledged += len(photos)
        for _ in photos - names:
            found.add("photo lost", is_lost=True)
    return found


def _kept_photos(day: Day) -> set[str]:
    visits = [json.loads(step.mark)["visit"] for step in day.steps if step.mark and "visit" in step.mark]
    return {visited[2] for number, visited in enumerate(visits) if number != 1}


def set_up_cuts(shim: Shim, folder: Path, count: int, rng: random.Random, variant: str) -> Found:
    """R7: cut the first run, its migration included: it asks to be set up, or it is."""
    records, made, found = folder / "records", prepare(), Found()
    records.mkdir()
    shim.start(records, folder / "log")
    connect = database.connect
    if variant:
        # A set-up chooses for itself how durable it is; a control chooses for it.
        database.connect = partial(connect, durability=DURABILITIES[variant])
    store = set_up(records, made)
    database.connect = connect
    shim.mark(json.dumps({"ready": True}))
    shim.stop()
    store.close()
    # Only the last call of a set-up is followed by a word of it: many of the cuts must come after that.
    for disk, acknowledged in _states(records, None, list(steps(folder / "log")), count, rng, count // 3):
        disk.cut(folder / "cut", rng)
        found.cuts += 1
        found.acknowledged += len(acknowledged)
        opened = opening.open_records(folder / "cut", clock=ManualClock(), ballast_bytes=0)
        if opened.store is not None:
            opened.store.close()
        if opened.state not in {"ready", "first-run"}:
            found.add(opened.found, is_lost=False)
        elif acknowledged and opened.state != "ready":
            found.add("set-up lost", is_lost=True)
    return found


def migration_cuts(shim: Shim, folder: Path, count: int, rng: random.Random, variant: str) -> Found:
    """R7: cut the step to a later schema; the version before still reads what it finds."""
    text = "-- compat: 1\nALTER TABLE device ADD COLUMN note TEXT NOT NULL DEFAULT '';\nCREATE TABLE extra (a TEXT);\n"
    shipped = database.shipped_migrations()
    later = (*shipped, database.migration_from_text(f"{shipped[-1].version + 1:04}_later.sql", text))
    records, found = folder / "records", Found()
    box = new_box(records)
    visited = visit(box, "before the update")
    box.store.close()
    shutil.copytree(records, folder / "before")
    shim.start(records, folder / "log")
    connection = database.connect(records, durability=DURABILITIES[variant])
    database.migrate(connection, later)
    shim.mark(json.dumps({"migrated": True}))
    shim.stop()
    connection.close()
    for disk, acknowledged in _states(records, folder / "before", list(steps(folder / "log")), count, rng, count // 3):
        disk.cut(folder / "cut", rng)
        found.cuts += 1
        found.acknowledged += len(acknowledged)
        try:
            connection = database.connect(folder / "cut")
            if acknowledged and database.schema_version(connection) != later[-1].version:
                found.add("migration lost", is_lost=True)
            connection.close()
            _check_by_the_version_before(open_box(folder / "cut", box.made), visited.subject_id, found)
        except (AssertionError, RecordsError, sqlite3.Error) as error:
            found.add(f"{type(error).__name__}: {error}", is_lost=False)
    return found


def _check_by_the_version_before(old: Box, subject_id: str, found: Found) -> None:
    if old.store.get(SubjectContent, subject_id).content.pseudonym != "P-before the update":
        found.add("subject lost", is_lost=True)
    old.store.add(SubjectContent(pseudonym="by the version before"), None)
    if old.store.verify_audit().problems:
        found.add("audit", is_lost=False)
    old.store.close()


def failing_calls(shim: Shim, folder: Path, rng: random.Random) -> Found:
    """P2: fail the n-th call of one save, for every n and every kind of fault."""
    records, found = folder / "records", Found()
    box = new_box(records)
    visited = visit(box, "before")
    Drafts(box.store).save(visited.encounter_id, "history", {"words": "typed"}, box.lead.user_id)
    box.store.close()
    template = folder / "template"
    shutil.copytree(records, template)
    for name, (number, mode) in FAULTS.items():
        at = 0
        while True:
            at += 1
            shutil.rmtree(records)
            shutil.copytree(template, records)
            shim.start(records)
            box = open_box(records, box.made)
            if not _one_failing_save(shim, box, (at, number, mode), found, f"{name} at call {at}"):
                break
    return found


def _one_failing_save(shim: Shim, box: Box, fault: tuple[int, int, int], found: Found, name: str) -> bool:
    """Try one save under a fault; False once the fault came after its last call."""
    found.cuts += 1
    outcome: Exception | None = None
    shim.fail(*fault)
    marks = {image.record_id for image in box.store.all_readable(CapturedImageContent)}
    try:
        visit(box, "failing")
    except NotSavedError as error:
        outcome = error
    calls = shim.calls()
    shim.fail(0, 0, 0)
    if isinstance(outcome, NotSavedError) and not isinstance(outcome, StorageFailedError):
        # It goes on: the same work can be saved again.
        visit(box, "again")
    shim.stop()
    box.store.close()
    again = open_box(box.folder, box.made)
    images = {image.record_id: again.store.photo(image) for image in again.store.all_readable(CapturedImageContent)}
    texts = {content[3:].split(b".")[0] for key, content in images.items() if key not in marks}
    found.acknowledged += outcome is None
    if outcome is None and b"failing" not in texts:
        found.add(f"{name}: acknowledged and lost", is_lost=True)
    if outcome is not None and not isinstance(outcome, StorageFailedError) and texts != {b"again"}:
        found.add(f"{name}: {type(outcome).__name__}, but there is {sorted(texts)}", is_lost=False)
    if again.store.saver.blobs.names() != again.store.photo_ids() or again.store.verify_audit().problems:
        found.add(f"{name}: a photo without a record, or the audit", is_lost=False)
    ((draft),) = Drafts(again.store).waiting(box.lead.user_id)
    if Drafts(again.store).open(draft.encounter_id, "history", box.lead.user_id) is None:
        found.add(f"{name}: the draft is gone", is_lost=True)
    again.store.close()
    return calls >= fault[0]


def main(experiment: str, count: int, seed: int) -> None:
    """Run one experiment and print what it found."""
    shim, rng = Shim(os.environ["LD_PRELOAD"]), random.Random(seed)
    kind, _, variant = experiment.partition(":")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        match kind:
            case "cuts":
                found = cuts(shim, folder, count, rng, variant, FileDoor())
            case "cuts-without-folder-fsync":
                found = cuts(shim, folder, count, rng, "chosen", ForgetfulDoor())
            case "double":
                found = double_cuts(shim, folder, count, rng)
            case "photo-order":
                found = photo_order(shim, folder, count, rng, ForgetfulDoor() if variant else FileDoor())
            case "set-up":
                found = set_up_cuts(shim, folder, count, rng, variant)
            case "migration":
                found = migration_cuts(shim, folder, count, rng, variant or "chosen")
            case _:
                found = failing_calls(shim, folder, rng)
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
