"""Who a subject is, in the few words that stand on every screen of a visit; and what they agreed to.

Everything here copes with locked records: then it says that somebody is there, and not who.
"""

from dataclasses import dataclass

from appliance.records.consent import tiers_of
from appliance.records.content import ConsentContent, ConsentTier, SubjectContent
from appliance.records.errors import LockedError
from appliance.records.store import RecordStore

NOT_NAMED = "Not named yet"
LOCKED_WORDS = "Shown after the phrase"
_SEX_WORDS = {"female": "female", "male": "male", "other": "other sex", "unknown": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A subject in words."""

    subject_id: str | None
    title: str
    """The clinic's number, else the name, else the pseudonym."""
    details: tuple[str, ...] = ()
    """Name, year of birth, sex: what tells one person from another."""
    is_named: bool = False


def person_of(store: RecordStore, subject_id: str | None) -> Person:
    """Tell who a subject is, as far as that was said and can be read now."""
    if subject_id is None:
        return Person(subject_id=None, title=NOT_NAMED)
    try:
        return in_words(subject_id, store.get(SubjectContent, subject_id).content)
    except LockedError:
        return Person(subject_id=subject_id, title="Patient", details=(LOCKED_WORDS,))


def in_words(subject_id: str, content: SubjectContent) -> Person:
    """Put what is known of a subject into words."""
    number = f"No. {content.local_number}" if content.local_number else None
    born = f"born {content.birth_year}" if content.birth_year else None
    known = [word for word in (number, content.name, born, _SEX_WORDS[content.sex]) if word]
    if not is_named(content):
        known = [NOT_NAMED, content.pseudonym, *known]
    elif not (content.local_number or content.name):
        known.insert(0, content.pseudonym)
    return Person(subject_id=subject_id, title=known[0], details=tuple(known[1:]), is_named=is_named(content))


def is_named(content: SubjectContent) -> bool:
    """Whether anything tells who it is."""
    return bool(content.local_number or content.name or content.birth_year)


def consent_of(store: RecordStore, subject_id: str) -> frozenset[ConsentTier] | None:
    """Return what a subject agreed to; None when it was never asked, or cannot be read while locked."""
    if not store.clear_rows(ConsentContent, subject_id=subject_id):
        return None
    try:
        return tiers_of(store, subject_id)
    except LockedError:
        return None
