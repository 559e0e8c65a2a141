"""C4: a backup is whole, tells nothing, opens only for the clinic, and comes back on a blank box."""

import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, Box, Visited, assess, new_box, open_box, visit
from test_records_plaintext import leaks

from appliance.commands.audit import audit as audit_command
from appliance.commands.backup import backup as backup_command
from appliance.commands.backup import drill as drill_command
from appliance.commands.backup import restore as restore_command
from appliance.records import archive
from appliance.records.backup import generations, last_backup, make_backup
from appliance.records.clinic_key import PhraseKey, SheetKey, seal_key
from appliance.records.content import CapturedImageContent, SubjectContent
from appliance.records.database import COPY_NAME
from appliance.records.drill import drill
from appliance.records.errors import (
    ArchiveError,
    CannotOpenError,
    DiskFullError,
    TamperedError,
    ThrottledError,
    WrongSecretError,
)
from appliance.records.opening import RESTORING_SUFFIX, open_records
from appliance.records.people import People
from appliance.records.restore import restore
from appliance.records.sealing import CHUNK_BYTES, KEY_BYTES, seal_stream
from appliance.records.setup import prepare


def filled(box: Box, count: int = 6) -> list[Visited]:
    visits = [visit(box, f"CANARY{number}", size=50_000) for number in range(count)]
    assess(box, visits[0].encounter_id, "CANARY assessed")
    return visits


def assert_there(box: Box, visits: list[Visited]) -> None:
    for visited in visits:
        assert box.store.get(SubjectContent, visited.subject_id).record_id == visited.subject_id
        image = box.store.get(CapturedImageContent, visited.capture_id)
        assert box.store.photo(image) == visited.content
    assert box.store.verify_audit().problems == ()


def test_backup_of_a_locked_box_comes_back_on_a_blank_one(box: Box, stick: Path, tmp_path: Path) -> None:
    visits = filled(box)
    locked = box.reopen(is_unlocked=False)
    made = make_backup(locked.store, stick)
    assert (made.encounters, made.size_bytes > 300_000) == (len(visits), True)
    done = restore(made.path, tmp_path / "blank" / "records", box.sheet(), clock=box.clock)
    assert (done.encounters, done.photos, done.set_aside, done.pins_hold) == (len(visits), len(visits), None, False)
    again = open_box(tmp_path / "blank" / "records", box.made)
    assert_there(again, visits)
    people = People(again.store, clock=again.clock)
    with pytest.raises(ThrottledError):
        people.sign_in(again.lead.user_id, LEAD_PIN)
    people.reset_lead_pin(again.lead.user_id, "864201", SheetKey(box.made.sheets[1]))
    again.clock.passed_s += 10
    assert people.sign_in(again.lead.user_id, "864201").role == "lead"


def test_restore_keeps_what_was_there_and_the_pins(box: Box, stick: Path) -> None:
    visits = filled(box, 2)
    made = make_backup(box.store, stick)
    later = visit(box, "after the backup")
    with pytest.raises(CannotOpenError, match="another program"):
        restore(made.path, box.folder, box.phrase())
    box.store.close()
    done = restore(made.path, box.folder, box.phrase(), clock=box.clock)
    assert done.pins_hold
    assert done.set_aside is not None
    again = open_box(box.folder, box.made)
    assert_there(again, visits)
    assert later.subject_id not in {hit.subject_id for hit in again.store.find()}
    assert People(again.store, clock=again.clock).sign_in(box.lead.user_id, LEAD_PIN).role == "lead"
    assert_there(open_box(done.set_aside, box.made), [*visits, later])


def test_backup_tells_nothing_but_whose_it_is(box: Box, stick: Path) -> None:
    filled(box)
    make_backup(box.store, stick)
    private_key = box.made.clinic_key.private_key.private_bytes_raw()
    secrets = ["CANARY", "Nomvula", "Sister Asha", "Kliniek", "argon2", "CREATE TABLE", box.made.phrase]
    assert leaks(stick, secrets) == []
    written = b"".join(path.read_bytes() for path in stick.iterdir())
    assert private_key not in written
    assert (box.folder / "box-secret").read_bytes() not in written
    assert not (box.folder / COPY_NAME).exists()


def test_newest_generations_stay_and_others_boxes_are_let_be(box: Box, stick: Path) -> None:
    (stick / "holiday.jpg").write_bytes(b"somebody's")
    (stick / "dermstation-00000000-0000000001.dsbk").write_bytes(b"another box's")
    names = [make_backup(box.store, stick, box.lead.user_id, label="stick B").path.name for _ in range(4)]
    clinic_id = box.store.meta("clinic_id").decode()
    assert [path.name for path in generations(stick, clinic_id)] == names[:1:-1]
    assert len(list(stick.iterdir())) == 4
    last = last_backup(box.store)
    assert last is not None
    assert (last.label, last.encounters) == ("stick B", 0)
    assert box.store.verify_audit().problems == ()


