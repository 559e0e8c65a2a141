"""Erasing a subject: its keys are destroyed, its rows emptied, its photos removed; a trace stays in the audit.

Two people do it. What was sealed under a destroyed key opens for nobody, wherever a copy of it may lie; backups made
before still hold the keys until they are rotated (`DESIGN.md`, "Erasing").
Source: Regulation (EU) 2016/679, articles 17 and 32.
"""

import hashlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import Final

from appliance.records.audit import ObjectState
from appliance.records.content import CONTENTS, Content, DraftContent, SubjectContent
from appliance.records.errors import ErasedError, ForbiddenError, MissingError
from appliance.records.rows import select_rows
from appliance.records.saving import Saved
from appliance.records.store import RecordStore
from appliance.records.users import User

logger = logging.getLogger(__name__)
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class _Belongings:
    """Everything of one subject, by its clear columns."""

    rows: list[tuple[type[Content], str, int]]
    owners: list[str]
    key_ids: list[str]
    photo_ids: list[str]


def erase_subject(store: RecordStore, subject_id: str, lead: User, witness: User) -> Saved:
    """Erase a subject with all visits, for good.

    Raises:
        ForbiddenError: It takes a lead and somebody else.
        MissingError, ErasedError: There is no such subject, or not any more.
        NotSavedError: Nothing was erased.
    """
    lead.require("erase")
    if witness.user_id == lead.user_id or not witness.is_active:
        raise ForbiddenError("Erasing takes two people; somebody else must confirm it.")
    with store.saver.lock:
        found = _belongings(store.saver.connection, subject_id)
        objects: list[ObjectState] = [
            (kind.TABLE, record_id, revision, _EMPTY)
            for kind, record_id, revision in found.rows
            if kind is not DraftContent
        ]
        saved = store.saver.save(
            "erased",
            lead.user_id,
            also=lambda connection, _: _erase(connection, found),
            objects=objects,
            detail=f"witness {witness.user_id}",
        )
        for key_id in found.key_ids:
            store.saver.keyring.forget(key_id)
        store.index.drop_subject(subject_id)
        # The log of a write-ahead journal still holds the keys until it is cut.
        store.saver.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for capture_id in found.photo_ids:
            try:
                store.saver.blobs.discard(capture_id)
            except OSError as error:
                # Nobody can open it any more, and the next start sweeps it.
                logger.warning("erased photo not removed error=%s", error)
    return saved


def _belongings(connection: sqlite3.Connection, subject_id: str) -> _Belongings:
    subjects = select_rows(connection, SubjectContent, "subject_id", subject_id)
    if not subjects:
        raise MissingError("There is no such subject.")
    if subjects[0].key_id is None:
        raise ErasedError("This subject was erased already.")
    encounters = [
        one[0] for one in connection.execute("SELECT encounter_id FROM encounter WHERE subject_id = ?", (subject_id,))
    ]
    rows = []
    for kind in CONTENTS:
        if kind is SubjectContent or "subject_id" in kind.PARENTS:
            rows += [
                (kind, row.record_id, row.revision) for row in select_rows(connection, kind, "subject_id", subject_id)
            ]
        else:
            for encounter_id in encounters:
                found = select_rows(connection, kind, "encounter_id", encounter_id)
                rows += [(kind, row.record_id, row.revision) for row in found]
    owners = [subject_id, *encounters]
    key_ids = [
        one[0]
        for owner_id in owners
        for one in connection.execute("SELECT key_id FROM data_key WHERE owner_id = ?", (owner_id,))
    ]
    photos = [record_id for kind, record_id, _ in rows if kind.TABLE == "captured_image"]
    return _Belongings(rows, owners, key_ids, photos)


def _erase(connection: sqlite3.Connection, found: _Belongings) -> None:
    for owner_id in found.owners:
        connection.execute("DELETE FROM data_key WHERE owner_id = ?", (owner_id,))
    for kind, record_id, _ in found.rows:
        if kind is DraftContent:
            connection.execute("DELETE FROM draft WHERE draft_id = ?", (record_id,))
            continue
        connection.execute(
            f"UPDATE {kind.TABLE} SET key_id = NULL, sealed = x'' WHERE {kind.ID_COLUMN} = ?",
            (record_id,),
        )
        connection.execute(
            "UPDATE earlier_revision SET key_id = NULL, sealed = x'' WHERE table_name = ? AND record_id = ?",
            (kind.TABLE, record_id),
        )
