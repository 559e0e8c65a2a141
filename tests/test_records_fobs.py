"""Key fobs and the other ways to open the records: any one opens, a removed one never does, two always stay."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from records_boxes import Box, set_up, visit
from sticks import mounted, stick_folder

from appliance.records import audit, clinic_key
from appliance.records.archive import open_archive
from appliance.records.backup import make_backup
from appliance.records.clinic_key import HeldKey, PhraseKey, SheetKey, WrappingKey
from appliance.records.content import SubjectContent
from appliance.records.door import FileDoor
from appliance.records.errors import MissingError, NotSavedError, RecordsError, WrongSecretError
from appliance.records.fob_file import FOB_BYTES, FOB_NAME, FobFile, fob_from_bytes, read_fob
from appliance.records.fobs import fob_key, fob_on, make_fob
from appliance.records.opening import open_records
from appliance.records.people import People
from appliance.records.restore import restore
from appliance.records.setup import prepare
from appliance.records.slots import add_held_slot, change_phrase, new_sheets, remove_held_slot
from appliance.records.store import RecordStore
from appliance.records.words import new_phrase


@pytest.fixture
def stick() -> Iterator[Path]:
    """On a file system of its own: no fob is made on the box's disk."""
    with stick_folder() as folder:
        yield folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch the phrase less: what is proved here does not hang on how long it takes."""
    monkeypatch.setattr(clinic_key, "ARGON2_MEMORY_KIB", 64)


def make(box: Box, stick: Path, name: str = "Asha's fob") -> str:
    return make_fob(box.store, box.sheet(), stick, name, box.lead.user_id)


def actions(box: Box) -> list[tuple[str, str]]:
    return [(entry.action, entry.detail) for entry in audit.entries(box.store.saver.connection)]


def opens(store: RecordStore, secret: WrappingKey) -> bool:
    """Whether a way opens what is stored; locks again."""
    store.lock()
    try:
        store.unlock(secret)
    except WrongSecretError:
        return False
    assert store.is_unlocked
    store.lock()
    return True


def in_files(folder: Path, wanted: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and wanted in path.read_bytes()]


def test_fob_opens_the_records_and_its_key_is_nowhere_on_the_box(box: Box, stick: Path) -> None:
    seen = visit(box, "one")
    (stick / "letter.txt").write_text("somebody's")
    fob_id = make(box, stick)
    box.store.lock()
    key = fob_key(box.store, stick)
    box.store.unlock(key, box.lead.user_id)
    assert str(box.store.get(SubjectContent, seen.subject_id).content.name).endswith("one")
    assert ("fob-made", fob_id) in actions(box)
    assert actions(box)[-1] == ("unlocked", f"fob {fob_id}")
    assert sorted(path.name for path in stick.iterdir()) == [FOB_NAME, "letter.txt"]
    assert (stick / "letter.txt").read_text() == "somebody's"
    assert (stick / FOB_NAME).stat().st_size == FOB_BYTES
    for form in (key.key, key.key.hex().encode()):
        assert in_files(box.folder, form) == []
        # The control: the search finds what is there.
        assert in_files(stick, form) == ([stick / FOB_NAME] if form == key.key else [])
    assert key.key.hex() not in repr((key, read_fob(stick), box.store.held_slots()))
    assert repr(key.key) not in repr((key, read_fob(stick), box.store.held_slots()))


def test_list_says_name_and_date_and_a_revoked_fob_opens_nothing(box: Box, stick: Path) -> None:
    fob_id = make(box, stick)
    (held,) = box.store.held_slots("fob")
    assert (held.name, held.is_date_confirmed) == ("Asha's fob", True)
    assert held.made_at[:10] == box.clock.now_at().isoformat()[:10]
    assert fob_on(box.store, stick) == held
    key = fob_key(box.store, stick)
    box.store.lock()
    assert remove_held_slot(box.store, fob_id, box.lead.user_id).name == "Asha's fob"
    assert actions(box)[-1] == ("fob-revoked", fob_id)
    assert not opens(box.store, key)
    with pytest.raises(WrongSecretError, match="not on this box's list"):
        fob_key(box.store, stick)
    with pytest.raises(MissingError):
        remove_held_slot(box.store, fob_id, box.lead.user_id)
    assert make(box, stick) != fob_id
    assert not opens(box.store, key)
    assert opens(box.store, fob_key(box.store, stick))


def test_what_opened_the_records_once_is_nowhere_in_the_databases_files(box: Box, stick: Path) -> None:
    make(box, stick)
    add_held_slot(box.store, box.sheet(), HeldKey(bytes(32), "tpm"), "chip", None, sealed=b"sealed")
    slots = (*box.store.key_slots(), *(held.slot for held in box.store.held_slots()))
    assert len(slots) == 5
    # The control: they are found while they open something.
    assert all(in_files(box.folder, slot.wrapped) for slot in slots)
    new_sheets(box.store, box.phrase(), box.lead.user_id)
    change_phrase(box.store, box.phrase(), new_phrase(), box.lead.user_id)
    for held in box.store.held_slots():
        remove_held_slot(box.store, held.slot.slot_id, None)
    assert [in_files(box.folder, slot.wrapped) for slot in slots] == [[]] * 5


def test_nobody_makes_a_fob_without_the_phrase_or_a_sheet(box: Box, stick: Path) -> None:
    with pytest.raises(WrongSecretError):
        make_fob(box.store, PhraseKey(new_phrase()), stick, "no", box.lead.user_id)
    assert list(stick.iterdir()) == []
    make(box, stick)
    with stick_folder() as other, pytest.raises(WrongSecretError):
        make_fob(box.store, fob_key(box.store, stick), other, "second", box.lead.user_id)


def test_fob_changes_no_secret(box: Box, stick: Path) -> None:
    make(box, stick)
    key = fob_key(box.store, stick)
    before = box.store.key_slots()
    acts: list[Callable[[], object]] = [
        lambda: change_phrase(box.store, key, new_phrase(), box.lead.user_id),
        lambda: new_sheets(box.store, key, box.lead.user_id),
        lambda: People(box.store).reset_lead_pin(box.lead.user_id, "864201", key),
    ]
    for act in acts:
        with pytest.raises(WrongSecretError):
            act()
    assert box.store.key_slots() == before


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "line\nbreak", "Asha's fob"])
def test_name_that_tells_no_fob_from_another_is_refused(box: Box, stick: Path, name: str) -> None:
    make(box, stick)
    with stick_folder() as other, pytest.raises(WrongSecretError, match="name"):
        make(box, other, name)


class TestForeignSticks:
    def test_fob_of_another_clinic_opens_nothing_and_is_left_as_it_is(
        self, box: Box, stick: Path, tmp_path: Path
    ) -> None:
        made = prepare()
        with set_up(tmp_path / "elsewhere", made) as other:
            make_fob(other, SheetKey(made.sheets[0]), stick, "theirs", None)
        before = (stick / FOB_NAME).read_bytes()
        for act in (fob_on, fob_key):
            with pytest.raises(WrongSecretError, match="another clinic"):
                act(box.store, stick)
        with pytest.raises(WrongSecretError, match="left as it is"):
            make(box, stick)
        assert (stick / FOB_NAME).read_bytes() == before
        assert not opens(box.store, fob_from_bytes(before).wrapping_key())

    def test_every_flipped_bit_and_every_cut_is_found(self, box: Box, stick: Path) -> None:
        make(box, stick)
        whole = (stick / FOB_NAME).read_bytes()
        damaged = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(FOB_BYTES)]
        damaged += [whole[:at] for at in range(FOB_BYTES)] + [whole + b"\0", b"", b"\0" * FOB_BYTES]
        for content in damaged:
            (stick / FOB_NAME).write_bytes(content)
            with pytest.raises(WrongSecretError, match="damaged"):
                fob_key(box.store, stick)
        (stick / FOB_NAME).write_bytes(whole)
        assert opens(box.store, fob_key(box.store, stick))

    def test_damaged_fob_is_made_anew(self, box: Box, stick: Path) -> None:
        (stick / FOB_NAME).write_bytes(b"nothing")
        make(box, stick)
        assert opens(box.store, fob_key(box.store, stick))

    def test_fob_that_is_one_already_is_not_written_again(self, box: Box, stick: Path) -> None:
        make(box, stick)
        with pytest.raises(WrongSecretError, match="Asha's fob already"):
            make(box, stick, "another")

    def test_what_is_no_file_is_no_key(self, box: Box, stick: Path, tmp_path: Path) -> None:
        path = stick / FOB_NAME
        assert fob_on(box.store, stick) is None
        with pytest.raises(MissingError, match="no key on this stick"):
            fob_key(box.store, stick)
        secret = tmp_path / "secret"
        secret.write_bytes(FobFile(clinic_id="0" * 32, fob_id="0" * 32, key=bytes(32)).to_bytes())
        path.symlink_to(secret)
        with pytest.raises(MissingError, match="cannot be read"):
            fob_on(box.store, stick)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(WrongSecretError, match="damaged"):
            fob_on(box.store, stick)
        path.unlink()
        path.mkdir()
        with pytest.raises(RecordsError):
            fob_on(box.store, stick)

    def test_folder_of_the_boxs_own_disk_is_refused(self, box: Box, tmp_path: Path) -> None:
        folder = tmp_path / "media" / "A"
        folder.mkdir(parents=True)
        with pytest.raises(NotSavedError, match="own disk"):
            make(box, folder)
        assert list(folder.iterdir()) == []


class Failing(FileDoor):
    """The n-th call fails, and from then on nothing is there any more where the stick was pulled out."""

    def __init__(self, at: int, code: int, *, is_gone: bool) -> None:
        self.left = at
        self._code = code
        self._is_gone = is_gone

    def _call(self) -> None:
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self._is_gone):
            raise OSError(self._code, os.strerror(self._code))

    def write_new(self, path: Path, content: bytes) -> None:
        self._call()
        super().write_new(path, content)

    def rename(self, source: Path, target: Path) -> None:
        self._call()
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._call()
        super().sync_folder(folder)

    def read(self, path: Path) -> bytes:
        self._call()
        return super().read(path)

    def remove(self, path: Path) -> None:
        self._call()
        super().remove(path)


@pytest.mark.parametrize("is_gone", [True, False], ids=["pulled-out", "once"])
@pytest.mark.parametrize(
    ("code", "words"), [(errno.EIO, "pulled out"), (errno.ENOSPC, "no room"), (errno.EROFS, "takes no writes")]
)
def test_stick_that_fails_at_any_call_makes_no_fob_and_leaves_no_slot(
    box: Box, stick: Path, code: int, words: str, is_gone: bool, quick: None
) -> None:
    failed = 0
    for at in range(1, 20):
        door = Failing(at, code, is_gone=is_gone)
        before = actions(box)
        try:
            make_fob(box.store, box.sheet(), stick, "fob", box.lead.user_id, door=door)
            break
        except NotSavedError as error:
            said = str(error)
        failed += 1
        assert words in said
        assert (box.store.held_slots(), actions(box)) == ((), before)
        if not is_gone:
            assert list(stick.iterdir()) == []
        for path in stick.iterdir():
            path.unlink()
    # remove, write, rename, sync, read back
    assert failed == 5
    assert opens(box.store, fob_key(box.store, stick))


def test_stick_that_gives_back_something_else_makes_no_fob(box: Box, stick: Path) -> None:
    class Forgetful(FileDoor):
        def read(self, path: Path) -> bytes:
            return bytes(FOB_BYTES)

    with pytest.raises(NotSavedError, match="give back"):
        make_fob(box.store, box.sheet(), stick, "fob", box.lead.user_id, door=Forgetful())
    assert box.store.held_slots() == ()
    assert list(stick.iterdir()) == []


def test_box_that_cannot_save_leaves_no_key_on_the_stick(
    box: Box, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise NotSavedError("The disk is full; this was not saved.")

    monkeypatch.setattr(box.store, "note", full)
    with pytest.raises(NotSavedError, match="full"):
        make(box, stick)
    assert list(stick.iterdir()) == []
    assert box.store.held_slots() == ()


def test_full_and_write_protected_sticks_are_a_sentence_each(box: Box, stick: Path) -> None:
    # A page for the folder, none for a file.
    with mounted(stick, "size=4k"):
        (stick / "fill").write_bytes(bytes(4096))
        with pytest.raises(NotSavedError, match="no room"):
            make(box, stick)
        assert [path.name for path in stick.iterdir()] == ["fill"]
    with mounted(stick, "ro"), pytest.raises(NotSavedError, match="takes no writes"):
        make(box, stick)
    assert box.store.held_slots() == ()


def test_vfat_stick_takes_a_fob(box: Box, tmp_path: Path) -> None:
    image, folder = tmp_path / "stick.img", tmp_path / "mounted"
    folder.mkdir()
    image.write_bytes(bytes(8 << 20))
    if shutil.which("mkfs.vfat") is None or subprocess.run(["mkfs.vfat", str(image)], capture_output=True).returncode:
        pytest.skip("needs Debian's dosfstools")
    if subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True).returncode:
        pytest.skip("needs root, a loop device and the kernel's vfat")
    try:
        make(box, folder)
        assert opens(box.store, fob_key(box.store, folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class TestBackups:
    def test_fob_opens_no_backup_and_none_comes_back_with_one(self, box: Box, stick: Path, tmp_path: Path) -> None:
        visit(box, "one")
        make(box, stick)
        key = fob_key(box.store, stick)
        target = tmp_path / "backup"
        target.mkdir()
        made = make_backup(box.store, target)
        with pytest.raises(WrongSecretError):
            open_archive(made.path, key)
        assert b"fob" not in made.path.read_bytes()[:4096]
        folder = tmp_path / "again"
        restore(made.path, folder, box.sheet(), clock=box.clock)
        opening = open_records(folder, clock=box.clock, ballast_bytes=0)
        assert opening.store is not None
        with opening.store as store:
            assert store.held_slots() == ()
            assert not opens(store, key)
            assert opens(store, box.sheet())


def test_disk_without_the_newest_table_is_read_all_the_same(box: Box) -> None:
    box.store.saver.connection.execute("DROP TABLE held_slot")
    assert box.store.held_slots() == ()
    assert opens(box.store, box.sheet())


def test_any_way_opens_a_removed_one_never_does_and_two_stay_whatever_is_removed(
    box: Box, stick: Path, quick: None, seed: int
) -> None:
    """Acts drawn at random; after each, every way that ever was is tried."""
    drawn, store, who = random.Random(seed), box.store, box.lead.user_id
    phrase = PhraseKey(new_phrase())
    change_phrase(store, box.sheet(), phrase.phrase, who)
    ways: dict[str, WrappingKey] = {"phrase": phrase, "sheet 0": box.sheet(), "sheet 1": SheetKey(box.made.sheets[1])}
    gone: list[WrappingKey] = [box.phrase()]

    def fob() -> None:
        folder = stick / str(len(gone) + len(ways) + drawn.getrandbits(32))
        folder.mkdir()
        slot_id = make_fob(store, ways["sheet 0"], folder, folder.name, who)
        ways[slot_id] = fob_key(store, folder)

    def chip() -> None:
        key = HeldKey(drawn.randbytes(32), "tpm")
        gone.extend(ways.pop(held.slot.slot_id) for held in store.held_slots("tpm"))
        ways[add_held_slot(store, ways["phrase"], key, "chip", who, sealed=b"sealed")] = key

    def remove() -> None:
        if held := store.held_slots():
            slot_id = drawn.choice(held).slot.slot_id
            remove_held_slot(store, slot_id, who)
            gone.append(ways.pop(slot_id))

    def phrase_anew() -> None:
        words = new_phrase()
        change_phrase(store, ways["sheet 1"], words, who)
        gone.append(ways["phrase"])
        ways["phrase"] = PhraseKey(words)

    def sheets_anew() -> None:
        words = new_sheets(store, ways["phrase"], who)
        for number, sheet in enumerate(words):
            gone.append(ways[f"sheet {number}"])
            ways[f"sheet {number}"] = SheetKey(sheet)

    for _ in range(25):
        drawn.choice([fob, fob, chip, remove, remove, phrase_anew, sheets_anew])()
        assert all(opens(store, way) for way in ways.values())
        assert not any(opens(store, way) for way in gone)
        assert sorted(slot.kind for slot in store.key_slots()) == ["phrase", "recovery", "recovery"]
    while store.held_slots():
        remove()
    assert {"phrase", "sheet 0", "sheet 1"} == set(ways)
    assert all(opens(store, way) for way in ways.values())
    store.unlock(ways["sheet 0"])
    assert store.verify_audit().problems == ()


def test_control_a_slot_that_is_only_forgotten_in_the_list_still_opens(
    box: Box, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(box, stick)
    key = fob_key(box.store, stick)
    monkeypatch.setattr("appliance.records.slots.delete_held", lambda *_: None)
    remove_held_slot(box.store, box.store.held_slots()[0].slot.slot_id, None)
    assert opens(box.store, key), "the property above could not have failed"
