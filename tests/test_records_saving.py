"""What "saved" means: the order of its steps, and what is left when one of them fails, through the door alone."""

import errno
from pathlib import Path

import pytest
from records_boxes import new_box, visit

from appliance.records.content import SubjectContent
from appliance.records.door import FileDoor, replace_file
from appliance.records.errors import DiskFullError, NotSavedError, ReadOnlyError, StorageFailedError


class WatchedDoor(FileDoor):
    """Notes each call, and fails one of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_at = 0
        self.number = 0

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fail_at:
            raise OSError(self.number, "a fault was injected")

    def write_new(self, path: Path, content: bytes) -> None:
        self._call(f"write and fsync *{path.suffix}")
        super().write_new(path, content)

    def rename(self, source: Path, target: Path) -> None:
        self._call(f"rename *{source.suffix} *{target.suffix}")
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._call(f"fsync {folder.name}")
        super().sync_folder(folder)

    def read(self, path: Path) -> bytes:
        self._call("read")
        return super().read(path)


class LyingDoor(FileDoor):
    """A medium that gives back other bytes than it was given."""

    def read(self, path: Path) -> bytes:
        content = bytearray(super().read(path))
        content[-1] ^= 1
        return bytes(content)


def test_photo_is_durable_under_its_name_before_its_row_and_read_back_after(tmp_path: Path) -> None:
    door = WatchedDoor()
    box = new_box(tmp_path / "records", door=door)
    statements: list[str] = []
    box.store.saver.connection.set_trace_callback(
        lambda text: door.calls.append("commit") if text == "COMMIT" else statements.append(text)
    )
    door.calls.clear()
    visit(box, "one")
    assert door.calls == ["write and fsync *.new", "rename *.new *", "fsync blobs", "commit", "read"]
    assert any(text.startswith("SELECT capture_id") for text in statements[-6:])


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EROFS, ReadOnlyError),
        (errno.EIO, StorageFailedError),
    ],
)
def test_fault_at_any_call_of_the_door_leaves_all_or_nothing(
    tmp_path: Path, number: int, error: type[NotSavedError]
) -> None:
    for fail_at in (1, 2, 3):
        door = WatchedDoor()
        box = new_box(tmp_path / f"{fail_at}", door=door)
        door.calls.clear()
        door.fail_at, door.number = fail_at, number
        with pytest.raises(error):
            visit(box, "failing")
        assert box.store.has_failed == (error is StorageFailedError)
        if error is not StorageFailedError:
            assert box.store.saver.blobs.names() == set()
            visit(box, "again")
        again = box.reopen()
        marks = {record.content.pseudonym for record in again.store.all_readable(SubjectContent)}
        assert marks == (set() if error is StorageFailedError else {"P-again"})
        assert again.store.saver.blobs.names() == again.store.photo_ids()
        again.store.close()


def test_medium_that_gives_other_bytes_back_is_never_called_saved(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    before = visit(box, "before")
    lying = box.reopen(door=LyingDoor())
    with pytest.raises(StorageFailedError, match="was not saved"):
        visit(lying, "one")
    assert lying.store.has_failed
    # Nothing is tried again on this disk; what is there can still be read.
    with pytest.raises(StorageFailedError):
        lying.store.add(SubjectContent(pseudonym="two"), None)
    assert lying.store.get(SubjectContent, before.subject_id).content.pseudonym == "P-before"
    lying.store.close()


def test_row_that_is_not_read_back_is_never_called_saved(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    connection = box.store.saver.connection
    connection.execute(
        "CREATE TEMP TRIGGER lie AFTER INSERT ON audit BEGIN UPDATE subject SET sealed = x'00' WHERE 1; END"
    )
    with pytest.raises(StorageFailedError):
        box.store.add(SubjectContent(pseudonym="one"), None)
    assert box.store.has_failed


def test_ballast_is_dropped_for_small_things_and_not_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = new_box(tmp_path / "records")
    (box.folder / "ballast").write_bytes(bytes(1000))
    saver, tries = box.store.saver, []
    real = saver._save

    def full_once(*arguments: object) -> object:
        tries.append(1)
        if len(tries) == 1:
            raise DiskFullError("The disk is full.")
        return real(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(saver, "_save", full_once)
    with pytest.raises(DiskFullError):
        visit(box, "one")
    assert (box.folder / "ballast").exists()
    tries.clear()
    box.store.add(SubjectContent(pseudonym="small"), None)
    assert not (box.folder / "ballast").exists()
    assert len(tries) == 2


def test_small_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(FileDoor(), path, b"one")
    door = WatchedDoor()
    door.fail_at, door.number = 2, errno.EIO
    with pytest.raises(OSError, match="injected"):
        replace_file(door, path, b"two")
    assert path.read_bytes() == b"one"
    replace_file(FileDoor(), path, b"three")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"three"


def test_door_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    for refused in (lambda: FileDoor().read(tmp_path / "link"), lambda: FileDoor().write_new(tmp_path / "link", b"")):
        with pytest.raises(OSError, match=r"link|exists"):
            refused()
