"""A recovery sheet shown to the station's camera instead of typed: one frame, its code, and the records open.

The frame is not kept. It is decoded in a confined process that ends with it, for its picture is a secret.
"""

from collections.abc import Callable

from appliance.imaging.sandbox import Sandbox
from appliance.records.errors import WrongSecretError
from appliance.service.unlocking import Unlocking
from appliance.types import Frame


class SheetReader:
    """Reads sheets by the camera; any thread may call."""

    def __init__(self, unlocking: Unlocking, newest: Callable[[], Frame | None]) -> None:
        """Take what compares the words, and what gives the newest frame."""
        self._unlocking = unlocking
        self._newest = newest

    def look(self) -> bool:
        """Look at what is before the camera now; returns whether it opened the records, False where no code is seen.

        Raises:
            WrongSecretError: The code is no recovery sheet, or one of another box.
            ThrottledError: Too many wrong guesses.
            TamperedError: It stays locked.
            CameraError: The camera is gone.
            ImageError: Codes cannot be read on this box.
        """
        from appliance.records.words import key_from_sheet

        frame = self._newest()
        if frame is None:
            return False
        with Sandbox() as sandbox:
            text = sandbox.code(frame.content)
        if text is None:
            return False
        try:
            key_from_sheet(text)
        except WrongSecretError as error:
            # Not a guess: nobody who guesses would show something else.
            raise WrongSecretError("This code is no recovery sheet.") from error
        self._unlocking.unlock(text)
        return True
