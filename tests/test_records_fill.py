"""P7: a disk that others fill and free, that runs out of files, and that turns read-only, again and again."""

import os
from pathlib import Path

import pytest
from records_fill import NoDiskError, Tally, run


def filled(cycles: int, seed: int) -> Tally:
    try:
        return run(cycles, seed)
    except NoDiskError as error:
        pytest.skip(f"needs root, mkfs.ext4 and loop devices ({error})")


@pytest.mark.parametrize("cycles", [5, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_a_disk_that_is_filled_and_freed_loses_nothing(seed: int, cycles: int) -> None:
    found = filled(cycles, seed)
    print(found)  # noqa: T201 - the figures, with -s
    assert found.problems == []
    assert found.cycles == cycles
    assert found.most_photos >= 200
    assert min(found.saved, found.refused, found.erased, found.signed_in) >= cycles


def test_control_a_ballast_of_nothing_keeps_nobody_signing_in(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole in a file gives no room back."""
    real = os.posix_fallocate

    def hole(descriptor: int, offset: int, length: int) -> None:
        if "ballast" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            os.ftruncate(descriptor, length)
        else:
            real(descriptor, offset, length)

    monkeypatch.setattr("appliance.records.space.os.posix_fallocate", hole)
    found = filled(1, seed)
    assert any("refused" in problem for problem in found.problems)
