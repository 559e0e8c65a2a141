"""Secrets that are on a screen for a moment: a phrase that is offered, and new sheets until they are on paper.

In memory only, for the session in which they were made.
"""

import hmac
import threading

from appliance.records.errors import WrongSecretError
from appliance.service.clinic import Clinic


class NewSecrets:
    """What the lead has before her; gone as soon as somebody else signs in or the session ends."""

    def __init__(self, clinic: Clinic) -> None:
        self._clinic = clinic
        self._lock = threading.Lock()
        self._of: str | None = None
        self._phrase = ""
        self._sheets: tuple[str, ...] = ()

    def offer_phrase(self, phrase: str) -> str:
        """Remember the phrase that the screen shows."""
        with self._lock:
            self._claim()
            self._phrase = phrase
            return phrase

    def typed_back(self, phrase: str) -> str:
        """Return the offered phrase, if it was typed back right.

        Raises:
            WrongSecretError: It was not, or none was offered in this session.
        """
        from appliance.records.clinic_key import folded_phrase

        with self._lock:
            self._claim()
            offered = self._phrase
        if not offered or not hmac.compare_digest(folded_phrase(phrase).encode(), folded_phrase(offered).encode()):
            raise WrongSecretError("The new phrase was typed back differently. Look at the paper and type it again.")
        return offered

    def keep_sheets(self, sheets: tuple[str, ...]) -> None:
        """Remember the words of new sheets until they are on paper."""
        with self._lock:
            self._claim()
            self._sheets = sheets

    def sheets(self) -> tuple[str, ...]:
        """Return the words of the sheets that were made in this session; none when there are none."""
        with self._lock:
            self._claim()
            return self._sheets

    def forget(self) -> None:
        """They are on paper."""
        with self._lock:
            self._phrase, self._sheets = "", ()

    def _claim(self) -> None:
        """Forget everything when somebody else, or a later session, asks."""
        session = self._clinic.session
        who = f"{session.user_id} {session.signed_in_s}"
        if who != self._of:
            self._of, self._phrase, self._sheets = who, "", ()
