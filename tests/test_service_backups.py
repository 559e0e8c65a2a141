"""Backups at the screen: chosen, told, locked or not, with photos kept meanwhile; a stick that is pulled or full."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from records_boxes import Box, Visited, visit
from sticks import Sticks

from appliance.records import backup
from appliance.records.errors import MissingError
from appliance.records.restore import restore
from appliance.service.backups import Backups

DONE_S = 60.0


def work_of(backups: Backups) -> str:
    return backups.state.work


@pytest.fixture
def sticks(tmp_path: Path) -> Sticks:
    return Sticks(tmp_path / "media", tmp_path / "mountinfo")


@pytest.fixture
def backups(box: Box, sticks: Sticks) -> Backups:
    return Backups(lambda: box.store, lambda: box.lead.user_id, (str(sticks.folder),), mounts=sticks.mounts)


def test_backup_of_a_locked_box_is_written_read_back_and_rotated(box: Box, backups: Backups, sticks: Sticks) -> None:
    stick = sticks.put_in("A")
    box.store.lock()
    for number in range(3):
        visit(box, f"visit {number}")
        backups.start(str(stick))
        backups.wait(DONE_S)
        assert work_of(backups) == "done", backups.state
    assert "3 visits" in backups.state.words
    assert len(list(stick.glob("*.dsbk"))) == backup.KEPT
    (line,) = backups.sticks()
    assert line.generations == backup.KEPT
    last = backup.last_backup(box.store)
    assert last is not None
    assert (last.label, last.encounters) == ("A", 3)


def test_drill_tells_what_would_come_back_and_a_wrong_sheet_does_not(
    box: Box, backups: Backups, sticks: Sticks
) -> None:
    stick = sticks.put_in("A")
    visit(box, "one")
    with pytest.raises(MissingError, match="no backup"):
        backups.start_drill(str(stick), box.made.sheets[0])
    backups.start(str(stick))
    backups.wait(DONE_S)
    backups.start_drill(str(stick), box.made.sheets[0])
    backups.wait(DONE_S)
    assert backups.state.words == "This backup would come back: 1 visit; 1 opened, with 1 photo."
    backups.start_drill(str(stick), "not the phrase at all")
    backups.wait(DONE_S)
    assert work_of(backups) == "failed"


def test_stick_that_is_not_in_any_more_is_said(backups: Backups, sticks: Sticks) -> None:
    with pytest.raises(MissingError, match="not in any more"):
        backups.start(str(sticks.folder / "gone"))
    with pytest.raises(MissingError, match="Put in a stick"):
        backups.write_text("list.txt", "")


def test_full_stick_is_said_and_the_backups_on_it_stay(
    box: Box, backups: Backups, sticks: Sticks, tmp_path: Path
) -> None:
    stick = sticks.put_in("A")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(stick)], capture_output=True).returncode:
        pytest.skip("needs root to mount a small file system")
    try:
        backups.start(str(stick))
        backups.wait(DONE_S)
        assert work_of(backups) == "done"
        visit(box, "large", size=3_000_000)
        backups.start(str(stick))
        backups.wait(DONE_S)
        assert work_of(backups) == "failed"
        assert "no room" in backups.state.words
        assert len(list(stick.iterdir())) == 1
    finally:
        subprocess.run(["umount", "-l", str(stick)], check=True)


def test_photos_are_kept_while_a_slow_stick_is_written_and_the_backup_is_whole(
    box: Box, backups: Backups, sticks: Sticks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stick = sticks.put_in("SLOW")
    for number in range(20):
        visit(box, f"before {number}", size=200_000)
    told, may_end = threading.Event(), threading.Event()
    parts = backup._parts

    def slow(path: Path) -> Iterator[bytes]:
        told.set()
        may_end.wait(DONE_S)
        yield from parts(path)

    monkeypatch.setattr(backup, "_parts", slow)
    backups.start(str(stick))
    assert told.wait(DONE_S)
    started_s = time.monotonic()
    kept = [visit(box, f"meanwhile {number}", size=200_000) for number in range(5)]
    assert time.monotonic() - started_s < DONE_S / 2, "the photos waited for the stick"
    assert work_of(backups) == "writing"
    may_end.set()
    backups.wait(DONE_S)
    assert work_of(backups) == "done", backups.state
    (made,) = stick.glob("*.dsbk")
    again = restore(made, tmp_path / "restored", box.sheet(), clock=box.clock)
    assert again.encounters == 20
    assert len(kept) == 5


def test_copy_of_the_database_lets_others_in_and_is_of_one_moment(
    box: Box, backups: Backups, sticks: Sticks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Saves go through between two steps of the copy, and what is copied has no half of one."""
    monkeypatch.setattr(backup, "_COPIED_PAGES", 1)
    stick = sticks.put_in("A")
    for number in range(10):
        visit(box, f"before {number}")
    done = threading.Event()
    saved: list[Visited] = []

    def save() -> None:
        while not done.is_set():
            saved.append(visit(box, f"meanwhile {len(saved)}"))

    saver = threading.Thread(target=save)
    saver.start()
    try:
        backups.start(str(stick))
        backups.wait(DONE_S)
    finally:
        done.set()
        saver.join()
    assert work_of(backups) == "done", backups.state
    (made,) = stick.glob("*.dsbk")
    again = restore(made, tmp_path / "restored", box.sheet(), clock=box.clock)
    assert 10 < again.encounters <= 10 + len(saved)
    assert again.photos == again.encounters
