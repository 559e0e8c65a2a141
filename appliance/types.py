"""The clinic's things as frozen values, named as DICOM and FHIR name them.

It holds what this release uses: a frame, a captured image and the encounter it belongs to. Subject, consent, lesion and
report come with the records.
Source: DICOM PS3.3 C.8.12.13 (Dermoscopic Photography), FHIR R4 Encounter.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

MediaType = Literal["image/jpeg", "image/png"]
Modality = Literal["XC", "DMS"]
"""DICOM (0008,0060): XC, external-camera photography; DMS, dermoscopy."""

ShotKind = Literal["overview", "close_up", "dermoscopic_polarized", "dermoscopic_non_polarized", "lateral"]
"""Which view of a lesion a photo is: a wanted shot of the list."""
Light = Literal["white", "polarized"]
"""What the dermatoscope's ring gives."""
RetakeReason = Literal["not_sharp", "wrong_place", "bad_light", "other"]
"""Why a photo was taken again; the earlier one stays kept."""

KeepReason = Literal["patient_moves", "cannot_be_better", "shows_enough", "no_time"]
"""Why a photo was kept although its quality is poor."""

_SIGNATURES: Final[dict[MediaType, bytes]] = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
"""Source: ITU-T T.81, B.1.1.3 (SOI and a marker); ISO/IEC 15948, 5.2."""
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One camera image in memory, encoded as the camera sent it."""

    content: bytes = field(repr=False)
    media_type: MediaType
    sequence: int
    """Grows by at least one a frame; the repeat of a frozen frame keeps its number."""
    captured_s: float
    """When the camera took it, on the monotonic clock."""
    modality: Modality = "XC"
    """What kind of camera took it."""

    def __post_init__(self) -> None:
        if not self.content.startswith(_SIGNATURES[self.media_type]):
            raise ValueError(f"the frame is not {self.media_type}")
        if self.sequence < 0:
            raise ValueError("a frame's sequence counts from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encounter:
    """One visit, open while it is on the screen."""

    encounter_id: str
    """32 hexadecimal digits, random."""
    opened_at: datetime

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.encounter_id):
            raise ValueError("an encounter's id is 32 hexadecimal digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedImage:
    """A kept frame: its bytes are the camera's and are never recompressed."""

    capture_id: str
    """32 hexadecimal digits, random."""
    encounter_id: str
    content: bytes = field(repr=False)
    media_type: MediaType
    sha256: str
    modality: Modality = "XC"
    captured_at: datetime
    quality: str | None = None
    """Message key of what its quality was said to be; None where it was not measured."""
    keep_reason: KeepReason | None = None
    """Why it was kept although poor."""
    shot: ShotKind | None = None
    """Which shot of the list it is; None for a photo beside the list."""
    retake_reason: RetakeReason | None = None
    """Why the shot's photo before it did not do; None when it is the first."""
    light: Light | None = None
    """What the dermatoscope confirmed to shine before and after the exposure; None where nobody knows."""

    def __post_init__(self) -> None:
        if hashlib.sha256(self.content).hexdigest() != self.sha256:
            raise ValueError("the captured image's digest is not that of its bytes")


def keep_reason_of(code: str) -> KeepReason | None:
    """Return the reason of a code; None for the empty one and for one that a later release wrote."""
    return next((reason for reason in get_args(KeepReason) if reason == code), None)


def shot_kind_of(code: str) -> ShotKind | None:
    """Return the shot of a code; None for the empty one and for one that a later release wrote."""
    return next((kind for kind in get_args(ShotKind) if kind == code), None)


def retake_reason_of(code: str) -> RetakeReason | None:
    """Return the reason of a code; None for the empty one and for one that a later release wrote."""
    return next((reason for reason in get_args(RetakeReason) if reason == code), None)


def light_of(code: str) -> Light | None:
    """Return the light of a code; None for the empty one and for one that a later release wrote."""
    return next((light for light in get_args(Light) if light == code), None)


def media_type_of(content: bytes) -> MediaType | None:
    """Tell JPEG and PNG by their first bytes; None for anything else."""
    for media_type, signature in _SIGNATURES.items():
        if content.startswith(signature):
            return media_type
    return None
