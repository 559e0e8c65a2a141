"""Erasing at the screen: a lead proposes, somebody else confirms with their own PIN, and only then it is done.

A proposal lives in memory, in its lead's session and for five minutes; it names the plan that both were shown. What is
erased, and how, is `records.erasing`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, get_args

from appliance.records.content import SubjectContent
from appliance.records.erasing import ErasurePlan, Reason, erase_subject, plan_erasure
from appliance.records.errors import ForbiddenError, LockedError, NotSavedError
from appliance.records.looking import note_read
from appliance.records.people import People
from appliance.records.saving import Saved
from appliance.records.users import User
from appliance.service.clinic import HOME, Clinic
from appliance.service.errors import NotFoundError
from appliance.service.person import Person, in_words
from appliance.service.visits import Visits

PROPOSAL_S: Final = 300.0
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
_OVER: Final = "This was proposed too long ago, or in another session; nothing was erased. The lead proposes it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a lead proposed, and when and in which session."""

    subject_id: str
    reason: Reason
    digest: str
    lead_id: str
    session_number: int
    at_s: float


class Erasures:
    """The proposal at the screen; any thread may call."""

    def __init__(self, clinic: Clinic, visits: Visits, on_screen: Callable[[], str | None]) -> None:
        """Take who is at the screen, the visits, and what tells the id of the visit on the screen."""
        self._clinic = clinic
        self._visits = visits
        self._on_screen = on_screen
        self._proposal: Proposal | None = None
        self._lock = threading.Lock()

    def plan(self, subject_id: str) -> tuple[Person, ErasurePlan]:
        """Open who it is, noted as looked at, and say what would go.

        Raises:
            LockedError: The records are locked: nobody could say who it is.
            MissingError: There is no such patient, or not any more.
        """
        store = self._clinic.records()
        subject = store.get(SubjectContent, subject_id).content
        note_read(store, self._visits.operator(), SubjectContent, [subject_id])
        return in_words(subject_id, subject), plan_erasure(store, subject_id)

    def witnesses(self) -> tuple[User, ...]:
        """Return who may confirm what the lead at the screen proposes."""
        lead = self._clinic.user
        return tuple(
            user
            for user in self._people().users()
            if user.may("witness") and lead is not None and user.user_id != lead.user_id
        )

    def propose(self, subject_id: str, reason: Reason, digest: str) -> None:
        """Put a plan to a second person, in place of one that was proposed before.

        Raises:
            ForbiddenError, SignedOutError: Nobody is at the screen who may.
            LockedError, MissingError: As `plan`.
            NotSavedError: The plan is not what it was, or the patient's visit is on the screen.
        """
        lead = self._clinic.require("erase")
        store = self._clinic.records()
        store.get(SubjectContent, subject_id)
        if plan_erasure(store, subject_id).digest != digest:
            raise NotSavedError("Something was added for this patient meanwhile. Look again.")
        self._refuse_on_screen(subject_id)
        with self._lock:
            self._proposal = Proposal(
                subject_id=subject_id,
                reason=reason,
                digest=digest,
                lead_id=lead.user_id,
                session_number=self._clinic.session_number,
                at_s=self._clinic.clock.monotonic_s(),
            )

    def proposal(self, subject_id: str) -> Proposal:
        """Return what is proposed for a patient.

        Raises:
            NotFoundError: Nothing is, or not any more.
        """
        lead, now_s = self._clinic.user, self._clinic.clock.monotonic_s()
        with self._lock:
            found = self._proposal
        if (
            found is None
            or lead is None
            or (found.subject_id, found.lead_id) != (subject_id, lead.user_id)
            or found.session_number != self._clinic.session_number
            or not 0 <= now_s - found.at_s <= PROPOSAL_S
        ):
            raise NotFoundError(_OVER)
        return found

    def withdraw(self) -> None:
        """Let go of what was proposed."""
        with self._lock:
            self._proposal = None

    def confirm(self, subject_id: str, user_id: str, pin: str) -> Saved:
        """Compare the second person's PIN, and erase.

        Raises:
            NotFoundError: Nothing is proposed any more.
            ForbiddenError: It is the same person, or somebody whose role does not allow it; no PIN was compared.
            ThrottledError, WrongSecretError: As `People.confirm`.
            MissingError: The patient is gone already.
            NotSavedError: Nothing was erased, for the reason that the sentence says.
        """
        proposal = self.proposal(subject_id)
        lead, people = self._clinic.require("erase"), self._people()
        if user_id == lead.user_id:
            raise ForbiddenError("Erasing takes two people; somebody else must confirm it.")
        people.user(user_id).require("witness")
        self._refuse_on_screen(subject_id)
        witness = people.confirm(user_id, pin)
        # Photos wait meanwhile: none is kept for a visit that goes.
        with self._visits.photos.lock:
            proposal, lead = self.proposal(subject_id), self._clinic.require("erase")
            self._refuse_on_screen(subject_id)
            saved = erase_subject(
                self._clinic.records(), subject_id, lead, witness, reason=proposal.reason, digest=proposal.digest
            )
        self.withdraw()
        self._visits.thumbnails.forget()
        # Whoever unlocks the screen does not come back to somebody who is gone.
        self._clinic.page = HOME
        return saved

    def _refuse_on_screen(self, subject_id: str) -> None:
        shown = self._on_screen()
        if shown is not None and self._visits.photos.subject_of(shown) == subject_id:
            raise NotSavedError("This patient's visit is open on the screen, so nothing was erased. Close it first.")

    def _people(self) -> People:
        if self._clinic.people is None:
            raise LockedError("There are no users on this box yet.")
        return self._clinic.people
