"""What the tests of the records share: a box that is set up, its secrets, and drawn visits to put into it."""

import atexit
import functools
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from manual_clock import ManualClock

from appliance.clock import Clock
from appliance.records.clinic_key import PhraseKey, SheetKey
from appliance.records.content import (
    AssessmentContent,
    CapturedImageContent,
    EncounterContent,
    NurseImpressionContent,
    SubjectContent,
)
from appliance.records.database import Durability
from appliance.records.door import Door
from appliance.records.erasing import erase_subject, plan_erasure
from appliance.records.opening import open_records
from appliance.records.saving import Saved
from appliance.records.setup import SetUp, SetUpAnswers, complete, prepare
from appliance.records.store import RecordStore, new_id
from appliance.records.users import User, select_users

LEAD_PIN = "482915"
NAME = "Nomvula Dlamini"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A station's records in a test, unlocked unless it says otherwise."""

    folder: Path
    store: RecordStore
    made: SetUp
    lead: User
    clock: ManualClock

    def phrase(self) -> PhraseKey:
        return PhraseKey(self.made.phrase)

    def sheet(self) -> SheetKey:
        """Opens as the phrase does, without its 0.2 s."""
        return SheetKey(self.made.sheets[0])

    def reopen(
        self, *, is_unlocked: bool = True, durability: Durability | None = None, door: Door | None = None
    ) -> "Box":
        """Start the station anew on the same folder, as after a power cut."""
        self.store.close()
        return open_box(
            self.folder, self.made, clock=self.clock, is_unlocked=is_unlocked, durability=durability, door=door
        )


def new_box(folder: Path, *, door: Door | None = None, durability: Durability | None = None) -> Box:
    """Give the folder a box that was set up before; setting up takes half a second."""
    template, made = _template()
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return open_box(folder, made, clock=ManualClock(), door=door, durability=durability)


def open_box(
    folder: Path,
    made: SetUp,
    *,
    clock: ManualClock | None = None,
    is_unlocked: bool = True,
    door: Door | None = None,
    durability: Durability | None = None,
) -> Box:
    used = clock or ManualClock()
    opening = open_records(folder, clock=used, door=door, durability=durability, ballast_bytes=0)
    assert opening.store is not None, opening
    return box_of(opening.store, made, used, is_unlocked=is_unlocked)


def box_of(store: RecordStore, made: SetUp, clock: ManualClock, *, is_unlocked: bool = True) -> Box:
    if is_unlocked:
        store.unlock(SheetKey(made.sheets[0]))
    lead = next(user for user in select_users(store.saver.connection) if user.role == "lead")
    return Box(folder=store.folder, store=store, made=made, lead=lead, clock=clock)


@functools.cache
def _template() -> tuple[Path, SetUp]:
    folder, made = Path(tempfile.mkdtemp(prefix="dermstation-box-")), prepare()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    set_up(folder, made).close()
    return folder, made


def set_up(folder: Path, made: SetUp, clock: Clock | None = None, door: Door | None = None) -> RecordStore:
    """Answer the first-run screens."""
    answers = SetUpAnswers(
        clinic_name="Kliniek",
        phrase=made.phrase,
        typed_sheets=made.sheets,
        lead_name="Sister Asha",
        lead_pin=LEAD_PIN,
    )
    return complete(folder, made, answers, clock=clock or ManualClock(), door=door)


def photo(mark: str, size: int = 2_000) -> bytes:
    """Draw a JPEG's first bytes, and a mark to find it by."""
    return b"\xff\xd8\xff" + mark.encode().ljust(size, b".")


def described(content: bytes) -> CapturedImageContent:
    return CapturedImageContent(
        media_type="image/jpeg",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        captured_at="2026-11-22T08:00:00+00:00",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """Ids of a visit that was put in."""

    subject_id: str
    encounter_id: str
    capture_id: str
    content: bytes


def visit(box: Box, mark: str, *, size: int = 2_000) -> Visited:
    """Save a subject, a visit and its photo, in one save."""
    subject_id, encounter_id, capture_id = new_id(), new_id(), new_id()
    content = photo(mark, size)
    subject = SubjectContent(pseudonym=f"P-{mark}", name=f"{NAME} {mark}", local_number=f"N-{mark}", birth_year=1980)
    box.store.add_all(
        [
            (subject, subject_id, {}, None),
            (EncounterContent(reason=f"reason {mark}"), encounter_id, {"subject_id": subject_id}, None),
            (described(content), capture_id, {"encounter_id": encounter_id}, content),
        ],
        box.lead.user_id,
    )
    return Visited(subject_id=subject_id, encounter_id=encounter_id, capture_id=capture_id, content=content)


def erase(box: Box, subject_id: str, witness: User, *, lead: User | None = None) -> Saved:
    """Erase somebody as two people at the screen do: by the plan that they saw."""
    plan = plan_erasure(box.store, subject_id)
    return erase_subject(box.store, subject_id, lead or box.lead, witness, reason="asked-for", digest=plan.digest)


def assess(box: Box, encounter_id: str, words: str) -> None:
    """Save the nurse's impression, then the model's assessment."""
    box.store.add(NurseImpressionContent(words=words), box.lead.user_id, encounter_id=encounter_id)
    box.store.add(
        AssessmentContent(statement={"seen": words}, raw_text=words, model="demo"),
        None,
        encounter_id=encounter_id,
    )
