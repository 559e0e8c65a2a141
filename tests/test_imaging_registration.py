"""Two visits: known turns, sizes and places are found on real skin, and what changed is measured, not the camera."""

import numpy as np
import pytest
from degraded_photos import photo
from numpy.typing import NDArray

from appliance.imaging.change import LesionChange, ghost, lesion_change, side_by_side
from appliance.imaging.registration import Affine, Registration, inverted, register, warped

SHAPE = (405, 540)
LESION_AT = np.array([765.0, 690.0])
"""In the photo, on skin that bears no naevus."""
PX_PER_FRAME_PX = 2.1


def skin_with_lesion(
    radius_px: float, colour: tuple[int, int, int] = (95, 60, 48), lobes: float = 0.0
) -> NDArray[np.uint8]:
    """Paint a lesion on the photo, with `lobes` of its radius as bumps on its border."""
    pixels = np.asarray(photo(), np.float32)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    dx, dy = x - LESION_AT[0], y - LESION_AT[1]
    border = radius_px * (1 + lobes * np.cos(7 * np.arctan2(dy, dx)))
    cover = np.clip((border - np.hypot(dx, dy)) / 4 + 0.5, 0, 1)[..., None]
    pattern = pixels / np.median(pixels.reshape(-1, 3), axis=0)
    painted = pixels * (1 - cover) + np.array(colour) * pattern * cover
    return np.asarray(np.clip(painted, 0, 255), np.uint8)


def seen(
    skin: NDArray[np.uint8],
    *,
    turn_deg: float = 0,
    scale: float = 1,
    shift: tuple[float, float] = (0, 0),
    shear: float = 0,
    seed: int = 0,
    gain: float = 1.0,
) -> tuple[NDArray[np.uint8], Affine]:
    """Photograph skin; return the frame and how a place of the skin becomes one of the frame."""
    turn, zoom = np.deg2rad(turn_deg), PX_PER_FRAME_PX / scale
    inner = (
        zoom * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))]) @ np.array([(1, shear), (0, 1)])
    )
    middle = (np.array(SHAPE[::-1]) - 1) / 2 + shift
    to_frame = inverted(np.column_stack([inner, LESION_AT - inner @ middle]))
    frame = np.nan_to_num(warped(skin, to_frame, SHAPE), nan=128)
    noise = np.random.default_rng(seed).normal(0, 2.5, frame.shape)
    return np.clip(frame * gain + noise, 0, 255).astype(np.uint8), to_frame


def error_px(registration: Registration, first: Affine, second: Affine) -> float:
    """Return the largest error over places all over the frame."""
    places = np.array([(60.0, 60), (480, 60), (480, 340), (60, 340), (270, 200)])
    on_skin = places @ inverted(first)[:, :2].T + inverted(first)[:, 2]
    wanted = on_skin @ second[:, :2].T + second[:, 2]
    found = places @ registration.to_later[:, :2].T + registration.to_later[:, 2]
    return float(np.linalg.norm(found - wanted, axis=1).max())


@pytest.mark.parametrize(
    ("turn_deg", "scale", "shift", "shear"),
    [(0, 1.0, (25, -15), 0.0), (15, 0.9, (-20, 15), 0.03), (-40, 1.1, (5, -10), 0.02), (180, 1.05, (10, 0), 0.0)],
)
def test_known_transforms_are_found_to_half_a_pixel(
    turn_deg: float, scale: float, shift: tuple[float, float], shear: float
) -> None:
    skin = skin_with_lesion(60)
    earlier, first = seen(skin)
    later, second = seen(skin, turn_deg=turn_deg, scale=scale, shift=shift, shear=shear, seed=1, gain=0.85)
    registration = register(earlier, later)
    assert registration is not None
    assert error_px(registration, first, second) < 0.5
    assert registration.scale == pytest.approx(scale, rel=0.01)


def test_other_skin_is_not_registered() -> None:
    skin = np.asarray(photo())
    earlier, _ = seen(skin)
    other = np.ascontiguousarray(skin[::-1, :, :])
    later, _ = seen(other, shift=(0, 0), turn_deg=70)
    assert register(earlier, later) is None


def changed(later_skin: NDArray[np.uint8], **how: float) -> LesionChange:
    earlier, first = seen(skin_with_lesion(60))
    later, second = seen(later_skin, seed=1, **how)  # type: ignore[arg-type] # turn, scale, gain
    registration = register(earlier, later)
    assert registration is not None
    # The lesion that changed must not pull the registration along.
    assert error_px(registration, first, second) < 1.0
    change = lesion_change(earlier, later, registration)
    assert change is not None
    return change


def test_lesion_that_stayed_the_same_has_not_changed_when_the_camera_has() -> None:
    change = changed(skin_with_lesion(60), turn_deg=20, scale=1.2, gain=0.8)
    assert change.area_ratio == pytest.approx(1, abs=0.04)
    assert change.long_diameter_ratio == pytest.approx(1, abs=0.03)
    assert change.border_moved_share < 0.06
    assert change.colour_difference < 4


def test_growth_is_measured_whatever_the_distance() -> None:
    change = changed(skin_with_lesion(75), turn_deg=-10, scale=0.9)
    assert change.area_ratio == pytest.approx((75 / 60) ** 2, rel=0.06)
    assert change.long_diameter_ratio == pytest.approx(75 / 60, rel=0.04)
    assert change.border_moved_share > 0.25


def test_ragged_border_and_other_colour_are_told() -> None:
    change = changed(skin_with_lesion(60, colour=(60, 52, 75), lobes=0.2))
    assert change.irregularity_change > 0.15
    assert change.colour_difference > 8


def test_ghost_lies_where_the_later_photo_shows_the_same() -> None:
    skin = skin_with_lesion(60)
    earlier, _ = seen(skin)
    later, _ = seen(skin, turn_deg=12, shift=(20, 10), seed=1)
    registration = register(earlier, later)
    assert registration is not None
    overlay = ghost(earlier, registration, SHAPE)
    assert overlay.shape == (*SHAPE, 4)
    is_seen = overlay[..., 3] > 0
    assert 0.7 < is_seen.mean() < 1
    assert np.abs(overlay[is_seen][:, :3].astype(int) - later[is_seen]).mean() < 5
    assert side_by_side(earlier, later, registration).shape == (SHAPE[0], 2 * SHAPE[1], 3)
