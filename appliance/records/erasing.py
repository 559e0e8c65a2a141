"""Erasing a subject: its keys are destroyed, its rows emptied, its photos removed; a trace stays in the audit.

Two people do it, on what `plan_erasure` showed them. What was sealed under a destroyed key opens for nobody, wherever a
copy of it may lie; backups made before still hold the keys until they are rotated (`DESIGN.md`, "Erasing"), and
`restore` erases anew whoever was erased since.
Source: Regulation (EU) 2016/679, articles 17 and 32.
"""

import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from appliance.records.audit import ObjectState
from appliance.records.content import CONTENTS, CapturedImageContent, Content, DraftContent, SubjectContent
from appliance.records.database import DATABASE_NAME
from appliance.records.erased_list import keep_erased
from appliance.records.errors import ErasedError, ForbiddenError, MissingError, NotSavedError
from appliance.records.opening import older_copies
from appliance.records.rows import Row, select_rows
from appliance.records.saving import Saved
from appliance.records.scrubbing import scrub_journals
from appliance.records.search import Visit
from appliance.records.store import RecordStore
from appliance.records.users import User

logger = logging.getLogger(__name__)
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
Reason = Literal["asked-for", "kept-long-enough", "by-mistake"]
"""Why: a fixed word, for the audit holds nothing about a patient."""
_BACKING_UP: Final = "A backup is being written; erase when it is done."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasurePlan:
    """What goes when a subject is erased; what two people agree to."""

    subject_id: str
    visits: tuple[Visit, ...]
    """The oldest first."""
    photos: int
    others: dict[str, int]
    """How many of each other kind of record, by its table."""
    drafts: int
    """Unfinished work of anybody."""
    older_copies: tuple[str, ...]
    """Folders on this disk, set aside by a restore, which still hold everybody of that day."""
    digest: str
    """Of everything that goes, in its present revision: who confirms says which plan."""


@dataclass(frozen=True, slots=True)
class _Belongings:
    """Everything of some subjects and visits, by its clear columns."""

    rows: list[tuple[type[Content], Row]]
    owners: list[str]
    key_ids: list[str]

    @property
    def photo_ids(self) -> list[str]:
        return [row.record_id for kind, row in self.rows if kind is CapturedImageContent]

    def digest(self) -> str:
        """Unfinished work is left out: it changes at every field."""
        states = sorted(row.state() for kind, row in self.rows if kind is not DraftContent)
        return hashlib.sha256(repr(states).encode()).hexdigest()


def plan_erasure(store: RecordStore, subject_id: str) -> ErasurePlan:
    """Say what goes, locked or not.

    Raises:
        MissingError, ErasedError: There is no such subject, or not any more.
    """
    with store.saver.lock:
        found = _belongings_of_subject(store.saver.connection, subject_id)
        visits = tuple(store.visits(subject_id))
    counts = Counter(kind.TABLE for kind, _ in found.rows)
    others = {table: number for table, number in counts.items() if table not in _COUNTED_APART}
    return ErasurePlan(
        subject_id=subject_id,
        visits=visits,
        photos=len(found.photo_ids),
        others=others,
        drafts=counts[DraftContent.TABLE],
        older_copies=tuple(path.name for path in older_copies(store.folder)),
        digest=found.digest(),
    )


_COUNTED_APART: Final = frozenset({"subject", "encounter", "captured_image", "draft"})


def erase_subject(
    store: RecordStore, subject_id: str, lead: User, witness: User, *, reason: Reason, digest: str
) -> Saved:
    """Erase a subject with all visits, for good.

    Args:
        store: The records, locked or not.
        subject_id: Whose.
        lead: Who proposed it.
        witness: Who confirmed it, with a PIN that the caller compared.
        reason: Why.
        digest: Of the plan that both saw.

    Raises:
        ForbiddenError: It takes a lead and somebody else who may confirm it.
        MissingError, ErasedError: There is no such subject, or not any more.
        NotSavedError: Nothing was erased: something came since the plan, a backup is being written, the disk is full.
    """
    lead.require("erase")
    if witness.user_id == lead.user_id:
        raise ForbiddenError("Erasing takes two people; somebody else must confirm it.")
    witness.require("witness")
    if not store.backing_up.acquire(blocking=False):
        raise NotSavedError(_BACKING_UP)
    try:
        with store.saver.lock:
            found = _belongings_of_subject(store.saver.connection, subject_id)
            if found.digest() != digest:
                raise NotSavedError("Something was added for this patient meanwhile; nothing was erased. Look again.")
            return _erase(store, found, lead.user_id, f"{reason}, witness {witness.user_id}")
    finally:
        store.backing_up.release()


