"""Changing the secrets that open the records: a new phrase, a new recovery sheet in place of a lost one."""

import secrets
import sqlite3

from appliance.records.clinic_key import KeySlot, PhraseKey, SheetKey, WrappingKey, check_phrase, make_slot
from appliance.records.store import RecordStore
from appliance.records.words import RECOVERY_BYTES, sheet_from_key


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

    store.note("phrase-changed", operator_id, also=replace)


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

    store.note("sheet-changed", operator_id, also=replace)
    return sheets
