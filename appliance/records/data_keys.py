"""Which data key a record is sealed under: the one at hand, or a new one where the stored one cannot be opened.

It reads and writes the table of sealed keys, inside the caller's transaction.
"""

import sqlite3
from collections.abc import Mapping

from appliance.records.content import Content, KeyOwner
from appliance.records.errors import ErasedError
from appliance.records.keyring import Keyring, StoredKey


class DataKeys:
    """The data keys of one save: those at hand, and those that it makes."""

    def __init__(self, connection: sqlite3.Connection, keyring: Keyring) -> None:
        self._connection = connection
        self._keyring = keyring
        self._chosen: dict[tuple[KeyOwner, str], tuple[str, bytes]] = {}
        self._made: list[tuple[StoredKey, bytes]] = []

    def of(self, content: Content, record_id: str, parents: Mapping[str, str | None]) -> tuple[str, bytes]:
        """Return id and key for a record: its owner's, or a new one where none can be opened.

        Raises:
            ErasedError: What it belongs to was erased; nothing may come after that.
        """
        owner_kind = content.KEY_OWNER
        places = {**parents, content.ID_COLUMN: record_id}
        for table in ("subject", "encounter"):
            self._refuse_erased(table, places.get(f"{table}_id"))
        column = f"{owner_kind}_id"
        owner_id = record_id if column == content.ID_COLUMN else str(parents[column])
        if (owner_kind, owner_id) not in self._chosen:
            self._chosen[owner_kind, owner_id] = self._stored(owner_kind, owner_id) or self._new(owner_kind, owner_id)
        return self._chosen[owner_kind, owner_id]

    def insert(self, sequence: int) -> None:
        """Write the new keys."""
        for stored, _ in self._made:
            self._connection.execute(
                "INSERT INTO data_key (key_id, owner_kind, owner_id, sealed, sequence) VALUES (?, ?, ?, ?, ?)",
                (stored.key_id, stored.owner_kind, stored.owner_id, stored.sealed, sequence),
            )

    def remember(self) -> None:
        """Keep what was used, once it is committed."""
        for key_id, data_key in self._chosen.values():
            self._keyring.remember(key_id, data_key)

    def _refuse_erased(self, table: str, record_id: str | None) -> None:
        found = self._connection.execute(f"SELECT key_id FROM {table} WHERE {table}_id = ?", (record_id,)).fetchone()
        if found is not None and found[0] is None:
            raise ErasedError("This patient was erased, so nothing was saved.")

    def _stored(self, owner_kind: KeyOwner, owner_id: str) -> tuple[str, bytes] | None:
        found = stored_keys(self._connection, owner_kind, owner_id)
        for stored in found:
            data_key = self._keyring.remembered(stored.key_id)
            if data_key is not None:
                return stored.key_id, data_key
        if found and self._keyring.is_unlocked:
            return found[0].key_id, self._keyring.open(found[0])
        return None

    def _new(self, owner_kind: KeyOwner, owner_id: str) -> tuple[str, bytes]:
        stored, data_key = self._keyring.make(owner_kind, owner_id)
        self._made.append((stored, data_key))
        return stored.key_id, data_key


def stored_keys(connection: sqlite3.Connection, owner_kind: KeyOwner, owner_id: str) -> list[StoredKey]:
    """Read the sealed keys of one owner, newest first."""
    found = connection.execute(
        "SELECT key_id, sealed FROM data_key WHERE owner_kind = ? AND owner_id = ? ORDER BY sequence DESC",
        (owner_kind, owner_id),
    )
    return [StoredKey(key_id=one[0], owner_kind=owner_kind, owner_id=owner_id, sealed=one[1]) for one in found]


def stored_key(connection: sqlite3.Connection, key_id: str) -> StoredKey | None:
    """Read one sealed key; None once it is erased."""
    one = connection.execute("SELECT owner_kind, owner_id, sealed FROM data_key WHERE key_id = ?", (key_id,)).fetchone()
    return None if one is None else StoredKey(key_id=key_id, owner_kind=one[0], owner_id=one[1], sealed=one[2])