def test_wrong_secrets_open_nothing(box: Box, stick: Path, tmp_path: Path) -> None:
    made = make_backup(box.store, stick)
    for secret in (PhraseKey("lusab-babad-gutih-tugad"), SheetKey(prepare().sheets[0])):
        with pytest.raises(WrongSecretError):
            restore(made.path, tmp_path / "blank", secret)
    assert list((tmp_path / "blank").iterdir()) == []


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_changed_backup_is_accepted(box: Box, stick: Path, seed: int, count: int) -> None:
    """Bit flips, cuts, additions; each is refused before anything of it is used."""
    rng = random.Random(seed)
    filled(box, 1)
    made = make_backup(box.store, stick)
    content, changed_path, accepted = made.path.read_bytes(), stick / "changed", 0
    for number in range(count):
        changed = bytearray(content)
        match number % 3:
            case 0:
                # Half of them at the beginning, where names and keys lie.
                changed[rng.randrange(1024 if number % 2 else len(changed))] ^= 1 << rng.randrange(8)
            case 1:
                del changed[rng.randrange(len(changed)) :]
            case 2:
                changed += rng.randbytes(rng.randint(1, 100))
        changed_path.write_bytes(changed)
        try:
            opened = archive.open_archive(changed_path, box.sheet())
            for _, _, file in archive.members(opened):
                file.read()
        except (ArchiveError, TamperedError, WrongSecretError):
            continue
        accepted += 1
    assert accepted == 0


def forged(box: Box, path: Path, tar: bytes, *, signer: Box | None = None) -> Path:
    """Make a backup with any tar in it, signed by a box's own key, as only a stolen box could."""
    archive_key = b"k" * KEY_BYTES
    header = archive.Header(
        clinic_id=box.store.meta("clinic_id").decode(), sequence=1, sealed_key=b"", key_slots=box.store.key_slots()
    )
    sealed_key = seal_key(box.store.saver.keyring.public_key, archive_key, header.identity())
    written = msgspec.json.encode(msgspec.structs.replace(header, sealed_key=sealed_key))
    start = archive.MAGIC + len(written).to_bytes(4, "big") + written
    pieces = [tar[at : at + CHUNK_BYTES] for at in range(0, len(tar), CHUNK_BYTES)]
    body = start + b"".join(seal_stream(archive_key, pieces, archive.identity_of(written)))
    signature = (signer or box).store.signing_key().sign(archive.CONTEXT + hashlib.sha256(body).digest())
    path.write_bytes(body + signature)
    return path


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def manifest_of(**files: int) -> bytes:
    made = archive.Manifest(
        clinic_id="0" * 32,
        sequence=1,
        audit_hash=b"",
        made_at="",
        is_date_confirmed=True,
        version="1",
        encounters=0,
        files=files,
    )
    return archive.manifest_bytes(made)


