"""Finding a subject or a visit: an index in memory, made after unlock, gone at lock; the disk holds nothing of it.

One linear search over all folded text: for a clinic's lifetime of visits nothing cleverer is needed (figures in
DESIGN.md).
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from appliance.records.content import SubjectContent
from appliance.records.rows import Record

HITS_MAX: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One encounter of a subject, as the clear columns tell it."""

    encounter_id: str
    subject_id: str
    sequence: int
    recorded_at: str
    is_date_confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A subject that was found, with its visits, the newest first."""

    subject_id: str
    subject: SubjectContent
    visits: tuple[Visit, ...]


class _Page:
    """All texts under one another, so that one call of `str.find` reads them."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self.ids: list[str] = []
        self.starts = [0]
        lines = []
        for subject_id, text in texts:
            self.ids.append(subject_id)
            lines.append(text)
            self.starts.append(self.starts[-1] + len(text) + 1)
        self.text = "\n".join([*lines, ""])

    def holding(self, word: str) -> Iterator[str]:
        """Yield the subjects whose text holds a word, in their order."""
        at = 0
        while (at := self.text.find(word, at)) >= 0:
            line = bisect_right(self.starts, at) - 1
            if line == len(self.ids):
                break
            yield self.ids[line]
            at = self.starts[line + 1]


class SearchIndex:
    """Subjects by what is written of them; not thread-safe: the store's lock covers it."""

    def __init__(self) -> None:
        self._subjects: dict[str, SubjectContent] = {}
        self._texts: dict[str, str] = {}
        """In the order in which they came last, so that a search may stop at its limit."""
        self._page: _Page | None = None
        """Made at the first search after a change."""
        self._numbers: dict[str, str] = {}
        self._visits: dict[str, dict[str, Visit]] = {}
        self._subject_of: dict[str, str] = {}

    def __len__(self) -> int:
        """Count the visits."""
        return len(self._subject_of)

    def clear(self) -> None:
        """Forget everything."""
        self._page = None
        for held in (self._subjects, self._texts, self._numbers, self._visits, self._subject_of):
            held.clear()

    def rebuild(self, subjects: Iterable[Record[SubjectContent]], visits: Iterable[Visit]) -> None:
        """Take everything anew; visits in the order in which they came."""
        self.clear()
        for record in subjects:
            self.put_subject(record.record_id, record.content)
        for visit in visits:
            self.put_visit(visit)

    def put_subject(self, subject_id: str, content: SubjectContent) -> None:
        """Take a new or changed subject."""
        words = (content.local_number, content.name, content.pseudonym, content.contact, content.birth_year)
        self._page = None
        self._subjects[subject_id] = content
        self._numbers[subject_id] = folded(content.local_number or "")
        self._texts[subject_id] = folded(" ".join(str(word) for word in words if word is not None))

    def put_visit(self, visit: Visit) -> None:
        """Take a new visit, or one that was moved to another subject."""
        self._page = None
        before = self._subject_of.get(visit.encounter_id)
        if before is not None and before != visit.subject_id:
            del self._visits[before][visit.encounter_id]
        self._subject_of[visit.encounter_id] = visit.subject_id
        self._visits.setdefault(visit.subject_id, {})[visit.encounter_id] = visit
        if visit.subject_id in self._texts:
            self._texts[visit.subject_id] = self._texts.pop(visit.subject_id)

    def drop_subject(self, subject_id: str) -> None:
        """Forget a subject and its visits."""
        self._page = None
        for encounter_id in self._visits.pop(subject_id, {}):
            del self._subject_of[encounter_id]
        for held in (self._subjects, self._texts, self._numbers):
            held.pop(subject_id, None)

    def find(self, text: str = "", limit: int = HITS_MAX) -> tuple[Hit, ...]:
        """Find subjects that have every typed word in number, name, pseudonym, contact or birth year.

        Returns:
            Those who came last first; without a word, all of them, up to the limit.
        """
        if self._page is None:
            self._page = _Page(reversed(self._texts.items()))
        words, found = folded(text).split(), []
        rarest = min(words, key=self._page.text.count, default="")
        for subject_id in self._page.holding(rarest):
            if all(word in self._texts[subject_id] for word in words):
                found.append(self._hit(subject_id))
                if len(found) == limit:
                    break
        return tuple(found)

    def of_number(self, local_number: str) -> tuple[Hit, ...]:
        """Find the subjects with exactly this local number."""
        wanted = folded(local_number)
        found = [subject_id for subject_id, number in self._numbers.items() if number == wanted and wanted]
        return tuple(self._hit(subject_id) for subject_id in found)

    def _hit(self, subject_id: str) -> Hit:
        visits = sorted(self._visits.get(subject_id, {}).values(), key=lambda visit: visit.sequence, reverse=True)
        return Hit(subject_id=subject_id, subject=self._subjects[subject_id], visits=tuple(visits))


def folded(text: str) -> str:
    """Return text as it is compared: compatible forms, case and accents folded."""
    parts = unicodedata.normalize("NFKD", text).casefold()
    return "".join(char for char in parts if not unicodedata.combining(char))
