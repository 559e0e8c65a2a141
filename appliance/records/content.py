"""What is sealed in each record, field by field, and which table and key it belongs to.

Names are those of DICOM, FHIR and SNOMED CT where they have one. A field that a later version adds is ignored by this
one, and one that it lacks has a default: both versions read each other's records.
Source: minimum data set of store-and-forward teledermatology (ISIC consensus, JAMA Dermatol 2017; ACD/UQ guideline).
"""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from appliance.types import MediaType, Modality

Laterality = Literal["R", "L", "B", "U"]
"""DICOM ImageLaterality (0020,0062): right, left, both, unpaired."""
Sex = Literal["female", "male", "other", "unknown"]
"""FHIR AdministrativeGender."""
Urgency = Literal["emergency", "urgent", "routine", "monitor", "retake", "cannot-assess"]
ConsentTier = Literal["care", "referral", "teaching", "research"]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
Line = Annotated[str, msgspec.Meta(max_length=200)]
KeyOwner = Literal["subject", "encounter"]
AssessmentStatus = Literal["final", "cancelled", "failed", "unusable"]
"""Whole; ended by the nurse; ended by the engine or the photo; written to its end and no assessment."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all; class attributes say where a content lies."""

    TABLE: ClassVar[str]
    ID_COLUMN: ClassVar[str]
    PARENTS: ClassVar[tuple[str, ...]] = ()
    """Clear references, the required one first."""
    KEY_OWNER: ClassVar[KeyOwner] = "encounter"

    def __repr__(self) -> str:
        """Say which kind, never what: a repr ends in logs."""
        return f"<{type(self).__name__}>"


class SubjectContent(Content, frozen=True, kw_only=True):
    """The person imaged."""

    TABLE = "subject"
    ID_COLUMN = "subject_id"
    KEY_OWNER = "subject"

    pseudonym: Line
    """What exports and reports say instead of the name."""
    local_number: Line | None = None
    """The clinic's own number, as in its paper book."""
    name: Line | None = None
    birth_year: Annotated[int, msgspec.Meta(ge=1850, le=2200)] | None = None
    sex: Sex = "unknown"
    skin_tone_fitzpatrick: Annotated[int, msgspec.Meta(ge=1, le=6)] | None = None
    skin_tone_monk: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    contact: Line | None = None
    """For calling back."""


class LesionContent(Content, frozen=True, kw_only=True):
    """One lesion of a subject, the same at every visit."""

    TABLE = "lesion"
    ID_COLUMN = "lesion_id"
    PARENTS = ("subject_id",)
    KEY_OWNER = "subject"

    body_site_code: Annotated[str, msgspec.Meta(pattern=r"^\d{6,18}$")]
    """SNOMED CT concept id of the body structure."""
    body_site_display: Line
    laterality: Laterality = "U"
    tracking_uid: Annotated[str, msgspec.Meta(pattern=r"^[0-9.]{1,64}$")]
    """DICOM Tracking UID (0062,0021): links the lesion over visits and systems."""
    where: Text = ""


class ConsentContent(Content, frozen=True, kw_only=True):
    """What the subject agreed to; a newer one replaces it, an empty one withdraws all."""

    TABLE = "consent"
    ID_COLUMN = "consent_id"
    PARENTS = ("subject_id",)
    KEY_OWNER = "subject"

    tiers: frozenset[ConsentTier]
    given_by: Literal["subject", "guardian"] = "subject"
    how: Literal["spoken", "thumb", "signed"] = "spoken"
    language: Line = ""


class EncounterContent(Content, frozen=True, kw_only=True):
    """One visit."""

    TABLE = "encounter"
    ID_COLUMN = "encounter_id"
    PARENTS = ("subject_id",)

    reason: Text = ""
    history: Text = ""
    is_closed: bool = False
    is_unattended: bool = False
    """Made without a PIN in an emergency; a lead looks at it later."""


class CapturedImageContent(Content, frozen=True, kw_only=True):
    """A photo's description; its bytes lie in a sealed file of their own."""

    TABLE = "captured_image"
    ID_COLUMN = "capture_id"
    PARENTS = ("encounter_id", "lesion_id")

    media_type: MediaType
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    """Of the original bytes."""
    size_bytes: int
    modality: Modality = "XC"
    captured_at: str
    """UTC, ISO 8601, by the box's clock."""
    view: Line = ""
    """Code of the shot: overview, close_up, dermoscopic_polarized, dermoscopic_non_polarized, lateral; empty: none."""
    quality: Line = ""
    """Message key of what its quality was said to be at the shutter; empty where it was not measured."""
    keep_reason: Line = ""
    """Code of why it was kept although poor."""
    retake_reason: Line = ""
    """Code of why the photo of this view before it did not do."""
    light: Line = ""
    """white or polarized: what the dermatoscope confirmed; empty where nobody knows."""
    derived: dict[str, Text] = {}
    """What was measured of it, by name, as JSON (`imaging/findings.py`); the photo itself stays as it is."""
    acquisition: dict[str, str] = {}
    """DICOM (0016,1001)-(0016,1005) by keyword, as told by the device."""


