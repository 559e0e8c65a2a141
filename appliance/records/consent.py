"""What may leave the box: the subject's newest consent decides, tier by tier; nothing asked for is not nothing agreed.

It filters; who exports, and in which form, is elsewhere.
Source: ISIC and ACD/UQ guidance on consent for secondary use, `DESIGN.md`, "Consent".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.records.content import ConsentContent, ConsentTier, EncounterContent, SubjectContent
from appliance.records.errors import ForbiddenError
from appliance.records.rows import Record
from appliance.records.store import RecordStore
from appliance.records.users import User

IDENTIFYING: Final[frozenset[ConsentTier]] = frozenset({"care", "referral"})
"""Tiers under which the name goes along; the others get the pseudonym and a five-year band of age."""
AGE_BAND_YEARS: Final = 5
AGE_BAND_MAX: Final = 85
"""ISIC's metadata: bands of five years, capped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exportable:
    """A visit that may go out, with as much of its subject as the tier lets through."""

    encounter: Record[EncounterContent]
    subject: SubjectContent
    age_band: int | None
    """Lower end in years, at the visit; None where the birth year or the date is not known."""


def tiers_of(store: RecordStore, subject_id: str) -> frozenset[ConsentTier]:
    """Return what the subject agrees to now: the newest consent, none without one.

    Raises:
        LockedError: The records are locked.
    """
    consents = store.of(ConsentContent, subject_id=subject_id)
    return consents[-1].content.tiers if consents else frozenset()


def exportable(
    store: RecordStore,
    tier: ConsentTier,
    lead: User,
    *,
    wanted: Callable[[Record[EncounterContent]], bool] = lambda _: True,
) -> tuple[Exportable, ...]:
    """Select the visits that may go out for a purpose, and note in the audit that they were selected.

    Args:
        store: The records, unlocked.
        tier: The purpose.
        lead: Who exports.
        wanted: Which visits to look at.

    Raises:
        ForbiddenError: The role does not allow exports.
        LockedError: The records are locked.
    """
    lead.require("export")
    found, objects = [], []
    for subject in store.all_readable(SubjectContent):
        if tier not in tiers_of(store, subject.record_id):
            continue
        for encounter in store.of(EncounterContent, subject_id=subject.record_id):
            if wanted(encounter):
                found.append(_exportable(subject.content, encounter, tier))
                objects.append(encounter.record_id)
    store.note("exported", lead.user_id, detail=" ".join([tier, *objects]))
    return tuple(found)


def require_tier(store: RecordStore, subject_id: str, tier: ConsentTier) -> None:
    """Insist on a consent before one visit goes out.

    Raises:
        ForbiddenError: The subject did not agree, or not any more.
        LockedError: The records are locked.
    """
    if tier not in tiers_of(store, subject_id):
        raise ForbiddenError(f"The patient did not agree to {tier}; ask first, and note the answer.")


def _exportable(subject: SubjectContent, encounter: Record[EncounterContent], tier: ConsentTier) -> Exportable:
    age = None
    if subject.birth_year is not None and encounter.is_date_confirmed:
        age = max(0, encounter.recorded_at.year - subject.birth_year)
    band = None if age is None else min(AGE_BAND_MAX, age - age % AGE_BAND_YEARS)
    if tier in IDENTIFYING:
        return Exportable(encounter=encounter, subject=subject, age_band=band)
    bare = SubjectContent(
        pseudonym=subject.pseudonym,
        sex=subject.sex,
        skin_tone_fitzpatrick=subject.skin_tone_fitzpatrick,
        skin_tone_monk=subject.skin_tone_monk,
    )
    return Exportable(encounter=encounter, subject=bare, age_band=band)
