"""A file system that somebody else fills, empties and breaks under the records: ext4 of its own, with real thresholds.

The image is sparse and what fills it is allocated, not written, so that a disk of gigabytes is filled in milliseconds.
"""

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from records_boxes import LEAD_PIN, Box, Visited, erase, new_box, visit

from appliance.records import space
from appliance.records.content import CapturedImageContent, SubjectContent
from appliance.records.errors import (
    DiskFullError,
    ErasedError,
    NotSavedError,
    ReadOnlyError,
    RecordsError,
    StorageFailedError,
    WrongSecretError,
)
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.users import User
from appliance.service.errors import LimitError
from appliance.service.record_answers import RecordAnswers

DISK_BYTES = 3 << 30
FILES = 4096
_BLOCK_BYTES = 4096
NURSE_PIN = "739164"


class NoDiskError(Exception):
    """A file system of one's own cannot be had here."""


class Disk:
    """The file system, and whatever else lies on it."""

    def __init__(self, folder: Path) -> None:
        self._image, self.folder = folder / "image", folder / "disk"
        self.folder.mkdir()
        self._image.touch()
        os.truncate(self._image, DISK_BYTES)
        self._run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(FILES), str(self._image))
        self.mount()

    def _run(self, *command: str) -> str:
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoDiskError(f"{command[0]}: {error}") from error

    def mount(self) -> None:
        self._run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))

    def unmount(self) -> None:
        self._run("umount", str(self.folder))

    def repair(self) -> None:
        """What the start of a box does with a disk that went read-only."""
        for _ in range(10):
            self.unmount()
            done = subprocess.run(["e2fsck", "-fy", self._image], capture_output=True, text=True)
            assert done.returncode in {0, 1}, done.stdout
            self.mount()
            # The kernel may still be at work on the error that it was asked for, and find it in the new mount.
            with contextlib.suppress(OSError):
                (self.folder / "writable").touch()
                return
            time.sleep(0.2)
        raise NoDiskError("the file system stays read-only")

    def turn_read_only(self) -> None:
        """Have the kernel find an error on it."""
        device = Path(self._run("findmnt", "-no", "SOURCE", str(self.folder))).name
        trigger = Path("/sys/fs/ext4", device, "trigger_fs_error")
        try:
            trigger.write_text("test")
        except OSError as error:
            raise NoDiskError(f"{trigger}: {error}") from error

    def fill(self, left_bytes: int) -> None:
        """Leave about this much free, and no more; what file systems take for themselves is taken too."""
        with (self.folder / f"filler-{len(list(self.folder.glob('filler-*')))}").open("xb") as file:
            piece, size = DISK_BYTES, 0
            while piece >= _BLOCK_BYTES:
                free = space.look(self.folder).free_bytes - left_bytes
                piece = min(piece, free - free % _BLOCK_BYTES)
                if piece <= 0:
                    return
                try:
                    os.posix_fallocate(file.fileno(), size, piece)
                    size += piece
                except OSError:
                    piece //= 2

    def use_up_files(self, left: int) -> None:
        """Make empty files until only so many more can be made."""
        begun = len(list(self.folder.glob("filler-*")))
        for number in range(os.statvfs(self.folder).f_favail - left):
            (self.folder / f"filler-file-{begun + number}").touch()

    def empty(self) -> None:
        """Give back what was taken."""
        for path in self.folder.glob("filler-*"):
            path.unlink()


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk for a while."""
    made = Disk(folder)
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", made.folder], capture_output=True)


@dataclass(slots=True)
class Tally:
    """What the cycles found."""

    cycles: int = 0
    saved: int = 0
    """Photos that were called saved."""
    refused: int = 0
    erased: int = 0
    signed_in: int = 0
    most_photos: int = 0
    """Taken after somebody else had filled the disk to nothing."""
    problems: list[str] = field(default_factory=list)


class Fill:
    """The station's records on such a disk, and everything that was acknowledged."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk, self.rng, self.tally = disk, rng, Tally()
        box = new_box(disk.folder / "records")
        self.nurse: User = People(box.store, clock=box.clock).add("Brother Ben", "nurse", NURSE_PIN, box.lead)
        self.kept: list[Visited] = []
        self.gone: list[Visited] = []
        box.store.close()
        os.sync()  # the box was copied here, not set up, so nothing of it was fsynced
        self.box = self._open(box)

    def _open(self, box: Box) -> Box:
        opening = open_records(box.folder, clock=box.clock)
        assert opening.store is not None, opening
        opening.store.unlock(box.sheet())
        return Box(folder=box.folder, store=opening.store, made=box.made, lead=box.lead, clock=box.clock)

    def restart(self) -> None:
        """Start the station anew, whatever the disk is like."""
        self.box.store.close()
        self.box = self._open(self.box)

    # What a clinic does

    def photograph(self, size: int = 200_000, *, is_refused: bool = False) -> bool:
        """Save a visit with a photo; it must be refused, in a sentence, where it says so."""
        try:
            self.kept.append(visit(self.box, f"v{self.tally.saved}", size=size))
        except (DiskFullError, ReadOnlyError) as error:
            self.tally.refused += 1
            if not is_refused:
                self._problem(f"photo refused: {error}")
            return False
        self.tally.saved += 1
        if is_refused:
            self._problem("photo kept where there is no room")
        return True

    def sign_in(self) -> None:
        """A right PIN and a wrong one; both are counted on the disk."""
        people = People(self.box.store, clock=self.box.clock, boot="boot")
        try:
            people.sign_in(self.box.lead.user_id, LEAD_PIN)
            self.box.clock.passed_s += 400
            with contextlib.suppress(WrongSecretError):
                people.confirm(self.nurse.user_id, "000001")
                self._problem("a wrong PIN confirmed")
            self.box.clock.passed_s += 400
            people.confirm(self.nurse.user_id, NURSE_PIN)
            self.tally.signed_in += 1
        except RecordsError as error:
            self._problem(f"sign-in refused: {error}")

    def erase(self) -> bool:
        """Two people erase somebody; False when they could not."""
        if not self.kept:
            return False
        one = self.kept[self.rng.randrange(len(self.kept))]
        try:
            erase(self.box, one.subject_id, self.nurse)
        except RecordsError as error:
            self._problem(f"erasing refused: {error}")
            return False
        self.kept.remove(one)
        self.gone = [*self.gone[-20:], one]
        self.tally.erased += 1
        return True

    def level(self, *expected: str) -> None:
        found = self.box.store.space().level
        if found not in expected:
            self._problem(f"level {found} instead of {expected}")
        try:
            RecordAnswers(lambda: self.box.store).require_room()
        except LimitError:
            if found not in {"short", "full"}:
                self._problem(f"no assessments at level {found}")
        else:
            if found in {"short", "full"}:
                self._problem(f"assessments at level {found}")

    def check(self) -> None:
        """Everything that was called saved is there, what was erased is not, and the audit holds."""
        store = self.box.store
        for one in self.kept:
            try:
                if store.photo(store.get(CapturedImageContent, one.capture_id)) != one.content:
                    self._problem("a photo is another one")
            except RecordsError as error:
                self._problem(f"a photo is lost: {error}")
        for one in self.gone:
            with contextlib.suppress(ErasedError):
                store.get(SubjectContent, one.subject_id)
                self._problem("somebody who was erased is back")
        if store.saver.blobs.names() != {one.capture_id for one in self.kept}:
            self._problem("a file without a photo, or a photo without a file")
        self.tally.problems += store.verify_audit().problems

    def _problem(self, text: str) -> None:
        self.tally.problems.append(f"cycle {self.tally.cycles}: {text}")

    # Cycles

    def cycle(self, *, is_deep: bool = False) -> None:
        """Somebody else fills the disk, step by step, and makes room again; a deep one counts the last photos."""
        self.tally.cycles += 1
        self._all_is_well()
        self.disk.fill(self.rng.randrange(space.SHORT_BYTES, space.LOW_BYTES - space.RESERVE_BYTES))
        self.level("low")
        self.photograph()
        self.maybe_restart()
        self.disk.fill(0)
        self.level("short")
        photos = 0
        while self.photograph(1_900_000) and is_deep and photos < 199:
            photos += 1
        self.tally.most_photos = max(self.tally.most_photos, photos + 1)
        if (self.disk.folder / "records" / space.RESERVE_NAME).exists():
            self._problem("the reserve was not given back")
        self.disk.fill(self.rng.randrange(1_000_000, space.FULL_BYTES - 1_000_000))
        self.level("full")
        self.photograph(is_refused=True)
        self.sign_in()
        self.erase()
        self.maybe_restart()
        self.disk.fill(0)
        self.photograph(is_refused=True)
        self._small_things()
        self.check()
        self.disk.empty()
        self._all_is_well()

    def cycle_of_files(self) -> None:
        """Somebody else makes files until no more can be made."""
        self.tally.cycles += 1
        self._all_is_well()
        self.disk.use_up_files(self.rng.randrange(space.SHORT_FILES + 10, space.LOW_FILES))
        self.level("low")
        self.photograph()
        self.disk.use_up_files(self.rng.randrange(space.FULL_FILES + 10, space.SHORT_FILES))
        self.level("short")
        self.photograph()
        self.disk.use_up_files(self.rng.randrange(2, space.FULL_FILES))
        self.level("full")
        self.photograph(is_refused=True)
        self.maybe_restart()
        self.disk.use_up_files(0)
        self.photograph(is_refused=True)
        self._small_things()
        self.check()
        self.disk.empty()
        self._all_is_well()

    def cycle_read_only(self) -> None:
        """The kernel finds an error and takes no more writes; the station reads, and after a check goes on."""
        self.tally.cycles += 1
        self._all_is_well()
        if self.rng.random() < 0.5:
            self.disk.fill(self.rng.randrange(space.FULL_BYTES))
        self.disk.turn_read_only()
        try:
            visit(self.box, "on a disk that takes no writes")
            self._problem("photo kept on a disk that takes no writes")
        except (ReadOnlyError, StorageFailedError, DiskFullError):
            self.tally.refused += 1
        self.box.store.close()
        opening = open_records(self.box.folder, clock=self.box.clock)
        if opening.state != "read-only" or opening.store is None:
            self._problem(f"opens as {opening.state}: {opening.found}")
        else:
            opening.store.unlock(self.box.sheet())
            made = self.box.made
            self.box = Box(
                folder=self.box.folder, store=opening.store, made=made, lead=self.box.lead, clock=self.box.clock
            )
            self.check()
            with contextlib.suppress(NotSavedError):
                People(opening.store, clock=self.box.clock, boot="boot").sign_in(self.box.lead.user_id, LEAD_PIN)
                self._problem("a PIN was compared that could not be counted")
            opening.store.close()
        self.disk.repair()
        self.disk.empty()
        self.box = self._open(self.box)
        self.check()
        self._all_is_well()

    def maybe_restart(self) -> None:
        if self.rng.random() < 0.2:
            self.restart()

    def _small_things(self) -> None:
        self.sign_in()
        self.erase()
        if self.box.store.has_failed:
            self._problem("the store gave up")
            self.restart()

    def _all_is_well(self) -> None:
        # Some patients stay from cycle to cycle, and the disk does not fill up by itself.
        while len(self.kept) > 30 and self.erase():
            pass
        self.level("ample")
        self.photograph()
        for name in (space.BALLAST_NAME, space.RESERVE_NAME):
            if not (self.box.folder / name).exists():
                self._problem(f"{name} was not laid again")


def run(cycles: int, seed: int) -> Tally:
    """Fill and free so many times: every eighth by files, every tenth by an error, some to the last photo."""
    rng = random.Random(seed)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as name, disk(Path(name)) as made:
        fill = Fill(made, rng)
        for number in range(cycles):
            if number % 10 == 4:
                fill.cycle_read_only()
            elif number % 8 == 2:
                fill.cycle_of_files()
            else:
                fill.cycle(is_deep=number % 50 == 0)
            if fill.tally.problems:
                break  # what comes after a fault says nothing more
        fill.restart()
        fill.check()
        fill.box.store.close()
        return fill.tally


__all__ = ["NoDiskError", "Tally", "run"]
