"""The box PIN: six digits that the box's own security chip compares and counts, instead of the phrase in the morning.

The chip is `appliance/host/tpm.py`, the slot `records.slots`; a box without a chip has the other ways.
"""

import secrets
from typing import TYPE_CHECKING, Final

from appliance.host.tpm import Tpm, TpmError, TpmLockedOutError, TpmPinError
from appliance.records.errors import LockedError, MissingError, ThrottledError, WrongSecretError
from appliance.service.clinic import Clinic
from appliance.service.unlocking import Unlocking

if TYPE_CHECKING:
    from appliance.records.clinic_key import WrappingKey
    from appliance.records.held_slots import HeldSlot

NAME: Final = "Box PIN"


class BoxPin:
    """Opening by the box's chip; any thread may call."""

    def __init__(self, clinic: Clinic, unlocking: Unlocking, chip: Tpm) -> None:
        self._clinic = clinic
        self._unlocking = unlocking
        self._chip = chip

    def slot(self) -> "HeldSlot | None":
        """Return the slot when the box PIN is on; works locked, and asks no chip."""
        return next(iter(self._clinic.records().held_slots("tpm")), None)

    def trouble(self) -> str:
        """Say why this box can have no box PIN; empty when it can."""
        return self._chip.trouble()

    def turn_on(self, typed: str, pin: str) -> None:
        """Have the chip keep a key for a PIN; one that was on before opens nothing any more.

        Raises:
            LockedError: The chip cannot be used; the sentence says why.
            ThrottledError, WrongSecretError, ForbiddenError, NotSavedError: Nothing was changed.
        """
        from appliance.records.clinic_key import HELD_KEY_BYTES, HeldKey
        from appliance.records.pins import check_pin
        from appliance.records.slots import add_held_slot

        lead, store = self._clinic.require("people"), self._clinic.records()
        check_pin(pin)

        def add(known: "WrappingKey") -> None:
            key = HeldKey(secrets.token_bytes(HELD_KEY_BYTES), "tpm")
            try:
                sealed = self._chip.seal(key.key, pin)
            except TpmError as error:
                raise LockedError(str(error)) from error
            add_held_slot(store, known, key, NAME, lead.user_id, sealed=sealed)

        self._unlocking.with_known(typed, add)

    def turn_off(self) -> None:
        """Let the chip open this box no more.

        Raises:
            MissingError: It is off.
            ForbiddenError, NotSavedError: It still opens.
        """
        from appliance.records.slots import remove_held_slot

        lead, found = self._clinic.require("people"), self.slot()
        if found is None:
            raise MissingError("The box PIN is off.")
        remove_held_slot(self._clinic.records(), found.slot.slot_id, lead.user_id)

    def unlock(self, pin: str) -> None:
        """Open the records by the chip.

        Raises:
            WrongSecretError: The PIN is wrong; the chip has counted it too.
            ThrottledError: Wait, or open in another way.
            LockedError: The chip cannot be used, was cleared, or is another one.
            MissingError: The box PIN is off.
        """
        self._unlocking.unlock_with(lambda: self._key(pin), is_guess=True)

    def _key(self, pin: str) -> "WrappingKey":
        from appliance.records.clinic_key import HeldKey

        found = self.slot()
        if found is None:
            raise MissingError("The box PIN is off; type the clinic's phrase.")
        try:
            return HeldKey(self._chip.unseal(found.sealed, pin), "tpm")
        except TpmPinError as error:
            raise WrongSecretError(str(error)) from error
        except TpmLockedOutError as error:
            raise ThrottledError(str(error), error.wait_s) from error
        except TpmError as error:
            raise LockedError(str(error)) from error
