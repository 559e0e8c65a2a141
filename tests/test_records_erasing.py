"""C5: what two people erased opens for nobody: not from the raw disk, and not after an older backup came back."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from records_boxes import Box, Visited, assess, described, erase, new_box, open_box, photo, visit

from appliance.records import erasing
from appliance.records.backup import make_backup
from appliance.records.clinic_key import open_key
from appliance.records.content import CapturedImageContent, EncounterContent, SubjectContent
from appliance.records.drafts import Drafts
from appliance.records.erased_list import ERASED_NAME, read_erased
from appliance.records.erasing import erase_subject, plan_erasure
from appliance.records.errors import ErasedError, ForbiddenError, NotSavedError, TamperedError
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.restore import restore
from appliance.records.store import RecordStore, new_id
from appliance.records.users import User
from appliance.records.write import next_revision


def nurse_of(box: Box) -> User:
    return People(box.store, clock=box.clock).add("Brother Ben", "nurse", "739105", box.lead)


def assert_erased(store: RecordStore, *visited: Visited) -> None:
    for one in visited:
        for kind, record_id in (
            (SubjectContent, one.subject_id),
            (EncounterContent, one.encounter_id),
            (CapturedImageContent, one.capture_id),
        ):
            with pytest.raises(ErasedError):
                store.get(kind, record_id)
        assert one.capture_id not in store.saver.blobs.names()
        assert one.subject_id not in {hit.subject_id for hit in store.find()}
    assert store.verify_audit().problems == ()


def test_plan_says_what_goes_and_only_that_plan_is_carried_out(box: Box) -> None:
    nurse, gone = nurse_of(box), visit(box, "gone")
    visit(box, "kept")
    assess(box, gone.encounter_id, "a mole")
    Drafts(box.store).save(gone.encounter_id, "history", {"words": "typed"}, nurse.user_id)
    plan = plan_erasure(box.store, gone.subject_id)
    assert [one.encounter_id for one in plan.visits] == [gone.encounter_id]
    assert (plan.photos, plan.drafts, plan.others) == (1, 1, {"assessment": 1, "nurse_impression": 1})
    content = photo("meanwhile")
    box.store.add(described(content), box.lead.user_id, encounter_id=gone.encounter_id, photo=content)
    with pytest.raises(NotSavedError, match="meanwhile"):
        erase_subject(box.store, gone.subject_id, box.lead, nurse, reason="asked-for", digest=plan.digest)
    assert len(box.store.of(CapturedImageContent, encounter_id=gone.encounter_id)) == 2
    saved = erase(box, gone.subject_id, nurse)
    assert_erased(box.store, gone)
    entry = box.store.saver.connection.execute(
        "SELECT action, operator_id, detail FROM audit WHERE sequence = ?", (saved.sequence,)
    ).fetchone()
    assert entry == ("erased", box.lead.user_id, f"asked-for, witness {nurse.user_id}")


def test_nothing_is_kept_for_somebody_who_was_erased(box: Box) -> None:
    """A photo on its way, a form that is saved late: a new key for an erased visit would bring part of it back."""
    nurse, gone = nurse_of(box), visit(box, "gone")
    subject = box.store.get(SubjectContent, gone.subject_id)
    erase(box, gone.subject_id, nurse)
    content = photo("late")
    with pytest.raises(ErasedError):
        box.store.add(described(content), None, encounter_id=gone.encounter_id, photo=content)
    with pytest.raises(ErasedError):
        box.store.add(EncounterContent(), None, subject_id=gone.subject_id)
    with pytest.raises(ErasedError):
        box.store.change_all("changed", None, [next_revision(subject, subject.content)])
    with pytest.raises(ErasedError):
        Drafts(box.store).save(gone.encounter_id, "history", {"words": "late"}, None)
    assert box.store.saver.blobs.names() == set()
    assert box.store.verify_audit().problems == ()


@pytest.mark.parametrize("role", ["technician", "clinician"])
def test_who_reads_no_record_confirms_no_erasing(box: Box, role: str) -> None:
    gone = visit(box, "gone")
    other = People(box.store, clock=box.clock).add("Sam", "technician" if role == "technician" else "clinician",
                                                   "518273", box.lead)  # fmt: skip
    with pytest.raises(ForbiddenError, match="may not do this"):
        erase(box, gone.subject_id, other)
    assert box.store.get(SubjectContent, gone.subject_id).content.pseudonym == "P-gone"


def test_while_a_backup_is_written_nothing_is_erased(box: Box, stick: Path) -> None:
    nurse, gone = nurse_of(box), visit(box, "gone", size=50_000)
    is_writing, may_end = threading.Event(), threading.Event()

    def told(*_: object) -> None:
        is_writing.set()
        may_end.wait(20)

    work = threading.Thread(target=lambda: make_backup(box.store, stick, progress=told))
    work.start()
    assert is_writing.wait(20)
    with pytest.raises(NotSavedError, match="backup is being written"):
        erase(box, gone.subject_id, nurse)
    may_end.set()
    work.join(20)
    assert len(list(stick.iterdir())) == 1
    erase(box, gone.subject_id, nurse)
    assert_erased(box.store, gone)


def test_erasing_that_a_cut_left_half_is_ended_by_the_next_start(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes right after the commit: keys are gone; journal, list and photo are still to be done."""
    nurse, gone, kept = nurse_of(box), visit(box, "gone"), visit(box, "kept")

    keys = [bytes(one[0]) for one in box.store.saver.connection.execute(
        "SELECT sealed FROM data_key WHERE owner_id IN (?, ?)", (gone.subject_id, gone.encounter_id)
    )]  # fmt: skip

    class PowerCutError(BaseException):
        pass

    def cut(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "scrub_journals", cut)
        with pytest.raises(PowerCutError):
            erase(box, gone.subject_id, nurse)
    assert gone.capture_id in box.store.saver.blobs.names()
    assert _count(box.folder / "records.sqlite-journal", keys) == 2
    assert read_erased(box.folder) == frozenset()
    again = box.reopen()
    assert_erased(again.store, gone)
    assert read_erased(box.folder) == {gone.subject_id, gone.encounter_id}
    assert _count(box.folder / "records.sqlite-journal", keys) + _count(box.folder / "records.sqlite", keys) == 0
    assert again.store.get(SubjectContent, kept.subject_id).content.pseudonym == "P-kept"
    again.store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 file system of its own: where it is mounted, and its blocks."""
    image, folder = tmp_path / "disk", tmp_path / "mounted"
    folder.mkdir()
    image.touch()
    os.truncate(image, 256 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("needs root, mkfs.ext4 and a loop device")
    yield folder, image
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("is_control", [False, True])
def test_no_block_of_the_disk_holds_an_erased_key(
    disk: tuple[Path, Path], stick: Path, monkeypatch: pytest.MonkeyPatch, is_control: bool
) -> None:
    """With the clinic's private key in hand; the control leaves journals and the backup's copy as SQLite does."""
    folder, image = disk
    if is_control:
        monkeypatch.setattr("appliance.records.backup.remove_scrubbed", lambda path: path.unlink(missing_ok=True))
        monkeypatch.setattr(erasing, "scrub_journals", lambda *_: None)
    box = new_box(folder / "records")
    nurse, visits = nurse_of(box), [visit(box, f"v{number}", size=20_000) for number in range(12)]
    gone = visits[3]
    for one in visits:
        Drafts(box.store).save(one.encounter_id, "history", {"words": "typed"}, box.lead.user_id)
    make_backup(box.store, stick)
    connection = box.store.saver.connection
    asked = "SELECT key_id, owner_kind, owner_id, sealed FROM data_key WHERE owner_id IN (?, ?)"
    found = connection.execute(asked, (gone.subject_id, gone.encounter_id)).fetchall()
    assert len(found) == 2
    opened = [open_key(box.store.saver.keyring.private_key, one[3], " ".join(one[:3]).encode()) for one in found]
    erase(box, gone.subject_id, nurse)
    hits = _count(image, [bytes(one[3]) for one in found] + opened)
    assert (hits > 0) == is_control
    # What is there of the photo is sealed, and no key left opens it.
    assert _count(image, [gone.content]) == 0
    box.store.close()


def _count(image: Path, needles: list[bytes]) -> int:
    os.sync()
    written = image.read_bytes()
    return sum(written.count(needle) for needle in needles)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_older_backup_brings_nobody_back(box: Box, stick: Path, is_damaged: bool) -> None:
    """The box knows whom it erased, by its records or, where they are damaged, by its list."""
    nurse, gone, kept = nurse_of(box), visit(box, "gone"), visit(box, "kept")
    made = make_backup(box.store, stick)
    erase(box, gone.subject_id, nurse)
    box.store.close()
    if is_damaged:
        (box.folder / "records.sqlite").write_bytes(bytes(4096))
        assert open_records(box.folder).state == "damaged"
    else:
        (box.folder / ERASED_NAME).unlink()
    done = restore(made.path, box.folder, box.sheet(), clock=box.clock)
    assert done.erased_again == 2
    again = open_box(box.folder, box.made)
    assert_erased(again.store, gone)
    assert again.store.photo(again.store.get(CapturedImageContent, kept.capture_id)) == kept.content
    assert read_erased(box.folder) == {gone.subject_id, gone.encounter_id}
    assert plan_erasure(again.store, kept.subject_id).older_copies == (Path(str(done.set_aside)).name,)
    again.store.close()


def test_control_without_the_list_an_older_backup_brings_somebody_back(
    box: Box, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.records.restore.erase_again", lambda *_: 0)
    nurse, gone = nurse_of(box), visit(box, "gone")
    made = make_backup(box.store, stick)
    erase(box, gone.subject_id, nurse)
    box.store.close()
    restore(made.path, box.folder, box.sheet(), clock=box.clock)
    again = open_box(box.folder, box.made)
    assert again.store.get(SubjectContent, gone.subject_id).content.pseudonym == "P-gone"
    again.store.close()


def test_blank_box_learns_from_the_newer_backup_on_the_stick(box: Box, stick: Path, tmp_path: Path) -> None:
    nurse, gone, kept = nurse_of(box), visit(box, "gone"), visit(box, "kept")
    older = make_backup(box.store, stick)
    erase(box, gone.subject_id, nurse)
    newer = make_backup(box.store, stick)
    done = restore(older.path, tmp_path / "blank" / "records", box.sheet(), clock=box.clock)
    assert done.erased_again == 2
    again = open_box(tmp_path / "blank" / "records", box.made)
    assert_erased(again.store, gone)
    assert again.store.get(SubjectContent, kept.subject_id).content.pseudonym == "P-kept"
    again.store.close()
    # One that was changed says nothing, and keeps nobody from restoring the other.
    content = bytearray(newer.path.read_bytes())
    content[-1] ^= 1
    newer.path.write_bytes(content)
    assert restore(older.path, tmp_path / "second" / "records", box.sheet(), clock=box.clock).erased_again == 0


def test_visit_that_was_anothers_in_the_backup_does_not_come_back(box: Box, stick: Path) -> None:
    """Moved after the backup, erased with whom it was moved to."""
    nurse, unnamed, named = nurse_of(box), visit(box, "unnamed"), visit(box, "named")
    made = make_backup(box.store, stick)
    moved = box.store.get(EncounterContent, unnamed.encounter_id)
    box.store.revise(moved, moved.content, box.lead.user_id, subject_id=named.subject_id)
    erase(box, named.subject_id, nurse)
    box.store.close()
    assert restore(made.path, box.folder, box.sheet(), clock=box.clock).erased_again == 3
    again = open_box(box.folder, box.made)
    assert_erased(again.store, named)
    with pytest.raises(ErasedError):
        again.store.get(CapturedImageContent, unnamed.capture_id)
    assert again.store.get(SubjectContent, unnamed.subject_id).content.pseudonym == "P-unnamed"
    again.store.close()


def test_list_that_is_damaged_stops_nobody(box: Box) -> None:
    nurse, gone = nurse_of(box), visit(box, "gone")
    erase(box, gone.subject_id, nurse)
    (box.folder / ERASED_NAME).write_bytes(b"\xff\x00 no id\n" + new_id().encode()[:20])
    again = box.reopen()
    assert read_erased(box.folder) == {gone.subject_id, gone.encounter_id}
    with pytest.raises(TamperedError):
        again.store.saver.blobs.read(gone.capture_id, b"k" * 32, gone.encounter_id, "")
    again.store.close()
