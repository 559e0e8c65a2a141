"""First run: the clinic's keys, its phrase, two recovery sheets, and the first lead; no default password anywhere.

In two steps, so that it cannot end before a sheet was typed back: `prepare` makes the secrets in memory, `complete`
writes everything at once. A power cut in between leaves a box that asks to be set up.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.clock import Clock, SystemClock
from appliance.records import database
from appliance.records.clinic_key import (
    KeySlot,
    OpenedSlot,
    PhraseKey,
    SheetKey,
    WrappingKey,
    check_phrase,
    make_slot,
    new_clinic_key,
    open_slots,
    seal_key,
)
from appliance.records.dating import Calendar
from appliance.records.door import Door, FileDoor, make_records_folder, replace_file
from appliance.records.errors import ForbiddenError, WrongSecretError
from appliance.records.folder_lock import FolderLock
from appliance.records.keyring import Keyring
from appliance.records.pins import BOX_SECRET_NAME, check_pin, pin_hash
from appliance.records.saving import Saver
from appliance.records.sealing import KEY_BYTES
from appliance.records.slots import insert_slot
from appliance.records.store import ORIGIN_IDENTITY, RecordStore, new_id
from appliance.records.users import User, insert_user
from appliance.records.words import RECOVERY_BYTES, new_phrase, sheet_from_key

_SHEETS: Final = 2


@dataclass(frozen=True, slots=True, repr=False)
class SetUp:
    """The secrets of a new box, in memory only."""

    phrase: str
    """Offered; the clinic may choose another one."""
    sheets: tuple[str, ...]
    """Words of each recovery sheet: print them, seal them in envelopes, keep them in two places."""
    clinic_key: OpenedSlot
    signing_key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SetUpAnswers:
    """What was typed on the first-run screens."""

    clinic_name: str
    phrase: str
    typed_sheets: tuple[str, ...]
    """Each sheet, typed back from the paper."""
    lead_name: str
    lead_pin: str
    is_date_right: bool = True
    """Whether somebody looked at the date on the screen and took it for right."""


def prepare() -> SetUp:
    """Make a new box's secrets."""
    clinic_key, signing_key = new_clinic_key()
    sheets = tuple(sheet_from_key(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(_SHEETS))
    return SetUp(new_phrase(), sheets, clinic_key, signing_key)


def complete(
    folder: Path, made: SetUp, answers: SetUpAnswers, *, clock: Clock | None = None, door: Door | None = None
) -> RecordStore:
    """Check what was typed back, write everything at once, and return the store, unlocked.

    Raises:
        WrongSecretError: A sheet was typed wrongly, or phrase or PIN are too weak; nothing was written.
        ForbiddenError: This box is set up already.
        CannotOpenError, NotSavedError, OSError: The folder or the disk does not take it.
    """
    slots = _checked_slots(made, answers)
    check_pin(answers.lead_pin)
    if not answers.lead_name.strip():
        raise WrongSecretError("The lead needs a name.")
    used_door = door or FileDoor()
    make_records_folder(used_door, folder)
    # Whoever made it may have been killed before its name was durable.
    used_door.sync_folder(folder.parent)
    lock = FolderLock(folder)
    try:
        connection = database.connect(folder)
    except BaseException:
        lock.close()
        raise
    try:
        database.migrate(connection, database.shipped_migrations())
        _require_new(connection)
        box_secret = secrets.token_bytes(KEY_BYTES)
        replace_file(used_door, folder / BOX_SECRET_NAME, box_secret)
        calendar = Calendar(clock or SystemClock(), None)
        if answers.is_date_right:
            calendar.confirm()
        keyring = Keyring(made.clinic_key.private_key.public_key())
        saver = Saver(connection=connection, folder=folder, door=used_door, keyring=keyring, calendar=calendar)
        saver.blobs.make()
        _write(saver, made, answers, slots, pin_hash(answers.lead_pin, box_secret))
        keyring.unlock(made.clinic_key.private_key)
    except BaseException:
        connection.close()
        lock.close()
        raise
    return RecordStore(folder=folder, lock=lock, saver=saver)


def _require_new(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT 1 FROM audit").fetchone():
        raise ForbiddenError("This box is set up already.")


def _checked_slots(made: SetUp, answers: SetUpAnswers) -> tuple[KeySlot, ...]:
    """Wrap the key under each secret as it was typed, and try that each one opens it."""
    check_phrase(answers.phrase)
    if len(answers.typed_sheets) != _SHEETS:
        raise WrongSecretError("Both recovery sheets must be typed back before the set-up can end.")
    wrapping: list[WrappingKey] = [PhraseKey(answers.phrase), *(SheetKey(words) for words in made.sheets)]
    slots = tuple(make_slot(made.clinic_key, secret) for secret in wrapping)
    for typed, slot in zip(answers.typed_sheets, slots[1:], strict=True):
        open_slots((slot,), SheetKey(typed))
    return slots


def _write(saver: Saver, made: SetUp, answers: SetUpAnswers, slots: tuple[KeySlot, ...], lead_pin_hash: str) -> None:
    """Everything that makes a box, in one transaction with the first audit entry."""
    audit_key = secrets.token_bytes(KEY_BYTES)
    public_key = made.clinic_key.private_key.public_key()
    meta = {
        "clinic_id": new_id().encode(),
        "clinic_name": answers.clinic_name.strip().encode(),
        "public_key": public_key.public_bytes_raw(),
        "signing_key": made.signing_key.private_bytes_raw(),
        "audit_origin": seal_key(public_key, audit_key, ORIGIN_IDENTITY),
        "audit_key": audit_key,
    }
    with saver.lock, database.transaction(saver.connection):
        # Cut here, the box has no audit entry and asks to be set up again.
        saver.connection.execute("DELETE FROM meta WHERE name <> 'compat'")
        saver.connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", meta.items())

    def people(connection: sqlite3.Connection, sequence: int) -> None:
        for slot in slots:
            insert_slot(connection, slot, sequence)
        insert_user(connection, lead, sequence)

    lead = User(user_id=new_id(), name=answers.lead_name.strip(), role="lead", pin_hash=lead_pin_hash, is_active=True)
    saver.save("set-up", lead.user_id, also=people)
