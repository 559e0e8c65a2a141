"""What is measured of kept photos: true to the card, compared with the visit before, and never in capture's way."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from card_scenes import MISSING, PDFTOPPM
from degraded_photos import photo
from kiosk_station import ManualClock
from numpy.typing import NDArray
from nurse_rig import card_picture, nurse_rig, overview_picture
from PIL import Image
from records_boxes import new_box
from test_imaging_registration import seen, skin_with_lesion

from appliance.config import ShotsConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import ImageError
from appliance.imaging.findings import CardFinding, ChangeFinding, card_finding, change_finding
from appliance.records.content import CapturedImageContent
from appliance.service.body_sites import site_of
from appliance.service.earlier import EarlierPhoto
from appliance.service.measuring import Comparison, Measuring
from appliance.service.measuring_words import NO_LESION, NOT_COMPARED, SAME, card_rows, change_rows, change_sentence
from appliance.service.record_captures import RecordCaptureStore
from appliance.service.record_derived import RecordDerived
from appliance.service.visits import Visits
from appliance.types import CapturedImage, ShotKind

needs_card = pytest.mark.skipif(PDFTOPPM is None, reason=MISSING)
ENCOUNTER = "e" * 32


def until(condition: Callable[[], bool]) -> None:
    """Wait for the process that stands back for everything else; a busy machine lets it wait long."""
    deadline_s = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def captured(content: bytes, shot: ShotKind = "close_up", number: int = 1) -> CapturedImage:
    return CapturedImage(
        capture_id=f"{number:032x}",
        encounter_id=ENCOUNTER,
        content=content,
        media_type="image/jpeg",
        sha256=sha256(content).hexdigest(),
        captured_at=ManualClock().now_at(),
        shot=shot,
    )


def earlier(content: bytes, shot: ShotKind = "close_up") -> EarlierPhoto:
    taken_at = datetime(2026, 5, 3, tzinfo=UTC)
    return EarlierPhoto(capture_id="f" * 32, content=content, media_type="image/jpeg", captured_at=taken_at, shot=shot)


def pixels_of(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


class Derived:
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def keep_derived(self, capture_id: str, name: str, value: str) -> None:
        self.kept[capture_id, name] = value


@pytest.fixture
def derived() -> Derived:
    return Derived()


@pytest.fixture
def measuring(derived: Derived) -> Iterator[Measuring]:
    with Measuring(lambda: None, derived) as measuring:
        yield measuring


@needs_card
def test_card_gives_diameter_with_its_error_and_the_colour_of_the_light() -> None:
    finding = card_finding(pixels_of(card_picture(7.0, 8.0)))
    assert finding is not None
    assert finding.long_diameter_mm is not None
    assert finding.off_by_mm is not None
    assert abs(finding.long_diameter_mm - 7.0) <= finding.off_by_mm <= 0.6
    rows = dict(card_rows(finding))
    assert rows["Longest"] == "7.0 mm, give or take 0.4 mm"
    assert rows["Light"].startswith("yellowish")
    assert card_finding(pixels_of(overview_picture())) is None


def test_change_by_card_is_told_only_beyond_its_error() -> None:
    def measured(long_mm: float) -> CardFinding:
        return CardFinding(
            px_per_mm=6, markers=3, long_diameter_mm=long_mm, short_diameter_mm=4, area_mm2=20, off_by_mm=0.05 * long_mm
        )

    def words(first: float, second: float) -> str:
        comparison = Comparison(earlier=earlier(b""), state="done", earlier_card=measured(first), card=measured(second))
        return dict(change_rows(comparison))["Longest"]

    assert SAME in words(7.0, 7.3)
    assert words(7.0, 8.5) == "7.0 mm then, 8.5 mm now: larger by 1.5 mm, give or take 0.6 mm"
    assert "smaller by" in words(8.5, 7.0)


@needs_card
def test_card_that_lies_in_both_photos_is_not_what_is_compared() -> None:
    finding = change_finding(pixels_of(card_picture(7.0, 8.0)), pixels_of(card_picture(6.0, 3.0)))
    assert finding is not None
    assert finding.area_ratio == pytest.approx((6.0 / 7.0) ** 2, rel=0.06)


@pytest.mark.parametrize("factor", [1, 2])
def test_map_between_photos_is_that_of_their_full_size(factor: int) -> None:
    skin = skin_with_lesion(60)
    (first, to_first), (second, to_second) = seen(skin), seen(skin, turn_deg=10, scale=0.95, shift=(12, -8), seed=1)
    size = (first.shape[1] * factor, first.shape[0] * factor)
    large = np.asarray(Image.fromarray(first).resize(size, Image.Resampling.BICUBIC))
    finding = change_finding(large, second)
    assert finding is not None
    a, b, x, c, d, y = finding.to_later
    for place in ((60.0, 60.0), (480.0, 60.0), (270.0, 340.0)):
        on_skin = np.linalg.solve(to_first[:, :2], np.array(place) - to_first[:, 2])
        wanted = to_second[:, :2] @ on_skin + to_second[:, 2]
        # A pixel's middle is a whole number in both sizes.
        at = (np.array(place) + 0.5) * factor - 0.5
        found = np.array([(a, b), (c, d)]) @ at + (x, y)
        assert np.linalg.norm(found - wanted) < 0.5


def test_same_skin_without_a_change_says_so_and_other_skin_is_not_compared() -> None:
    skin = skin_with_lesion(60)
    first, _ = seen(skin)
    second, _ = seen(skin, turn_deg=20, scale=1.1, gain=0.85, seed=1)
    change = change_finding(first, second)
    rows = dict(change_rows(Comparison(earlier=earlier(b""), state="done", change=change)))
    assert rows == {"Area": SAME, "Colour": SAME, "Border": SAME}
    other, _ = seen(np.ascontiguousarray(skin[::-1]), turn_deg=70)
    refused = Comparison(earlier=earlier(b""), state="done", change=change_finding(first, other))
    assert change_rows(refused) == []
    assert change_sentence(refused) == NOT_COMPARED


@pytest.mark.parametrize(("turn_deg", "scale"), [(15, 1.0), (170, 0.9)])
def test_lesion_that_grew_is_laid_over_by_the_skin_and_not_by_itself(turn_deg: float, scale: float) -> None:
    """Registration of the photos as they are lays both of these wrongly: the lesion is the strongest pattern."""
    first, _ = seen(skin_with_lesion(60))
    second, _ = seen(skin_with_lesion(75), turn_deg=turn_deg, scale=scale, seed=1)
    finding = change_finding(first, second)
    assert finding is not None
    assert finding.area_ratio == pytest.approx((75 / 60) ** 2, rel=0.06)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_other_skin_with_a_lesion_in_the_same_place_is_not_compared(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lesion alone would lie over another one: most of these are taken for the same by registration alone."""
    first, _ = seen(skin_with_lesion(60))
    pixels = np.asarray(photo())
    mirrored = pixels[::-1] if number % 2 else pixels[:, ::-1]  # no turn makes a mirrored skin the same
    other = np.roll(mirrored, (137 * (number + 1), 211 * (number + 1)), (0, 1))
    monkeypatch.setattr("test_imaging_registration.photo", lambda: Image.fromarray(other))
    second, _ = seen(skin_with_lesion(60), turn_deg=25.0 * number, seed=3)
    assert change_finding(first, second) is None


