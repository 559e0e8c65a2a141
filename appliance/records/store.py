"""The records, open: what a screen asks for, in the words of the clinic.

One object for the life of the process; every method may be called from any thread. Writing is `saving.py`, rows are
`rows.py`, keys are `keyring.py`, finding is `search.py`.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.records import audit, space
from appliance.records.clinic_key import OpenedSlot, WrappingKey, open_key, open_slots
from appliance.records.content import Content, EncounterContent, SubjectContent
from appliance.records.dating import Moment
from appliance.records.errors import DiskFullError, ReadOnlyError
from appliance.records.folder_lock import FolderLock
from appliance.records.reading import RecordReader
from appliance.records.rows import Record
from appliance.records.saving import Also, Saved, Saver
from appliance.records.search import HITS_MAX, Hit, SearchIndex, Visit
from appliance.records.write import Write, checked, next_revision

logger = logging.getLogger(__name__)
C = TypeVar("C", bound=Content)
ORIGIN_IDENTITY: Final = b"audit origin"


def new_id() -> str:
    """Return a record's id: 32 random hexadecimal digits."""
    return secrets.token_hex(16)


class RecordStore(RecordReader):
    """The clinic's records; a context manager that owns the folder, the database and the keys in memory."""

    def __init__(self, *, folder: Path, lock: FolderLock, saver: Saver, is_read_only: bool = False) -> None:
        super().__init__(saver)
        self.folder = folder
        self.is_read_only = is_read_only
        self.index = SearchIndex()
        """Under the saver's lock; screens use `find`."""
        self.damaged_subjects: tuple[str, ...] = ()
        """Ids of subjects that did not open at the last unlock; all others can be worked with."""
        self.ballast_bytes = 0
        """Room to set aside, also again; 0 sets none aside."""
        self.on_unlocked: Callable[[], None] = lambda: None
        """Called after each unlock."""
        self.backing_up = threading.Lock()
        """Held while a backup is written: nothing is erased meanwhile, for the stick would hold what is gone."""
        self._lock = lock
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lock, close the database and let the folder go."""
        with self.saver.lock:
            if not self._is_closed:
                self._is_closed = True
                self.saver.keyring.lock()
                self.index.clear()
                self.saver.connection.close()
                self._lock.close()

    # The morning unlock

    @property
    def is_unlocked(self) -> bool:
        """Whether records can be read; making new ones never needs it."""
        return self.saver.keyring.is_unlocked

    @property
    def has_failed(self) -> bool:
        """Whether the disk failed: the process must end, and its next start looks at what there is."""
        return self.saver.has_failed

    def unlock(self, secret: WrappingKey, operator_id: str | None = None) -> Saved | None:
        """Open the records with whatever opens them; takes up to a second, and the index's time.

        Returns:
            The receipt of its audit entry; None on a disk that is full or takes no writes, where reading must go on.

        Raises:
            WrongSecretError: It fits no slot.
            TamperedError: The key that this box seals to is not the clinic's.
        """
        held = tuple(one.slot for one in self.held_slots())
        opened = open_slots((*self.key_slots(), *held), secret)
        detail = f"{secret.kind} {opened.slot_id}" if secret.kind in {"fob", "tpm"} else secret.kind
        with self.saver.lock:
            self.saver.keyring.unlock(opened.private_key)
            damaged: list[str] = []
            self.index.rebuild(self.all_readable(SubjectContent, damaged), self.visits())
            self.damaged_subjects = tuple(damaged)
            saved = self._noted_if_possible("unlocked", operator_id, detail)
        self.on_unlocked()
        return saved

    def open_slot(self, secret: WrappingKey) -> OpenedSlot:
        """Open the clinic's private key without unlocking anything, as before a secret is changed.

        Raises:
            WrongSecretError: It is neither the phrase nor a sheet: a fob opens the records and changes no secret.
        """
        return open_slots(self.key_slots(), secret)

    def lock(self, operator_id: str | None = None) -> None:
        """Let go of every key and everything that was decrypted."""
        with self.saver.lock:
            was_unlocked = self.is_unlocked
            self.saver.keyring.lock()
            self.index.clear()
            if was_unlocked:
                self._noted_if_possible("locked", operator_id)

    def find(self, text: str = "", limit: int = HITS_MAX) -> tuple[Hit, ...]:
        """Find subjects by the words typed, those who came last first.

        Raises:
            LockedError: The records are locked.
        """
        with self.saver.lock:
            self.saver.keyring.require_unlocked()
            return self.index.find(text, limit)

    def find_number(self, local_number: str) -> tuple[Hit, ...]:
        """Find the subjects with exactly this local number.

        Raises:
            LockedError: The records are locked.
        """
        with self.saver.lock:
            self.saver.keyring.require_unlocked()
            return self.index.of_number(local_number)

    # Making and changing

    def add(
        self,
        content: Content,
        operator_id: str | None,
        *,
        subject_id: str | None = None,
        encounter_id: str | None = None,
        lesion_id: str | None = None,
        capture_id: str | None = None,
        record_id: str | None = None,
        photo: bytes | None = None,
    ) -> Saved:
        """Save a new record, locked or not.

        Args:
            content: What is sealed; its class says which table.
            operator_id: Who makes it; None for the station, or without a PIN in an emergency.
            subject_id: Whose it is, for what belongs to a subject.
            encounter_id: In which visit it was made, for what belongs to a visit.
            lesion_id: About which lesion, if any.
            capture_id: About which photo, if any.
            record_id: Instead of a new random one.
            photo: Original bytes, for a `CapturedImageContent`.

        Raises:
            NotSavedError: Nothing was kept, for the reason that its class and sentence say.
            OrderError: An assessment without an impression, or an impression after one.
        """
        given = {
            "subject_id": subject_id,
            "encounter_id": encounter_id,
            "lesion_id": lesion_id,
            "capture_id": capture_id,
        }
        parents = {name: value for name, value in given.items() if value is not None}
        return self.add_all([(content, record_id or new_id(), parents, photo)], operator_id)

    def add_all(
        self,
        records: Sequence[tuple[Content, str, Mapping[str, str | None], bytes | None]],
        operator_id: str | None,
        *,
        also: Also | None = None,
    ) -> Saved:
        """Save several new records at once, parents before children: all of them, or none.

        Args:
            records: Content, id, parents, photo of each.
            operator_id: Who makes them.
            also: Further statements of the same transaction; for the records' own modules.

        Raises:
            NotSavedError, OrderError: As `add`.
        """
        writes = [checked(Write(content=one[0], record_id=one[1], parents=one[2], photo=one[3])) for one in records]
        saved = self.saver.save("added", operator_id, writes, also=also)
        self._index(writes, saved)
        return saved

    def revise(
        self, record: Record[C], content: C, operator_id: str | None, *, also: Also | None = None, **parents: str | None
    ) -> Saved:
        """Save a record's next revision; the one before is kept. A parent that is named is changed too.

        Args:
            record: As it was opened.
            content: What it says now.
            operator_id: Who changes it.
            also: Further statements of the same transaction.
            parents: What it belongs to now, where that changes.

        Raises:
            NotSavedError: Nothing was changed; also when somebody else changed it meanwhile.
        """
        write = next_revision(record, content, **parents)
        return self.change_all("moved" if parents else "changed", operator_id, [write], also=also)

    def change_all(
        self, action: str, operator_id: str | None, writes: Sequence[Write], *, also: Also | None = None
    ) -> Saved:
        """Save several records and next revisions at once; raises as `revise`."""
        saved = self.saver.save(action, operator_id, [checked(write) for write in writes], also=also)
        self._index(writes, saved)
        return saved

    def note(
        self,
        action: str,
        operator_id: str | None,
        *,
        objects: Sequence[audit.ObjectState] = (),
        also: Also | None = None,
        detail: str = "",
    ) -> Saved:
        """Save an audit entry, with further statements of the same transaction.

        Raises:
            NotSavedError: Nothing was kept.
        """
        return self.saver.save(action, operator_id, also=also, objects=objects, detail=detail)

    # About the store itself

    def now(self) -> Moment:
        """Return the present and whether it can be believed."""
        with self.saver.lock:
            return self.saver.calendar.now()

    def confirm_date(self, operator_id: str | None) -> Saved:
        """Take the operator's word that the date on the screen is right."""
        with self.saver.lock:
            self.saver.calendar.confirm()
            return self.note("date-confirmed", operator_id)

    def space(self) -> space.Space:
        """Look how much room is left; where there is plenty, what was given back is set aside again."""
        if self.ballast_bytes:
            space.lay_ballast(self.folder, self.ballast_bytes)
        return space.look(self.folder)

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the key with which this box signs its backups."""
        return Ed25519PrivateKey.from_private_bytes(self.meta("signing_key"))

    def verify_audit(self, anchors: dict[int, bytes] | None = None) -> audit.Verdict:
        """Check the whole audit; its MACs too once the records are unlocked."""
        with self.saver.lock:
            origin = None
            if self.is_unlocked:
                origin = open_key(self.saver.keyring.private_key, self.meta("audit_origin"), ORIGIN_IDENTITY)
            return audit.verify(self.saver.connection, origin, anchors)

    def _noted_if_possible(self, action: str, operator_id: str | None, detail: str = "") -> Saved | None:
        try:
            return None if self.is_read_only else self.note(action, operator_id, detail=detail)
        except (DiskFullError, ReadOnlyError) as error:
            logger.warning("audit entry not written action=%s reason=%s", action, error)
            return None

    def _index(self, writes: Sequence[Write], saved: Saved) -> None:
        with self.saver.lock:
            if not self.is_unlocked:
                return
            for write in writes:
                if isinstance(write.content, SubjectContent):
                    self.index.put_subject(write.record_id, write.content)
                elif isinstance(write.content, EncounterContent):
                    visit = Visit(
                        encounter_id=write.record_id, subject_id=str(write.parents["subject_id"]),
                        sequence=saved.sequence, recorded_at=saved.recorded_at,
                        is_date_confirmed=saved.is_date_confirmed,
                    )  # fmt: skip
                    self.index.put_visit(visit)
