"""The gate at the shutter and the live sentence: a poor photo waits for a reason, and nothing for the measuring."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from degraded_photos import blurred, jpeg, photo
from kiosk_station import WAIT_S, ManualClock, ObedientCamera

from appliance.config import QualityConfig
from appliance.imaging.advice import Advice
from appliance.imaging.sandbox import DecoderGoneError
from appliance.service.capture_store import MemoryCaptureStore
from appliance.service.captures import Captures
from appliance.service.errors import EncounterClosedError, NotFoundError, PoorQualityError, UnreadablePhotoError
from appliance.service.live_quality import LiveQuality
from appliance.types import Frame


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def camera(clock: ManualClock) -> ObedientCamera:
    return ObedientCamera(clock)


@pytest.fixture
def captures(camera: ObedientCamera, clock: ManualClock) -> Captures:
    return Captures(camera, MemoryCaptureStore(), clock)


@pytest.fixture(scope="module")
def quality() -> Iterator[LiveQuality]:
    with LiveQuality(QualityConfig()) as quality:
        yield quality


def poor(content: bytes) -> Advice | None:
    return "quality.blurred"


def test_slow_judging_makes_no_frame_old(captures: Captures, camera: ObedientCamera, clock: ManualClock) -> None:
    encounter = captures.open_encounter()
    camera.take()

    def judge(content: bytes) -> Advice | None:
        clock.passed_s += 5
        return "quality.good"

    assert captures.capture(encounter.encounter_id, judge).quality == "quality.good"


def held_photo(captures: Captures, camera: ObedientCamera) -> tuple[str, str]:
    encounter = captures.open_encounter()
    camera.take()
    with pytest.raises(PoorQualityError, match=r"^Not sharp: .* say why to keep it\.$"):
        captures.capture(encounter.encounter_id, poor)
    assert captures.held is not None
    return encounter.encounter_id, captures.held.capture_id


def test_poor_photo_is_kept_with_its_reason_as_it_was_at_the_shutter(
    captures: Captures, camera: ObedientCamera, clock: ManualClock
) -> None:
    encounter_id, capture_id = held_photo(captures, camera)
    assert captures.images(encounter_id) == ()
    assert captures.held is not None
    content = captures.held.content
    # Thinking takes longer than a frame stays fresh: it was fresh when the shutter fired.
    clock.passed_s += 20
    camera.take()
    image = captures.keep_held(encounter_id, capture_id, "patient_moves")
    assert (image.content, image.quality, image.keep_reason) == (content, "quality.blurred", "patient_moves")
    assert captures.images(encounter_id) == (image,)
    with pytest.raises(NotFoundError):
        captures.keep_held(encounter_id, capture_id, "patient_moves")


@pytest.mark.parametrize("advice", [None, "quality.good", "quality.too_far", "quality.moving"])
def test_what_does_not_spoil_a_photo_holds_nothing_back(
    captures: Captures, camera: ObedientCamera, advice: Advice | None
) -> None:
    encounter = captures.open_encounter()
    camera.take()
    image = captures.capture(encounter.encounter_id, lambda content: advice)
    assert (image.quality, image.keep_reason) == (advice, None)
    assert captures.held is None


def test_held_photo_never_reaches_another_visit(captures: Captures, camera: ObedientCamera) -> None:
    encounter_id, capture_id = held_photo(captures, camera)
    other = captures.open_encounter()
    with pytest.raises(EncounterClosedError):
        captures.keep_held(encounter_id, capture_id, "no_time")
    with pytest.raises(NotFoundError):
        captures.keep_held(other.encounter_id, capture_id, "no_time")
    assert captures.held is None


def test_next_shutter_and_a_lock_let_the_held_photo_go(captures: Captures, camera: ObedientCamera) -> None:
    encounter_id, capture_id = held_photo(captures, camera)
    camera.take()
    captures.capture(encounter_id)
    with pytest.raises(NotFoundError):
        captures.keep_held(encounter_id, capture_id, "no_time")
    encounter_id, capture_id = held_photo(captures, camera)
    captures.lock_screen()
    with pytest.raises(EncounterClosedError, match="locked"):
        captures.keep_held(encounter_id, capture_id, "no_time")
    captures.unlock_screen()
    with pytest.raises(NotFoundError):
        captures.keep_held(encounter_id, capture_id, "no_time")


def test_visit_closed_while_the_frame_is_judged_holds_nothing(captures: Captures, camera: ObedientCamera) -> None:
    encounter = captures.open_encounter()
    camera.take()

    def close_and_judge(content: bytes) -> Advice | None:
        captures.close_encounter(encounter.encounter_id)
        return "quality.blurred"

    with pytest.raises(EncounterClosedError):
        captures.capture(encounter.encounter_id, close_and_judge)
    assert captures.held is None


def frame_of(content: bytes, sequence: int) -> Frame:
    return Frame(content=content, media_type="image/jpeg", sequence=sequence, captured_s=0.0)


def sharp_and_blurred() -> tuple[bytes, bytes]:
    sharp = photo().crop((300, 300, 1260, 840))
    return jpeg(sharp), jpeg(blurred(12)(sharp, np.random.default_rng(1)))


def said_after(quality: LiveQuality, content: bytes, first_sequence: int, expected: Advice) -> Advice | None:
    """Show one picture until the expected sentence is said, or the wait is over."""
    deadline_s = time.monotonic() + WAIT_S
    sequence = first_sequence
    while quality.advice != expected and time.monotonic() < deadline_s:
        quality.offer(frame_of(content, sequence))
        sequence += 1
        time.sleep(0.02)
    return quality.advice


def test_live_sentence_follows_the_picture(quality: LiveQuality) -> None:
    sharp, unsharp = sharp_and_blurred()
    assert said_after(quality, sharp, 0, "quality.good") == "quality.good"
    assert said_after(quality, unsharp, 10_000, "quality.blurred") == "quality.blurred"


def test_frame_is_judged_by_itself_and_an_unreadable_one_is_refused(quality: LiveQuality) -> None:
    sharp, unsharp = sharp_and_blurred()
    assert quality.judge(sharp) == "quality.good"
    assert quality.judge(unsharp) == "quality.blurred"
    with pytest.raises(UnreadablePhotoError, match="cannot be read, so nothing was kept"):
        quality.judge(sharp[:500])


def test_nothing_is_held_back_while_the_measuring_is_down(
    quality: LiveQuality, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DecoderGoneError("It is gone.")

    monkeypatch.setattr(quality._sandbox, "measure", gone)
    assert quality.judge(sharp_and_blurred()[0]) is None


def test_unreadable_photo_is_neither_kept_nor_held(
    captures: Captures, camera: ObedientCamera, quality: LiveQuality
) -> None:
    encounter = captures.open_encounter()
    camera.take()  # three right bytes and words: whole for the driver, a picture for nobody
    with pytest.raises(UnreadablePhotoError):
        captures.capture(encounter.encounter_id, quality.judge)
    assert captures.held is None
    assert captures.images(encounter.encounter_id) == ()


def test_old_sentence_is_not_said() -> None:
    clock = ManualClock()
    with LiveQuality(QualityConfig(), clock) as quality:
        sharp, _ = sharp_and_blurred()
        assert said_after(quality, sharp, 0, "quality.good") == "quality.good"
        time.sleep(0.2)
        clock.passed_s += 3
        assert quality.advice is None


def test_sentence_does_not_flicker() -> None:
    quality = LiveQuality(QualityConfig(), ManualClock())
    said = []
    for advice in ("quality.good", "quality.glare", "quality.good", "quality.glare", "quality.glare", "quality.glare"):
        quality._say(advice)
        said.append(quality.advice)
    assert said == ["quality.good"] * 4 + ["quality.glare"] * 2


def test_frame_of_another_kind_is_judged_like_any(quality: LiveQuality) -> None:
    sharp, _ = sharp_and_blurred()
    quality.offer(replace(frame_of(sharp, 99_999), modality="DMS"))
    assert quality.judge(sharp) == "quality.good"
