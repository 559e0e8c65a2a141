"""What is asked to be written, and the refusal of what no screen should ask for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from appliance.records.content import CapturedImageContent, Content
from appliance.records.rows import Record

C = TypeVar("C", bound=Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One record to write: new, or the next revision of one."""

    content: Content
    record_id: str
    parents: Mapping[str, str | None] = field(default_factory=dict)
    revision: int = 1
    photo: bytes | None = field(default=None, repr=False)
    """Original bytes of a captured image."""


def next_revision(record: Record[C], content: C, **parents: str | None) -> Write:
    """Return what says a record anew; a parent that is named is changed too."""
    return Write(
        content=content,
        record_id=record.record_id,
        parents={**record.parents, **parents},
        revision=record.revision + 1,
    )


def checked(write: Write) -> Write:
    """Refuse what no screen should ask for, before anything is written.

    Raises:
        ValueError: A parent is missing or unknown, a photo is not as described, or a field is out of its range.
    """
    content = write.content
    unknown = set(write.parents) - set(content.PARENTS)
    if unknown or (content.PARENTS and not write.parents.get(content.PARENTS[0])):
        raise ValueError(f"a {content.TABLE} belongs to {', '.join(content.PARENTS) or 'nothing'}")
    # msgspec checks ranges only when it decodes.
    msgspec.json.decode(msgspec.json.encode(content), type=type(content))
    is_photo = isinstance(content, CapturedImageContent)
    if (write.photo is not None) != (is_photo and write.revision == 1):
        raise ValueError("a photo's bytes come with its first description, and with nothing else")
    if isinstance(content, CapturedImageContent) and write.photo is not None:
        found = (hashlib.sha256(write.photo).hexdigest(), len(write.photo))
        if found != (content.sha256, content.size_bytes):
            raise ValueError("a photo's bytes are not as its description says")
    return write