class ChecklistAnswerContent(Content, frozen=True, kw_only=True):
    """One answer of a checklist."""

    TABLE = "checklist_answer"
    ID_COLUMN = "answer_id"
    PARENTS = ("encounter_id", "lesion_id")

    checklist: Line
    """Which one, with its version: "weighted-7-point/1"."""
    question: Line
    answer: Text


class NurseImpressionContent(Content, frozen=True, kw_only=True):
    """What the nurse thought before she saw the model's assessment."""

    TABLE = "nurse_impression"
    ID_COLUMN = "impression_id"
    PARENTS = ("encounter_id", "lesion_id")

    is_stated: bool = True
    """False when she would not say; then the assessment may be shown all the same."""
    urgency: Urgency | None = None
    words: Text = ""


class AssessmentContent(Content, frozen=True, kw_only=True):
    """What the model wrote about a photo, labelled as that: the assessment, or the answer to one question."""

    TABLE = "assessment"
    ID_COLUMN = "assessment_id"
    PARENTS = ("encounter_id", "lesion_id", "capture_id")

    statement: dict[str, Any]
    """Schema-valid JSON; empty for the answer to a question, and where `status` is not "final"."""
    raw_text: Annotated[str, msgspec.Meta(max_length=100_000)]
    """All that it wrote, however far it came."""
    status: AssessmentStatus = "final"
    question: Line = ""
    """What was asked; empty for the assessment itself."""
    capture_sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of the photo's original bytes, as the model was given them."""
    asked_by: Line = ""
    """Id of the user who asked; the row's own operator is the station."""
    told: Line = ""
    """The sentence with which it ended on the screen, where it is not "final"."""
    model: Line
    """Name and digest of the bundle."""
    providers: tuple[Line, ...] = ()
    """Execution providers that ran it, as `/health` names them: CPUExecutionProvider ..."""
    prompt_version: Line = ""
    floor_urgency: Urgency | None = None
    """What the rules alone said; the model cannot lower it."""


class DecisionContent(Content, frozen=True, kw_only=True):
    """What the nurse decided."""

    TABLE = "decision"
    ID_COLUMN = "decision_id"
    PARENTS = ("encounter_id", "lesion_id")

    urgency: Urgency
    plan: Text = ""
    agrees_with_model: bool | None = None
    reason: Text = ""


class ReportContent(Content, frozen=True, kw_only=True):
    """A report's canonical bytes, once made, never serialised again."""

    TABLE = "report"
    ID_COLUMN = "report_id"
    PARENTS = ("encounter_id",)

    payload: bytes
    envelope: bytes = b""
    """DSSE envelope when signed."""
    media_type: Line = "application/json"


class FollowUpContent(Content, frozen=True, kw_only=True):
    """When the subject should come again."""

    TABLE = "follow_up"
    ID_COLUMN = "follow_up_id"
    PARENTS = ("encounter_id", "lesion_id")

    due_on: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    reason: Text = ""
    is_done: bool = False


class OutcomeContent(Content, frozen=True, kw_only=True):
    """What it turned out to be."""

    TABLE = "outcome"
    ID_COLUMN = "outcome_id"
    PARENTS = ("encounter_id", "lesion_id")

    words: Text
    certainty: Literal["clinical", "dermoscopic", "histology", "unknown"] = "unknown"
    said_by: Line = ""


class DraftContent(Content, frozen=True, kw_only=True):
    """The fields of a form as far as they were typed."""

    TABLE = "draft"
    ID_COLUMN = "draft_id"
    PARENTS = ("encounter_id", "subject_id", "form")

    fields: dict[str, Text]


CONTENTS: Final[tuple[type[Content], ...]] = (
    SubjectContent,
    LesionContent,
    ConsentContent,
    EncounterContent,
    CapturedImageContent,
    ChecklistAnswerContent,
    NurseImpressionContent,
    AssessmentContent,
    DecisionContent,
    ReportContent,
    FollowUpContent,
    OutcomeContent,
    DraftContent,
)
"""Parents before children."""
CONTENT_OF_TABLE: Final[dict[str, type[Content]]] = {content.TABLE: content for content in CONTENTS}
