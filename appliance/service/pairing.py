"""Pairing a telephone: a one-time token on the kiosk's screen, four digits on both, and the lead's yes.

The token is 128 random bits, good once and for five minutes of the clock that nobody can set. The digits are for the
lead: whoever photographed the screen from the queue and was faster shows others. No guess closes the way for a guest,
and none can hit.
Source: `records/DESIGN.md`, "Consent, roles, devices"; RFC 8628, section 5.4 (why a person compares).
"""

import hmac
import secrets
import threading
from dataclasses import dataclass
from typing import Final, Literal

from appliance.clock import Clock
from appliance.records import devices
from appliance.records.devices import Device
from appliance.records.store import RecordStore
from appliance.records.users import User
from appliance.service.errors import LimitError, NotFoundError

OFFER_S: Final = 300.0
ANSWER_S: Final = 120.0
"""How long a telephone waits for the lead, and then for its own next question."""
NAME_MAX: Final = 40
GUESSES_EACH: Final = 10
GUESSES_S: Final = 60.0
_TOKEN_BYTES: Final = 16
_GUESSERS_MAX: Final = 1024
PairingState = Literal["waiting", "paired", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the kiosk shows: whoever has the token may ask to be paired."""

    token: str
    ends_s: float


@dataclass(slots=True, kw_only=True)
class Asking:
    """A telephone that redeemed the token and waits for the lead."""

    asking_id: str
    name: str
    digits: str
    """The same on both screens."""
    claim: str
    """Known to that telephone only."""
    ends_s: float
    state: PairingState = "waiting"
    device_token: str = ""


class Pairing:
    """One offer and one telephone at a time; every method may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._offer: Offer | None = None
        self._asking: Asking | None = None
        self._guesses: dict[str, list[float]] = {}

    @property
    def offer(self) -> Offer | None:
        """The offer that is open now."""
        with self._lock:
            return self._open_offer()

    @property
    def asking(self) -> Asking | None:
        """The telephone that waits for the lead's word now."""
        with self._lock:
            one = self._open_asking()
            return one if one is not None and one.state == "waiting" else None

    def make_offer(self, lead: User) -> Offer:
        """Open the way for one telephone; an earlier offer is closed.

        Raises:
            ForbiddenError: Only a lead may.
        """
        lead.require("people")
        with self._lock:
            self._asking = None
            self._offer = Offer(token=secrets.token_urlsafe(_TOKEN_BYTES), ends_s=self._clock.monotonic_s() + OFFER_S)
            return self._offer

    def withdraw(self) -> None:
        """Close the way; a telephone that waits is refused."""
        with self._lock:
            self._offer = None
            if self._asking is not None and self._asking.state == "waiting":
                self._asking.state = "refused"

    def redeem(self, token: str, name: str, address: str) -> Asking:
        """Take a telephone's token; it is worth nothing afterwards, whoever has it.

        Args:
            token: What its camera read.
            name: What its owner calls it.
            address: Where it comes from, for counting guesses.

        Raises:
            NotFoundError: The token is not the one on the screen, or not any more.
            LimitError: Too many wrong tokens came from that address.
        """
        with self._lock:
            self._count(address)
            offer = self._open_offer()
            if offer is None or not hmac.compare_digest(offer.token.encode(), token.encode()):
                raise NotFoundError("This code is not good any more. Have a new one shown on the box.")
            self._guesses.pop(address, None)
            self._offer = None
            self._asking = Asking(
                asking_id=secrets.token_hex(8),
                name=_tidy(name),
                digits=f"{secrets.randbelow(10_000):04}",
                claim=secrets.token_urlsafe(32),
                ends_s=self._clock.monotonic_s() + ANSWER_S,
            )
            return self._asking

    def approve(self, asking_id: str, store: RecordStore, lead: User) -> Device:
        """The lead saw the same digits: pair the telephone.

        Raises:
            NotFoundError: It does not wait any more.
            ForbiddenError: Only a lead may.
            NotSavedError: It was not paired; the lead may press again.
        """
        with self._lock:
            asking = self._waiting(asking_id)
            device, token = devices.pair(store, asking.name, lead)
            asking.state, asking.device_token = "paired", token
            asking.ends_s = self._clock.monotonic_s() + ANSWER_S
            return device

    def refuse(self, asking_id: str) -> None:
        """The digits differ, or nobody knows this telephone.

        Raises:
            NotFoundError: It does not wait any more.
        """
        with self._lock:
            self._waiting(asking_id).state = "refused"

    def collect(self, claim: str) -> Asking:
        """Tell a telephone how it stands; its device token is given once.

        Raises:
            NotFoundError: There is no such telephone, any more.
        """
        with self._lock:
            asking = self._open_asking()
            if asking is None or not hmac.compare_digest(asking.claim.encode(), claim.encode()):
                raise NotFoundError("This phone does not wait any more. Have a new code shown on the box.")
            if asking.state != "waiting":
                self._asking = None
            return asking

    def _waiting(self, asking_id: str) -> Asking:
        asking = self._open_asking()
        if asking is None or asking.asking_id != asking_id or asking.state != "waiting":
            raise NotFoundError("This phone does not wait any more. Show a new code.")
        return asking

    def _open_offer(self) -> Offer | None:
        if self._offer is not None and self._clock.monotonic_s() >= self._offer.ends_s:
            self._offer = None
        return self._offer

    def _open_asking(self) -> Asking | None:
        if self._asking is not None and self._clock.monotonic_s() >= self._asking.ends_s:
            self._asking = None
        return self._asking

    def _count(self, address: str) -> None:
        now_s = self._clock.monotonic_s()
        recent = [at_s for at_s in self._guesses.get(address, ()) if now_s - at_s < GUESSES_S]
        if len(recent) >= GUESSES_EACH:
            raise LimitError("Too many wrong codes came from this phone. Wait a minute.")
        if len(self._guesses) >= _GUESSERS_MAX:
            self._guesses.clear()
        self._guesses[address] = [*recent, now_s]


def _tidy(name: str) -> str:
    """Return what of a name may stand on the lead's screen."""
    printable = "".join(letter for letter in name if letter.isprintable())
    return " ".join(printable.split())[:NAME_MAX] or "Phone without a name"
