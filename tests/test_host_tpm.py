"""The box's security chip, against a real software TPM: one chip, one PIN, and wrong ones that count."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from software_tpm import needs_tpm, software_tpm

from appliance.host import tpm as module
from appliance.host.tpm import (
    RECOVERY_S,
    TRIES_MAX,
    Tpm,
    TpmError,
    TpmForeignError,
    TpmLockedOutError,
    TpmPinError,
)

PIN = "482915"
WRONG = "482916"


def test_box_without_a_chip_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "DEVICE", tmp_path / "tpmrm0")
    monkeypatch.setattr(module, "_library", lambda: (None, OSError))
    assert "no security chip" in Tpm(f"device:{tmp_path / 'tpmrm0'}").trouble()


def test_box_without_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    assert "[tpm]" in Tpm().trouble()


class TestChip:
    pytestmark = needs_tpm

    def test_chip_gives_back_what_it_keeps_for_its_pin_also_after_a_new_start(self, tmp_path: Path) -> None:
        secret = os.urandom(32)
        with software_tpm(tmp_path / "chip") as chip:
            assert chip.trouble() == ""
            sealed = chip.seal(secret, PIN)
            assert chip.unseal(sealed, PIN) == secret
        with software_tpm(tmp_path / "chip") as chip:
            assert chip.unseal(sealed, PIN) == secret
        assert secret not in sealed
        assert PIN.encode() not in sealed

    def test_chip_that_is_gone_is_a_sentence(self, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
        assert "does not answer" in chip.trouble()
        with pytest.raises(TpmError, match="does not answer"):
            chip.unseal(sealed, PIN)

    def test_another_chip_opens_nothing(self, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip, software_tpm(tmp_path / "other") as other:
            sealed = chip.seal(os.urandom(32), PIN)
            with pytest.raises(TpmForeignError, match="another box"):
                other.unseal(sealed, PIN)

    def test_damaged_object_opens_nothing(self, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
            for at in range(0, len(sealed), 7):
                damaged = bytearray(sealed)
                damaged[at] ^= 0x10
                with pytest.raises(TpmError):
                    chip.unseal(bytes(damaged), PIN)
            assert len(chip.unseal(sealed, PIN)) == 32

    def test_wrong_pins_end_in_the_lock_out_and_the_right_one_is_refused_then_too(self, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
            refused = _guess(chip, sealed, TRIES_MAX)
            assert refused == TRIES_MAX
            with pytest.raises(TpmLockedOutError, match="11 minutes at the latest") as locked:
                chip.unseal(sealed, PIN)
            assert locked.value.wait_s == RECOVERY_S
        # The count is the chip's own: a new start, as after a power cut, gives no guess back.
        with software_tpm(tmp_path / "chip") as chip, pytest.raises(TpmLockedOutError):
            chip.unseal(sealed, PIN)

    def test_thief_cannot_have_the_chip_forget_its_count(self, tmp_path: Path) -> None:
        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
            _guess(chip, sealed, TRIES_MAX)
            with pytest.raises(TpmError):
                _reset_count(chip)
            with pytest.raises(TpmLockedOutError):
                chip.unseal(sealed, PIN)

    def test_control_without_our_password_anybody_has_the_chip_forget(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_harden", lambda _: None)
        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
            assert _guess(chip, sealed, 100) < 100
            _reset_count(chip)
            assert len(chip.unseal(sealed, PIN)) == 32

    def test_chip_whose_owner_lets_pins_be_guessed_is_refused(self, tmp_path: Path) -> None:
        from tpm2_pytss import ESYS_TR, TPM2B_AUTH

        with software_tpm(tmp_path / "chip") as chip:
            with chip._opened() as esapi:
                esapi.dictionary_attack_parameters(1_000_000, 1, 1, lock_handle=ESYS_TR.LOCKOUT)
                esapi.hierarchy_change_auth(ESYS_TR.LOCKOUT, TPM2B_AUTH(b"somebody's"))
            with pytest.raises(TpmError, match="guessed too fast"):
                chip.seal(os.urandom(32), PIN)

    def test_cleared_chip_opens_nothing_and_says_it_was_cleared(self, tmp_path: Path) -> None:
        from tpm2_pytss import ESYS_TR

        with software_tpm(tmp_path / "chip") as chip:
            sealed = chip.seal(os.urandom(32), PIN)
            with chip._opened() as esapi:
                # As the firmware's menu does; the lock-out's own password would be asked for otherwise.
                esapi.clear(ESYS_TR.PLATFORM)
            with pytest.raises(TpmForeignError, match="cleared"):
                chip.unseal(sealed, PIN)

    def test_owner_password_of_somebody_else_is_a_sentence(self, tmp_path: Path) -> None:
        from tpm2_pytss import ESYS_TR, TPM2B_AUTH

        with software_tpm(tmp_path / "chip") as chip:
            with chip._opened() as esapi:
                esapi.hierarchy_change_auth(ESYS_TR.OWNER, TPM2B_AUTH(b"somebody's"))
            with pytest.raises(TpmError, match="password of their own"):
                chip.seal(os.urandom(32), PIN)

    def test_wrong_pin_writes_nothing_to_the_journal(self, tmp_path: Path) -> None:
        program = (
            "import sys; from appliance.host.tpm import Tpm, TpmPinError\n"
            f"chip = Tpm(sys.argv[1]); sealed = chip.seal(bytes(32), {PIN!r})\n"
            f"try: chip.unseal(sealed, {WRONG!r})\nexcept TpmPinError as error: print(error)\n"
        )
        with software_tpm(tmp_path / "chip") as chip:
            done = subprocess.run([sys.executable, "-c", program, chip._tcti], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("This box PIN is wrong.\n", "")

    @pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-analyze") is None,
        reason="the unit's rules need root and systemd-analyze",
    )
    def test_chip_is_used_under_the_rules_of_the_stations_unit(self, tmp_path: Path) -> None:
        unit = Path(__file__).parents[1] / "systemd/units/dermstation-station.service"
        program = (
            "import sys; from appliance.host.tpm import Tpm\n"
            f"chip = Tpm(sys.argv[1]); print(chip.unseal(chip.seal(bytes(32), {PIN!r}), {PIN!r}).hex())\n"
        )
        command = [sys.executable, "-m", "rig.seccomp", str(unit), sys.executable, "-c", program]
        with software_tpm(tmp_path / "chip") as chip:
            done = subprocess.run(
                [*command, chip._tcti], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
            )
        assert done.stdout == f"{bytes(32).hex()}\n", done.stderr


def _guess(chip: Tpm, sealed: bytes, times: int) -> int:
    """Guess wrongly; returns how many guesses were compared before the chip refused."""
    for number in range(times):
        try:
            chip.unseal(sealed, WRONG)
        except TpmPinError:
            continue
        except TpmLockedOutError:
            return number
    return times


def _reset_count(chip: Tpm) -> None:
    """What a thief with the whole box would do."""
    from tpm2_pytss import ESYS_TR

    with chip._opened() as esapi:
        reset: Any = esapi.dictionary_attack_lock_reset
        reset(lock_handle=ESYS_TR.LOCKOUT)