def test_lesion_that_does_not_stand_out_is_not_measured() -> None:
    change = ChangeFinding(to_later=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), skin_correlation=0.9)
    comparison = Comparison(earlier=earlier(b""), state="done", change=change)
    assert (change_rows(comparison), change_sentence(comparison)) == ([], NO_LESION)


def test_nothing_is_said_while_it_is_worked_on() -> None:
    working = Comparison(earlier=earlier(b""))
    assert (change_rows(working), change_sentence(working)) == ([], None)


@needs_card
def test_results_come_in_the_background_and_are_kept_beside_the_photo(measuring: Measuring, derived: Derived) -> None:
    image = captured(card_picture(7.0, 8.0))
    measuring.offer(image, earlier(card_picture(6.0, 3.0)))
    measuring.offer(image, None)
    assert measuring.knows(image.capture_id)
    until(lambda: measuring.card(image.capture_id) is not None)
    until(lambda: (found := measuring.comparison(image.capture_id)) is not None and found.state == "done")
    comparison = measuring.comparison(image.capture_id)
    assert comparison is not None
    assert comparison.earlier_card is not None
    assert "larger by" in dict(change_rows(comparison))["Longest"]
    assert [name for _, name in derived.kept] == ["card", f"change from {'f' * 32}"]
    assert '"long_diameter_mm"' in derived.kept[image.capture_id, "card"]


@needs_card
def test_balanced_picture_is_another_one_and_the_photo_stays(measuring: Measuring) -> None:
    image = captured(card_picture(7.0, 8.0))
    digest = image.sha256
    balanced = measuring.balanced(image)
    assert balanced != image.content
    assert sha256(image.content).hexdigest() == digest
    assert pixels_of(balanced).shape == pixels_of(image.content).shape
    with pytest.raises(ImageError, match="card is not seen"):
        measuring.balanced(captured(overview_picture()))


def test_unreadable_photo_costs_its_own_result_only(measuring: Measuring) -> None:
    measuring.offer(captured(b"\xff\xd8\xffnothing", number=1), earlier(overview_picture()))
    measuring.offer(captured(overview_picture(), number=2), earlier(b"\xff\xd8\xffnothing"))
    until(lambda: (found := measuring.comparison(f"{2:032x}")) is not None and found.state != "working")
    for number in (1, 2):
        comparison = measuring.comparison(f"{number:032x}")
        assert comparison is not None
        assert change_sentence(comparison) == NOT_COMPARED