def erase_again(store: RecordStore, ids: Collection[str]) -> int:
    """Erase what was erased before and came back with an older backup; returns how many subjects and visits.

    Raises:
        NotSavedError: Nothing was erased.
    """
    with store.saver.lock:
        connection = store.saver.connection
        subjects = [one for one in ids if _is_there(connection, "subject", one)]
        of_subjects = [visit.encounter_id for one in subjects for visit in store.visits(one)]
        visits = dict.fromkeys([*of_subjects, *(one for one in ids if _is_there(connection, "encounter", one))])
        if subjects or visits:
            _erase(store, _belongings(connection, subjects, visits), None, "again, after restoring")
    return len(subjects) + len(visits)


def _erase(store: RecordStore, found: _Belongings, operator_id: str | None, detail: str) -> Saved:
    objects: list[ObjectState] = [
        (kind.TABLE, row.record_id, row.revision, _EMPTY) for kind, row in found.rows if kind is not DraftContent
    ]
    saver = store.saver
    saved = saver.save(
        "erased", operator_id, also=lambda connection, _: _empty(connection, found), objects=objects, detail=detail
    )
    for key_id in found.key_ids:
        saver.keyring.forget(key_id)
    for owner_id in found.owners:
        store.index.drop_subject(owner_id)
    try:
        scrub_journals(saver.connection, store.folder / DATABASE_NAME)
    except (OSError, sqlite3.Error) as error:
        logger.warning("journal not overwritten; the next start does it error=%s", error)
    for capture_id in found.photo_ids:
        try:
            saver.blobs.discard(capture_id)
        except OSError as error:
            # Nobody can open it any more, and the next start sweeps it.
            logger.warning("erased photo not removed error=%s", error)
    # Last: on a full disk the photos have made room for it.
    keep_erased(saver.door, store.folder, found.owners)
    return saved


def _belongings_of_subject(connection: sqlite3.Connection, subject_id: str) -> _Belongings:
    subjects = select_rows(connection, SubjectContent, "subject_id", subject_id)
    if not subjects:
        raise MissingError("There is no such subject.")
    if subjects[0].key_id is None:
        raise ErasedError("This patient was erased already.")
    visits = connection.execute("SELECT encounter_id FROM encounter WHERE subject_id = ?", (subject_id,))
    return _belongings(connection, [subject_id], [one[0] for one in visits])


def _belongings(connection: sqlite3.Connection, subjects: Iterable[str], visits: Iterable[str]) -> _Belongings:
    subjects, visits = list(subjects), list(visits)
    rows: dict[tuple[str, str], tuple[type[Content], Row]] = {}
    for kind in CONTENTS:
        places = [("subject_id", one) for one in subjects if kind is SubjectContent or "subject_id" in kind.PARENTS]
        if kind.ID_COLUMN == "encounter_id" or "encounter_id" in kind.PARENTS:
            places += [("encounter_id", one) for one in visits]
        for column, value in places:
            for row in select_rows(connection, kind, column, value):
                rows[kind.TABLE, row.record_id] = (kind, row)
    owners = [*subjects, *visits]
    key_ids = [
        one[0]
        for owner_id in owners
        for one in connection.execute("SELECT key_id FROM data_key WHERE owner_id = ?", (owner_id,))
    ]
    return _Belongings(list(rows.values()), owners, key_ids)


def _empty(connection: sqlite3.Connection, found: _Belongings) -> None:
    for owner_id in found.owners:
        connection.execute("DELETE FROM data_key WHERE owner_id = ?", (owner_id,))
    for kind, row in found.rows:
        if kind is DraftContent:
            connection.execute("DELETE FROM draft WHERE draft_id = ?", (row.record_id,))
            continue
        connection.execute(
            f"UPDATE {kind.TABLE} SET key_id = NULL, sealed = x'' WHERE {kind.ID_COLUMN} = ?",
            (row.record_id,),
        )
        connection.execute(
            "UPDATE earlier_revision SET key_id = NULL, sealed = x'' WHERE table_name = ? AND record_id = ?",
            (kind.TABLE, row.record_id),
        )


def _is_there(connection: sqlite3.Connection, table: str, record_id: str) -> bool:
    found = connection.execute(f"SELECT key_id FROM {table} WHERE {table}_id = ?", (record_id,)).fetchone()
    return found is not None and found[0] is not None
