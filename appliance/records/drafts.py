"""Forms that are not finished: saved at every field, bound to visit, subject and operator.

A draft opens for the one who typed it, under the subject it was typed for, or not at all. It is sealed like a record
but not audited, and gone once its form is saved.
"""

import sqlite3
from dataclasses import dataclass

from appliance.records.content import DraftContent, EncounterContent
from appliance.records.errors import LockedError, TamperedError
from appliance.records.rows import Record, select_rows
from appliance.records.saving import Also, Saved
from appliance.records.store import RecordStore, new_id
from appliance.records.write import Write, checked


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingDraft:
    """A draft as far as a locked box can tell: "go on with the work of 10:42?"."""

    draft_id: str
    encounter_id: str
    subject_id: str
    form: str
    recorded_at: str
    is_date_confirmed: bool


class Drafts:
    """The drafts of a store."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def save(self, encounter_id: str, form: str, fields: dict[str, str], operator_id: str | None) -> Saved:
        """Save every field typed so far, in place of what was there.

        Raises:
            LockedError: There is a draft already that cannot be opened while locked; nothing was written over.
            MissingError: There is no such visit.
            NotSavedError: It was not saved.
        """
        with self._store.saver.lock:
            subject_id = self._subject_of(encounter_id)
            before = self._row(encounter_id, form, operator_id)
            if before is not None and not self._is_readable(encounter_id, form, operator_id):
                raise LockedError("There is unfinished work for this visit; type the clinic's phrase to go on with it.")
            write = Write(
                content=DraftContent(fields=fields),
                record_id=before[0] if before else new_id(),
                parents={"encounter_id": encounter_id, "subject_id": subject_id, "form": form},
                revision=before[1] + 1 if before else 1,
            )
            return self._store.saver.save(None, operator_id, [checked(write)])

    def hand_over(self, encounter_id: str, form: str, before: str | None, after: str | None) -> Saved:
        """Give a draft to another operator, in one step; whatever it says is begun anew.

        Raises:
            NotSavedError: It is where it was.
        """
        return self._replace(encounter_id, (form, before), (form, after))

    def leave_mark(self, encounter_id: str, form: str, mark: str, operator_id: str | None) -> Saved:
        """Put an empty draft of another form in a draft's place, in one step: what is to be done after the phrase.

        Raises:
            NotSavedError: Everything is as it was.
        """
        with self._store.saver.lock:
            if self._row(encounter_id, mark, operator_id) is not None:
                also = self.removal(encounter_id, form, operator_id)
                return self._store.note("draft-discarded", operator_id, also=also)
            return self._replace(encounter_id, (form, operator_id), (mark, operator_id))

    def marked(self, mark: str) -> tuple[tuple[str, str | None], ...]:
        """List the visits of every draft of a form, and whose it is, in the order in which they came."""
        with self._store.saver.lock:
            found = self._store.saver.connection.execute(
                "SELECT encounter_id, operator_id FROM draft WHERE form = ? ORDER BY sequence, rowid", (mark,)
            ).fetchall()
        return tuple((one[0], one[1]) for one in found)

    def _replace(self, encounter_id: str, before: tuple[str, str | None], after: tuple[str, str | None]) -> Saved:
        """Put an empty draft, by form and operator, in another one's place."""
        subject_id = self._subject_of(encounter_id)
        parents = {"encounter_id": encounter_id, "subject_id": subject_id, "form": after[0]}
        write = checked(Write(content=DraftContent(fields={}), record_id=new_id(), parents=parents))
        return self._store.saver.save("draft-discarded", after[1], [write], also=self.removal(encounter_id, *before))

    def open(self, encounter_id: str, form: str, operator_id: str | None) -> Record[DraftContent] | None:
        """Open the operator's own draft for a form of a visit; None when there is none.

        Raises:
            LockedError: The records are locked.
            TamperedError: It belongs to another subject than the visit does.
        """
        with self._store.saver.lock:
            row = self._row(encounter_id, form, operator_id)
            if row is None:
                return None
            draft = self._store.get(DraftContent, row[0])
            if draft.parents["subject_id"] != self._subject_of(encounter_id):
                raise TamperedError("This unfinished work belongs to somebody else, so it is not shown.")
            return draft

    def waiting(self, operator_id: str | None) -> tuple[WaitingDraft, ...]:
        """List the operator's drafts, newest first, locked or not."""
        with self._store.saver.lock:
            found = self._store.saver.connection.execute(
                "SELECT draft_id, encounter_id, subject_id, form, recorded_at, date_confirmed FROM draft "
                "WHERE operator_id IS ? ORDER BY sequence DESC, rowid DESC",
                (operator_id,),
            ).fetchall()
        return tuple(
            WaitingDraft(
                draft_id=one[0],
                encounter_id=one[1],
                subject_id=one[2],
                form=one[3],
                recorded_at=one[4],
                is_date_confirmed=bool(one[5]),
            )
            for one in found
        )

    def removal(self, encounter_id: str, form: str, operator_id: str | None) -> Also:
        """Return what removes the draft in the transaction that saves its form: `store.add_all(..., also=...)`."""

        def remove(connection: sqlite3.Connection, _: int) -> None:
            connection.execute(
                "DELETE FROM draft WHERE encounter_id = ? AND form = ? AND operator_id IS ?",
                (encounter_id, form, operator_id),
            )

        return remove

    def discard(self, encounter_id: str, form: str, operator_id: str | None) -> None:
        """Throw a draft away because its operator said so.

        Raises:
            NotSavedError: It is still there.
        """
        self._store.note("draft-discarded", operator_id, also=self.removal(encounter_id, form, operator_id))

    def _subject_of(self, encounter_id: str) -> str:
        # By the clear column: typing must go on while locked. `open` compares with the sealed one's binding.
        return self._store.clear_parent(EncounterContent, encounter_id, "subject_id")

    def _row(self, encounter_id: str, form: str, operator_id: str | None) -> tuple[str, int] | None:
        rows = select_rows(self._store.saver.connection, DraftContent, "encounter_id", encounter_id)
        found = [row for row in rows if row.parents["form"] == form and row.operator_id == operator_id]
        return (found[0].record_id, found[0].revision) if found else None

    def _is_readable(self, encounter_id: str, form: str, operator_id: str | None) -> bool:
        try:
            self.open(encounter_id, form, operator_id)
        except LockedError:
            return False
        return True