HOSTILE = {
    "absolute path": member("/etc/cron.d/evil"),
    "parent folder": member("../../evil"),
    "parent in the middle": member("blobs/../../evil"),
    "symbolic link": member("blobs/" + "a" * 32, tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("blobs/" + "a" * 32, tarfile.LNKTYPE, "records.sqlite"),
    "device": member("blobs/" + "a" * 32, tarfile.CHRTYPE),
    "pipe": member("blobs/" + "a" * 32, tarfile.FIFOTYPE),
    "folder": member("blobs", tarfile.DIRTYPE),
    "settings": member("box-secret"),
    "upper case": member("blobs/" + "A" * 32),
    "longer name": member("blobs/" + "a" * 33),
    "new line": member("blobs/" + "a" * 31 + "\n"),
    "not named": member("blobs/" + "b" * 32),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_member_is_refused_and_nothing_is_written(box: Box, stick: Path, tmp_path: Path, kind: str) -> None:
    files = {"records.sqlite": 4, "blobs/" + "a" * 32: 0}
    tar = tar_of(
        (member("manifest.json"), manifest_of(**files)),
        (member("records.sqlite"), b"data"),
        (HOSTILE[kind], b""),
    )
    target = tmp_path / "target" / "records"
    with pytest.raises(ArchiveError, match="refused"):
        restore(forged(box, stick / "forged.dsbk", tar), target, box.sheet())
    assert sorted(path.name for path in (tmp_path / "target").rglob("*")) == ["records"]


def test_member_twice_missing_or_of_another_size_is_refused(box: Box, stick: Path, tmp_path: Path) -> None:
    named = manifest_of(**{"records.sqlite": 4})
    for tar in (
        tar_of((member("manifest.json"), named), *[(member("records.sqlite"), b"data")] * 2),
        tar_of((member("manifest.json"), named)),
        tar_of((member("manifest.json"), named), (member("records.sqlite"), b"more data")),
        tar_of((member("records.sqlite"), b"data"), (member("manifest.json"), named)),
        tar_of(),
        b"no tar at all",
        tar_of((member("manifest.json"), b"{}")),
    ):
        with pytest.raises(ArchiveError):
            restore(forged(box, stick / "forged.dsbk", tar), tmp_path / "target", box.sheet())
    assert not (tmp_path / ("target" + RESTORING_SUFFIX)).exists()


def test_backup_by_another_box_that_knows_the_public_key_is_not_believed(box: Box, stick: Path, tmp_path: Path) -> None:
    thief = new_box(tmp_path / "thief")
    thief.store.saver.connection.execute("UPDATE meta SET value = ? WHERE name = 'signing_key'", (b"t" * 32,))
    tar = tar_of((member("manifest.json"), manifest_of()))
    path = forged(box, stick / "forged.dsbk", tar, signer=thief)
    with pytest.raises(ArchiveError, match="damaged or was changed"):
        restore(path, tmp_path / "target", box.sheet())


def test_full_stick_is_told_and_the_backup_before_stays(box: Box, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("needs root to mount a small file system")
    try:
        before = make_backup(box.store, small)
        filled(box, 20)
        with pytest.raises(DiskFullError, match="stick has no room"):
            make_backup(box.store, small)
        assert [path.name for path in small.iterdir()] == [before.path.name]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_stick_that_keeps_other_bytes_is_told(box: Box, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def lying(descriptor: int) -> None:
        sync(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith("dermstation-"):
            os.pwrite(descriptor, bytes(16), 5000)

    monkeypatch.setattr(os, "fsync", lying)
    filled(box, 1)
    with pytest.raises(ArchiveError):
        make_backup(box.store, stick)
    assert list(stick.iterdir()) == []


def test_restore_that_was_cut_is_told_and_can_be_run_again(box: Box, stick: Path) -> None:
    visits = filled(box, 1)
    made = make_backup(box.store, stick)
    box.store.close()
    # As between the last two renames.
    box.folder.rename(box.folder.with_name("records.before-1-1"))
    beside = box.folder.with_name("records" + RESTORING_SUFFIX)
    beside.mkdir()
    opening = open_records(box.folder)
    assert (opening.state, "restore again" in opening.action) == ("damaged", True)
    restore(made.path, box.folder, box.sheet(), clock=box.clock)
    assert not beside.exists()
    assert_there(open_box(box.folder, box.made), visits)


def test_drill_opens_some_visits_and_writes_nothing(box: Box, stick: Path, seed: int) -> None:
    filled(box, 8)
    made = make_backup(box.store, stick)
    before = {path: path.stat().st_mtime_ns for path in (*stick.iterdir(), *box.folder.rglob("*"))}
    found = drill(made.path, box.sheet(), random.Random(seed))
    assert (found.encounters, found.opened_encounters, found.opened_photos) == (8, 5, 5)
    assert {path: path.stat().st_mtime_ns for path in (*stick.iterdir(), *box.folder.rglob("*"))} == before
    with pytest.raises(WrongSecretError):
        drill(made.path, SheetKey(prepare().sheets[0]), random.Random(seed))


def test_drill_finds_a_photo_that_would_not_come_back(box: Box, stick: Path) -> None:
    visited = filled(box, 1)[0]
    path = box.store.saver.blobs.path(visited.capture_id)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    made = make_backup(box.store, stick)
    with pytest.raises(TamperedError):
        drill(made.path, box.sheet(), random.Random(1))


@pytest.fixture
def runner(box: Box) -> Iterator[tuple[CliRunner, list[str]]]:
    filled(box, 3)
    box.store.close()
    yield CliRunner(), ["--records", str(box.folder)]
    shutil.rmtree(box.folder, ignore_errors=True)


def test_commands_back_up_drill_restore_and_verify(runner: tuple[CliRunner, list[str]], box: Box, stick: Path) -> None:
    run, records = runner
    done = run.invoke(backup_command, [str(stick), "--label", "stick A", *records])
    assert (done.exit_code, "3 visits" in done.output) == (0, True), done.output
    (path,) = stick.iterdir()
    done = run.invoke(drill_command, [str(path)], input=f"{box.made.sheets[1]}\n")
    assert (done.exit_code, "would come back" in done.output) == (0, True), done.output
    done = run.invoke(restore_command, [str(path), *records], input=f"{box.made.phrase}\n")
    assert (done.exit_code, "3 visits and 3 photos are back" in done.output) == (0, True), done.output
    assert box.made.phrase not in done.output
    done = run.invoke(audit_command, ["verify", "--unlock", *records], input=f"{box.made.phrase}\n")
    assert (done.exit_code, "each by this box" in done.output) == (0, True), done.output
    again = open_box(box.folder, box.made, clock=ManualClock())
    again.store.saver.connection.execute("UPDATE subject SET operator_id = NULL, sealed = x'00'")
    again.store.close()
    done = run.invoke(audit_command, ["verify", *records])
    assert (done.exit_code, "not as it was written" in done.output) == (1, True), done.output


def test_commands_say_why_they_cannot(tmp_path: Path, stick: Path) -> None:
    done = CliRunner().invoke(backup_command, [str(stick), "--records", str(tmp_path / "nothing")])
    assert isinstance(done.exception, CannotOpenError)
    assert "no folder" in str(done.exception)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(audit_command, ["verify", "--records", str(tmp_path / "empty")])
    assert "not set up" in str(done.exception)
