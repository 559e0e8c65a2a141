"""Which photos of a lesion are wanted, which are there, and which comes next: a value, without camera, clock or screen.

Source: ISIC consensus on views (Finnane 2017), NHS Devon (lateral if raised), DICOM (0016,1001) and (0016,1002).
"""

from dataclasses import dataclass, replace
from typing import Final, Self

from appliance.config import ShotsConfig
from appliance.types import Light, Modality, ShotKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One wanted view."""

    kind: ShotKind
    words: str
    hint: str
    modality: Modality
    light: Light | None = None
    """What the dermatoscope's ring has to give; None for the light of the room."""
    is_optional: bool = False


SHOTS: Final[dict[ShotKind, Shot]] = {
    shot.kind: shot
    for shot in (
        Shot(kind="overview", words="Overview", hint="showing where it is", modality="XC"),
        Shot(kind="close_up", words="Close, with scale", hint="with the card beside it", modality="XC"),
        Shot(
            kind="dermoscopic_polarized",
            words="Dermatoscope, polarised",
            hint="touching the skin",
            modality="DMS",
            light="polarized",
        ),
        Shot(
            kind="dermoscopic_non_polarized",
            words="Dermatoscope, white light",
            hint="with gel on the skin",
            modality="DMS",
            light="white",
        ),
        Shot(kind="lateral", words="From the side", hint="only if raised", modality="XC", is_optional=True),
    )
}
MODEL_SHOT: Final[ShotKind] = "close_up"
"""What the model is asked about if it is there: a view that every list has."""
_MODEL_ORDER: Final[tuple[ShotKind, ...]] = (
    MODEL_SHOT,
    "dermoscopic_polarized",
    "dermoscopic_non_polarized",
    "lateral",
    "overview",
)
_PAIR: Final[tuple[ShotKind, ShotKind]] = ("dermoscopic_polarized", "dermoscopic_non_polarized")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotList:
    """The wanted views of one lesion in their order, and what became of each."""

    kinds: tuple[ShotKind, ...]
    taken: tuple[tuple[ShotKind, str], ...] = ()
    """Kind and capture id, in the order they were taken; the last one of a kind is its photo."""
    skipped: frozenset[ShotKind] = frozenset()
    again: ShotKind | None = None
    """The one that is to be taken anew."""

    @classmethod
    def for_site(cls, config: ShotsConfig, body_site: str | None = None) -> Self:
        """Return the empty list of a body site, or the usual one."""
        return cls(kinds=config.sites.get(body_site or "", config.usual))

    @property
    def now(self) -> Shot | None:
        """The shot that the next press takes; None when all are done, then a photo belongs to no shot."""
        if self.again is not None:
            return SHOTS[self.again]
        done = {kind for kind, _ in self.taken} | self.skipped
        return next((SHOTS[kind] for kind in self.kinds if kind not in done), None)

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be taken any more: each shot has its photo or was skipped."""
        return self.now is None

    @property
    def is_complete(self) -> bool:
        """Whether every shot that is not optional has its photo."""
        done = {kind for kind, _ in self.taken}
        return all(kind in done or SHOTS[kind].is_optional for kind in self.kinds)

    def photo_of(self, kind: ShotKind) -> str | None:
        """Return the capture id of a shot's photo, the newest one; the others stay kept all the same."""
        return next((capture_id for taken, capture_id in reversed(self.taken) if taken == kind), None)

    @property
    def main_photo(self) -> str | None:
        """Return the capture id of the photo to be assessed; None while there is none."""
        photos = (self.photo_of(kind) for kind in _MODEL_ORDER)
        return next((photo for photo in photos if photo is not None), None)

    def series(self, *, has_light: bool) -> tuple[Shot, ...]:
        """Return the shots that one press takes.

        With a microcontroller the polarised and the white one are taken in one press, before the hand moves: only then
        can they be compared. Without one the light cannot be changed from here, so it is one by one.
        """
        now = self.now
        if now is None:
            return ()
        # One of them that is taken anew is taken alone.
        is_pair = has_light and now.kind == _PAIR[0] and self._open().issuperset(_PAIR)
        return tuple(SHOTS[kind] for kind in _PAIR) if is_pair else (now,)

    def with_photo(self, kind: ShotKind, capture_id: str) -> Self:
        """Return the list once a photo was kept for a shot.

        Raises:
            ValueError: The list does not have that shot.
        """
        self._require(kind)
        again = None if self.again == kind else self.again
        return replace(self, taken=(*self.taken, (kind, capture_id)), skipped=self.skipped - {kind}, again=again)

    def retaking(self, kind: ShotKind) -> Self:
        """Return the list with one shot to be taken anew, or for the first time after it was skipped.

        Raises:
            ValueError: The list does not have that shot.
        """
        self._require(kind)
        return replace(self, again=kind, skipped=self.skipped - {kind})

    def skipping(self) -> Self:
        """Return the list without the shot that comes now; a view that cannot be taken must not stop the visit."""
        now = self.now
        if now is None:
            return self
        if self.again is not None:
            return replace(self, again=None)
        return replace(self, skipped=self.skipped | {now.kind})

    def _open(self) -> frozenset[ShotKind]:
        return frozenset(self.kinds) - {kind for kind, _ in self.taken} - self.skipped

    def _require(self, kind: ShotKind) -> None:
        if kind not in self.kinds:
            raise ValueError(f"{kind} is not on this list")
