"""Where on the body a lesion is: a short list by region, coded, that a nurse finds with two touches.

Where the list is finer than SNOMED CT's code, the code is the wider one and the words say the rest.
Source: DICOM PS3.16, CID 4029 "Dermatology Anatomic Site" (SNOMED CT); shoulder: HL7 value sets of SNOMED CT.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySite:
    """One place on the body."""

    key: str
    """Fixed word for forms and settings."""
    words: str
    code: str
    """SNOMED CT concept id of the skin there."""
    display: str
    """SNOMED CT's words for the code."""
    is_paired: bool = True
    """Whether there is one on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the body and its places."""

    key: str
    words: str
    sites: tuple[BodySite, ...]


def _site(key: str, words: str, code: str, display: str, *, is_paired: bool = True) -> BodySite:
    return BodySite(key=key, words=words, code=code, display=display, is_paired=is_paired)


REGIONS: Final = (
    Region(key="head", words="Head", sites=(
        _site("scalp", "Scalp", "43067004", "Skin of scalp", is_paired=False),
        _site("forehead", "Forehead", "68698007", "Skin of forehead", is_paired=False),
        _site("temple", "Temple", "16621002", "Skin of temporal region"),
        _site("ear", "Ear", "1902009", "Skin of ear"),
        _site("eyelid", "Eyelid", "362916000", "Skin of eye region"),
    )),
    Region(key="face", words="Face, neck", sites=(
        _site("nose", "Nose", "113179006", "Skin of nose", is_paired=False),
        _site("cheek", "Cheek", "36141000", "Skin of cheek"),
        _site("lip", "Lip", "88089004", "Skin of lip", is_paired=False),
        _site("chin", "Chin", "23747009", "Skin of chin", is_paired=False),
        _site("mouth", "Inside mouth", "113277000", "Oral mucosa", is_paired=False),
        _site("neck", "Neck", "43081002", "Skin of neck", is_paired=False),
    )),
    Region(key="front", words="Chest, belly", sites=(
        _site("chest", "Chest", "74160004", "Skin of chest", is_paired=False),
        _site("breast", "Breast", "74160004", "Skin of chest"),
        _site("belly", "Belly", "75093004", "Skin of abdomen", is_paired=False),
        _site("navel", "Navel", "315003", "Skin of umbilicus", is_paired=False),
        _site("groin", "Groin", "39687006", "Skin of inguinal region"),
        _site("genital", "Genital area", "60944009", "Skin of external genitalia", is_paired=False),
    )),
    Region(key="back", words="Back, buttock", sites=(
        _site("upper-back", "Upper back", "244111001", "Skin of posterior surface of thorax", is_paired=False),
        _site("lower-back", "Lower back", "113182001", "Skin of lower back", is_paired=False),
        _site("buttock", "Buttock", "22180002", "Skin of buttock"),
    )),
    Region(key="arm", words="Shoulder, arm", sites=(
        _site("shoulder", "Shoulder", "76552005", "Skin structure of shoulder"),
        _site("armpit", "Armpit", "76261009", "Skin of axilla"),
        _site("upper-arm-front", "Upper arm, front", "45981001", "Skin of anterior surface of upper arm"),
        _site("upper-arm-back", "Upper arm, back", "72939005", "Skin of posterior surface of upper arm"),
        _site("forearm-front", "Forearm, inner", "70559009", "Skin of anterior surface of forearm"),
        _site("forearm-back", "Forearm, outer", "41550009", "Skin of posterior surface of forearm"),
    )),
    Region(key="hand", words="Hand", sites=(
        _site("palm", "Palm", "70887009", "Skin of palm of hand"),
        _site("hand-back", "Back of hand", "281642007", "Skin of part of dorsal surface of hand"),
        _site("finger", "Finger", "244169007", "Skin of digit of hand"),
        _site("fingernail", "Fingernail", "770809003", "Nail unit of finger"),
    )),
    Region(key="leg", words="Leg", sites=(
        _site("thigh-front", "Thigh, front", "61248009", "Skin of anterior surface of thigh"),
        _site("thigh-back", "Thigh, back", "4578000", "Skin of posterior surface of thigh"),
        _site("knee", "Knee, front", "181553006", "Skin of anterior surface of knee"),
        _site("shin", "Shin", "25763004", "Skin of anterior surface of lower leg"),
        _site("calf", "Calf", "47224004", "Skin of posterior surface of lower leg"),
        _site("ankle", "Ankle", "371304004", "Skin of lower extremity"),
    )),
    Region(key="foot", words="Foot", sites=(
        _site("sole", "Sole", "60496002", "Skin of foot"),
        _site("heel", "Heel", "84607009", "Skin of heel"),
        _site("foot-top", "Top of foot", "60496002", "Skin of foot"),
        _site("toe", "Toe", "52034004", "Skin of toe"),
        _site("toenail", "Toenail", "770805009", "Nail unit of toe"),
    )),
)  # fmt: skip


def all_sites() -> Iterator[BodySite]:
    """Yield every place, region by region."""
    for region in REGIONS:
        yield from region.sites


def site_of(key: str) -> BodySite | None:
    """Return the place of a key; None when there is none."""
    return next((site for site in all_sites() if site.key == key), None)
