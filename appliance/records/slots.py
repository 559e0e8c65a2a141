"""Changing what opens the records: a new phrase, new sheets for a lost one, key fobs and the box's TPM.

The phrase and the sheets are replaced and never removed, so nobody is shut out by taking every other way away.
"""

import logging
import secrets
import sqlite3
from typing import Final

from appliance.records.clinic_key import HeldKey, KeySlot, PhraseKey, SheetKey, WrappingKey, check_phrase, make_slot
from appliance.records.database import DATABASE_NAME
from appliance.records.errors import MissingError, WrongSecretError
from appliance.records.held_slots import HeldKind, HeldSlot, delete_held, insert_held
from appliance.records.saving import Also
from appliance.records.scrubbing import scrub_journals
from appliance.records.store import RecordStore
from appliance.records.words import RECOVERY_BYTES, sheet_from_key

logger = logging.getLogger(__name__)
HELD_NAME_MAX: Final = 40
_ADDED: Final[dict[HeldKind, str]] = {"fob": "fob-made", "tpm": "chip-on"}
_REMOVED: Final[dict[str, str]] = {"fob": "fob-revoked", "tpm": "chip-off"}


def insert_slot(connection: sqlite3.Connection, slot: KeySlot, sequence: int) -> None:
    """Write a slot, inside the caller's transaction."""
    connection.execute(
        "INSERT INTO key_slot (slot_id, kind, salt, wrapped, sequence) VALUES (?, ?, ?, ?, ?)",
        (slot.slot_id, slot.kind, slot.salt, slot.wrapped, sequence),
    )


def change_phrase(store: RecordStore, known: WrappingKey, phrase: str, operator_id: str) -> None:
    """Replace the clinic's phrase; the old one, or a recovery sheet, is asked for.

    Backups made before keep opening with the phrase of their day.

    Raises:
        WrongSecretError: The known secret fits nothing, or the new phrase is too short.
        NotSavedError: Nothing was changed.
    """
    check_phrase(phrase)
    slot = make_slot(store.open_slot(known), PhraseKey(phrase))

    def replace(connection: sqlite3.Connection, sequence: int) -> None:
        connection.execute("DELETE FROM key_slot WHERE kind = 'phrase'")
        insert_slot(connection, slot, sequence)

    _note_and_scrub(store, "phrase-changed", operator_id, replace)


def new_sheets(store: RecordStore, known: WrappingKey, operator_id: str, count: int = 2) -> tuple[str, ...]:
    """Replace every recovery sheet, as when one was lost; the old ones open nothing on this box any more.

    Returns:
        The words of the new sheets, to be printed at once: they are kept nowhere.

    Raises:
        WrongSecretError: The known secret fits nothing.
        NotSavedError: Nothing was changed; the old sheets hold.
    """
    opened = store.open_slot(known)
    sheets = tuple(sheet_from_key(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(count))
    slots = [make_slot(opened, SheetKey(words)) for words in sheets]

    def replace(connection: sqlite3.Connection, sequence: int) -> None:
        connection.execute("DELETE FROM key_slot WHERE kind = 'recovery'")
        for slot in slots:
            insert_slot(connection, slot, sequence)

    _note_and_scrub(store, "sheet-changed", operator_id, replace)
    return sheets


def check_held_name(store: RecordStore, name: str) -> str:
    """Return the name of a new fob as it is kept.

    Raises:
        WrongSecretError: It is empty, too long, or taken.
    """
    kept = name.strip()
    if not kept or len(kept) > HELD_NAME_MAX or not kept.isprintable():
        raise WrongSecretError(f"A key fob needs a name of at most {HELD_NAME_MAX} letters.")
    if any(held.name == kept for held in store.held_slots()):
        raise WrongSecretError("There is a key fob of this name; give this one another.")
    return kept


def add_held_slot(
    store: RecordStore,
    known: WrappingKey,
    key: HeldKey,
    held_name: str,
    operator_id: str | None,
    *,
    slot_id: str | None = None,
    sealed: bytes = b"",
) -> str:
    """Let one more thing open the records; the phrase or a sheet is asked for. Returns the slot's id.

    Args:
        store: The records, locked or not.
        known: The phrase, or a recovery sheet.
        key: What the thing holds.
        held_name: How it is called in the list.
        operator_id: Who does it.
        slot_id: Instead of a random one.
        sealed: What the TPM gives the key out of.

    Raises:
        WrongSecretError: The known secret is neither the phrase nor a sheet.
        NotSavedError: Nothing was changed.
    """
    slot = make_slot(store.open_slot(known), key, slot_id)
    held = HeldSlot(slot=slot, name=held_name, sealed=sealed)
    kind: HeldKind = "fob" if key.kind == "fob" else "tpm"

    def write(connection: sqlite3.Connection, sequence: int) -> None:
        if kind == "tpm":
            # There is one chip: a new PIN takes the place of the old one.
            connection.execute("DELETE FROM held_slot WHERE kind = 'tpm'")
        insert_held(connection, held, sequence)

    _note_and_scrub(store, _ADDED[kind], operator_id, write, slot.slot_id)
    return slot.slot_id


def remove_held_slot(store: RecordStore, slot_id: str, operator_id: str | None) -> HeldSlot:
    """Let a fob, or the TPM, open this box no more; works locked. Returns what was removed.

    Raises:
        MissingError: There is no such slot.
        NotSavedError: Nothing was changed; it still opens.
    """
    held = next((one for one in store.held_slots() if one.slot.slot_id == slot_id), None)
    if held is None:
        raise MissingError("It is not on the list any more.")
    action = _REMOVED[held.slot.kind]
    _note_and_scrub(store, action, operator_id, lambda connection, _: delete_held(connection, slot_id), slot_id)
    return held


def _note_and_scrub(store: RecordStore, action: str, operator_id: str | None, also: Also, detail: str = "") -> None:
    """Change slots with their audit entry, and leave no old one in SQLite's journal.

    Raises:
        NotSavedError: Nothing was changed.
    """
    with store.saver.lock:
        store.note(action, operator_id, also=also, detail=detail)
        try:
            scrub_journals(store.saver.connection, store.folder / DATABASE_NAME)
        except (OSError, sqlite3.Error) as error:
            logger.warning("journal not overwritten; the next start does it error=%s", error)