def test_visit_that_has_left_takes_its_results_along(derived: Derived) -> None:
    begun, go = threading.Event(), threading.Event()

    def pause() -> None:
        begun.set()
        go.wait(5)

    with Measuring(pause, derived) as measuring:
        image = captured(overview_picture())
        measuring.offer(image, earlier(overview_picture()))
        assert begun.wait(20)
        measuring.forget()
        go.set()
        time.sleep(0.3)
        assert measuring.comparison(image.capture_id) is None
        assert not measuring.knows(image.capture_id)
        assert derived.kept == {}


def test_result_lies_beside_the_photo_in_the_records(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    store = RecordCaptureStore(lambda: box.store, lambda: box.lead.user_id)
    image = captured(overview_picture())
    store.keep(image)
    results = RecordDerived(lambda: box.store, lambda: True)
    results.keep_derived(image.capture_id, "card", "{}")
    results.keep_derived(image.capture_id, "change", '{"area_ratio": 1.0}')
    record = box.store.get(CapturedImageContent, image.capture_id)
    assert record.content.derived == {"card": "{}", "change": '{"area_ratio": 1.0}'}
    assert record.revision == 3
    assert store.get(image.capture_id) == image
    RecordDerived(lambda: box.store, lambda: False).keep_derived(image.capture_id, "card", "[]")
    assert box.store.get(CapturedImageContent, image.capture_id).content.derived["card"] == "{}"


@needs_card
def test_photo_is_kept_while_another_is_compared(tmp_path: Path) -> None:
    """Capture waits for nothing: the process that compares has its hands full, and the next press is as quick."""
    engine = EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))

    class Before:
        def newest(self, encounter_id: str, shot: ShotKind) -> EarlierPhoto | None:
            return earlier(card_picture(6.0, 3.0), shot)

    shots = ShotsConfig(usual=("close_up", "overview"))
    with nurse_rig(engine, shots, earlier=Before(), has_lamp=False, has_quality=False) as rig:
        encounter_id = rig.station.open_encounter().encounter_id
        until(lambda: rig.station.frame(-1, 0.2) is not None)
        first = rig.station.capture(encounter_id)
        until(lambda: rig.station.measuring.comparison(first.capture_id) is not None)
        assert rig.station.capture(encounter_id).shot == "overview"
        compared = rig.station.measuring.comparison(first.capture_id)
        assert compared is not None
        assert compared.state == "working", "nothing was compared meanwhile, so nothing was shown"


def test_findings_are_small_enough_for_an_answer() -> None:
    """The far end is believed up to a thousand bytes."""
    third = 100 / 3
    card = CardFinding(
        px_per_mm=third,
        markers=3,
        long_diameter_mm=third,
        short_diameter_mm=third,
        area_mm2=third,
        off_by_mm=third,
        gains=(third, third, third),
        cast=third,
    )
    change = ChangeFinding(
        to_later=(third,) * 6,
        skin_correlation=third,
        area_ratio=third,
        colour_difference=third,
        border_moved_share=third,
    )
    assert len(msgspec.json.encode(card)) < 900
    assert len(msgspec.json.encode(change)) < 900


@needs_card
def test_second_visit_of_a_lesion_is_compared_with_the_first_and_kept_in_the_records(tmp_path: Path) -> None:
    box = new_box(tmp_path / "records")
    visits = Visits(lambda: box.store, lambda: box.lead.user_id)
    engine = EngineClient(EngineAddress(socket=str(tmp_path / "nobody.sock")))
    shots = ShotsConfig(usual=("close_up", "lateral"))
    site = site_of("palm")
    assert site is not None
    with nurse_rig(engine, shots, visits=visits, has_lamp=False, has_quality=False) as rig:
        rig.close_up = card_picture(6.0, 3.0)
        first = rig.station.open_encounter().encounter_id
        lesion_id = visits.lesions.add(first, site, "L")
        until(lambda: rig.station.frame(-1, 0.2) is not None)
        before = rig.station.capture(first)
        subject_id = visits.photos.subject_of(first)
        assert subject_id is not None
        rig.station.close_encounter(first)
        rig.close_up = card_picture(7.0, 8.0)
        second = rig.station.open_encounter().encounter_id
        visits.choose_person(second, subject_id)
        assert rig.station.earlier_photo(second, "close_up") is None, "no lesion was chosen yet"
        visits.lesions.choose(second, lesion_id)
        rig.station.visit_screen.begin_shots()
        earlier_photo = rig.station.earlier_photo(second, "close_up")
        assert earlier_photo is not None
        assert (earlier_photo.capture_id, earlier_photo.content) == (before.capture_id, before.content)
        time.sleep(0.3)
        now = rig.station.capture(second)

        def is_kept() -> bool:
            record = box.store.get(CapturedImageContent, now.capture_id)
            return f"change from {before.capture_id}" in record.content.derived

        until(is_kept)
        comparison = rig.station.measuring.comparison(now.capture_id)
        assert comparison is not None
        assert "larger by 1.0 mm" in dict(change_rows(comparison))["Longest"]
        assert visits.photos.get(now.capture_id).content == now.content
    box.store.close()
