"""The shot list: what comes next, in pairs where the light can be driven, and never in the nurse's way."""

import random
from typing import get_args

import pytest

from appliance.config import ShotsConfig
from appliance.service.shot_list import SHOTS, ShotList
from appliance.types import ShotKind

CONFIG = ShotsConfig()


def kinds(shots: ShotList, *, has_light: bool) -> list[str]:
    return [shot.kind for shot in shots.series(has_light=has_light)]


def test_every_kind_has_its_words_and_only_the_dermatoscope_needs_light() -> None:
    assert set(SHOTS) == set(get_args(ShotKind))
    assert all((shot.light is not None) == (shot.modality == "DMS") for shot in SHOTS.values())


def test_shots_come_in_the_order_of_the_settings() -> None:
    shots, order = ShotList.for_site(CONFIG), []
    while shots.now is not None:
        order.append(shots.now.kind)
        shots = shots.with_photo(shots.now.kind, f"{len(order)}")
    assert tuple(order) == CONFIG.usual
    assert shots.is_complete
    assert shots.series(has_light=True) == ()


def test_site_has_its_own_list_and_an_unknown_site_the_usual_one() -> None:
    assert ShotList.for_site(CONFIG, "mouth").kinds == ("overview", "close_up")
    assert ShotList.for_site(CONFIG, "left forearm").kinds == CONFIG.usual


def test_one_press_takes_the_pair_where_the_light_can_be_driven() -> None:
    shots = ShotList.for_site(CONFIG).with_photo("overview", "a").with_photo("close_up", "b")
    assert kinds(shots, has_light=True) == ["dermoscopic_polarized", "dermoscopic_non_polarized"]
    assert kinds(shots, has_light=False) == ["dermoscopic_polarized"]
    # Half a pair that was kept is completed by the other half.
    half = shots.with_photo("dermoscopic_polarized", "c")
    assert kinds(half, has_light=True) == ["dermoscopic_non_polarized"]


def test_retake_is_of_one_shot_and_the_list_goes_on_where_it_was() -> None:
    shots = ShotList.for_site(CONFIG).with_photo("overview", "a").with_photo("close_up", "b")
    again = shots.retaking("overview")
    assert kinds(again, has_light=True) == ["overview"]
    done = again.with_photo("overview", "c")
    assert done.photo_of("overview") == "c"
    assert ("overview", "a") in done.taken
    assert done.now == SHOTS["dermoscopic_polarized"]
    # Chosen before it was taken, it still comes with its other half; taken anew, it comes alone.
    assert len(kinds(done.retaking("dermoscopic_polarized"), has_light=True)) == 2
    again = done.with_photo("dermoscopic_polarized", "d").retaking("dermoscopic_polarized")
    assert kinds(again, has_light=True) == ["dermoscopic_polarized"]


def test_skipped_shot_is_not_complete_unless_optional_and_can_be_taken_after_all() -> None:
    shots = ShotList(kinds=("overview", "lateral"))
    assert not shots.skipping().is_complete
    assert shots.with_photo("overview", "a").skipping().is_complete
    later = shots.skipping().retaking("overview").with_photo("overview", "a")
    assert later.now == SHOTS["lateral"]
    assert later.is_complete


def test_retake_can_be_called_off() -> None:
    shots = ShotList.for_site(CONFIG).with_photo("overview", "a").retaking("overview").skipping()
    assert shots.now == SHOTS["close_up"]
    assert shots.skipped == frozenset()


def test_foreign_shot_is_refused() -> None:
    with pytest.raises(ValueError, match="not on this list"):
        ShotList(kinds=("overview",)).with_photo("lateral", "a")


def test_any_order_of_acts_ends_and_loses_no_photo(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        shots, photos = ShotList.for_site(CONFIG), 0
        for _ in range(30):
            act = rng.choice(("press", "press", "retake", "skip"))
            if act == "press":
                for shot in shots.series(has_light=rng.random() < 0.5):
                    shots, photos = shots.with_photo(shot.kind, str(photos)), photos + 1
            else:
                shots = shots.skipping() if act == "skip" else shots.retaking(rng.choice(CONFIG.usual))
        assert len(shots.taken) == photos
        steps = 0
        while shots.now is not None:
            shots, steps = shots.skipping(), steps + 1
        assert steps <= len(CONFIG.usual) + 1
