"""First run, a step at a time: what is asked, what was typed back, and the records at its end.

Everything is in memory until the last step, so that a set-up that was cut begins anew with other secrets. What is
checked at the end is `records.setup`'s; here each word is checked as it is typed, since 22 words are many.
"""

import hmac
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from appliance.records.errors import WrongSecretError
from appliance.service.clinic import Clinic
from appliance.service.errors import SignedOutError

if TYPE_CHECKING:
    from appliance.records.setup import SetUp

Step = Literal["about", "clinic", "phrase", "phrase-back", "sheet-1", "sheet-1-back", "sheet-2", "sheet-2-back", "lead"]
STEPS: Final[tuple[Step, ...]] = (
    "about", "clinic", "phrase", "phrase-back", "sheet-1", "sheet-1-back", "sheet-2", "sheet-2-back", "lead",
)  # fmt: skip
_BACK: Final = "-back"
FORGOTTEN_S: Final = 1800.0
"""A set-up that nobody went on with: its secrets stand on a screen."""
NAME_MAX_LETTERS: Final = 60


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """One walk through the screens."""

    made: "SetUp"
    token: str
    touched_s: float
    step: Step = "about"
    clinic_name: str = ""
    is_date_right: bool = False
    typed: dict[Step, list[str]] = field(default_factory=dict)


class FirstRun:
    """The set-up of one clinic's box; any thread may call, and one browser at a time."""

    def __init__(self, clinic: Clinic) -> None:
        self._clinic = clinic
        self._attempt: _Attempt | None = None
        self._lock = threading.RLock()

    def start(self) -> str:
        """Begin anew with new secrets; returns the secret of this browser, for its cookie."""
        from appliance.records.setup import prepare

        with self._lock:
            token = secrets.token_urlsafe(32)
            self._attempt = _Attempt(made=prepare(), token=token, touched_s=self._clinic.clock.monotonic_s())
            return token

    def is_going_on(self, token: str) -> bool:
        """Whether this browser is in the middle of a set-up that was not forgotten."""
        with self._lock:
            attempt = self._attempt
            if attempt is None:
                return False
            if self._clinic.clock.monotonic_s() - attempt.touched_s > FORGOTTEN_S:
                self._attempt = None
                return False
            return hmac.compare_digest(token.encode(), attempt.token.encode())

    @property
    def step(self) -> Step:
        """Where it is."""
        return self._going_on().step

    def words(self, step: Step) -> tuple[str, ...]:
        """Return the words that a step shows or asks for: the phrase's four, or a sheet's nine."""
        made = self._going_on().made
        if step.startswith("phrase"):
            return tuple(made.phrase.split("-"))
        return tuple(made.sheets[int(step.split("-")[1]) - 1].split("-"))

    @property
    def clinic_name(self) -> str:
        """As it was typed; stands on the sheets."""
        return self._going_on().clinic_name

    def go_on(self) -> None:
        """Go to the next step, where this one asks for nothing.

        Raises:
            WrongSecretError: Not all words were typed back, or the step has answers of its own.
        """
        attempt = self._going_on()
        if attempt.step in {"clinic", "lead"}:
            raise WrongSecretError("Please answer what the screen asks.")
        if attempt.step.endswith(_BACK) and len(attempt.typed.get(attempt.step, [])) < len(self.words(attempt.step)):
            raise WrongSecretError("Please type every word back first.")
        attempt.step = STEPS[STEPS.index(attempt.step) + 1]

    def go_back(self) -> None:
        """Look at the words again; what was typed back of them is asked for anew."""
        attempt = self._going_on()
        attempt.step = STEPS[max(0, STEPS.index(attempt.step) - 1)]
        attempt.typed.pop(attempt.step, None)
        if attempt.step != "lead":
            attempt.typed.pop(STEPS[STEPS.index(attempt.step) + 1], None)

    def answer_clinic(self, name: str, *, is_date_right: bool) -> None:
        """Take the clinic's name, and whether the date on the screen is right.

        Raises:
            WrongSecretError: There is no name, or it is too long.
        """
        attempt = self._going_on("clinic")
        if not 0 < len(name.strip()) <= NAME_MAX_LETTERS:
            raise WrongSecretError("Please type the clinic's name.")
        attempt.clinic_name, attempt.is_date_right = name.strip(), is_date_right
        attempt.step = "phrase"

    def other_phrase(self) -> None:
        """Offer another phrase.

        Raises:
            WrongSecretError: Only where the phrase is shown.
        """
        from dataclasses import replace

        from appliance.records.words import new_phrase

        attempt = self._going_on("phrase")
        attempt.made = replace(attempt.made, phrase=new_phrase())

    def words_left(self) -> int:
        """Return how many words of this step are still to be typed back."""
        attempt = self._going_on()
        return len(self.words(attempt.step)) - len(attempt.typed.get(attempt.step, []))

    def type_word(self, word: str) -> int:
        """Check the next word of what is typed back; returns how many are left.

        Raises:
            WrongSecretError: It is not that word; it is asked for again.
        """
        attempt = self._going_on()
        words, typed = self.words(attempt.step), attempt.typed.setdefault(attempt.step, [])
        if not attempt.step.endswith(_BACK) or len(typed) == len(words):
            raise WrongSecretError("No word is asked for here.")
        if not hmac.compare_digest(word.strip().lower().encode(), words[len(typed)].encode()):
            raise WrongSecretError(f"That is not word {len(typed) + 1}. Look at the paper and type it again.")
        typed.append(words[len(typed)])
        return len(words) - len(typed)

    def finish(self, lead_name: str, pin: str, pin_again: str) -> str:
        """Write everything at once and sign the first lead in; returns the secret of the session.

        Raises:
            WrongSecretError: The PINs differ, the PIN is too easy, or there is no name; nothing was written.
            CannotOpenError, NotSavedError, OSError: The folder or the disk does not take it.
        """
        from appliance.records.setup import SetUpAnswers, complete
        from appliance.records.space import BALLAST_BYTES

        with self._lock:
            attempt = self._going_on("lead")
            if pin != pin_again:
                raise WrongSecretError("The two PINs differ. Please choose the PIN again.")
            folder = self._clinic.folder
            if folder is None:
                raise WrongSecretError("This box has no place for records.")
            typed: dict[Step, list[str]] = attempt.typed
            answers = SetUpAnswers(
                clinic_name=attempt.clinic_name,
                phrase=attempt.made.phrase,
                typed_sheets=tuple("-".join(typed.get(step, [])) for step in STEPS[5:8:2]),
                lead_name=lead_name,
                lead_pin=pin,
                is_date_right=attempt.is_date_right,
            )
            store = complete(folder, attempt.made, answers, clock=self._clinic.clock)
            store.ballast_bytes = BALLAST_BYTES
            store.space()
            self._attempt = None
            return self._clinic.adopt(store)

    def _going_on(self, step: Step | None = None) -> _Attempt:
        with self._lock:
            attempt = self._attempt
            if attempt is None:
                raise SignedOutError(
                    "The set-up was left alone for too long, or this box was started again. Start anew."
                )
            if step is not None and attempt.step != step:
                raise WrongSecretError("Please go on with the step on the screen.")
            attempt.touched_s = self._clinic.clock.monotonic_s()
            return attempt
