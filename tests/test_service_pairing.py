"""Pairing: one token, one telephone, one lead's yes; and nothing for who guesses, waits too long, or was faster."""

import secrets
import threading

import pytest
from records_boxes import Box

from appliance.records import devices
from appliance.records.errors import ForbiddenError, MissingError
from appliance.records.people import People
from appliance.service.errors import LimitError, NotFoundError
from appliance.service.pairing import ANSWER_S, GUESSES_EACH, GUESSES_S, NAME_MAX, OFFER_S, Pairing

ADDRESS = "10.77.0.2"


@pytest.fixture
def pairing(box: Box) -> Pairing:
    return Pairing(box.clock)


def test_a_telephone_is_paired_and_gets_its_token_once(box: Box, pairing: Pairing) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, " Dr.  Banda ", ADDRESS)
    assert (asking.name, len(asking.digits)) == ("Dr. Banda", 4)
    assert pairing.collect(asking.claim).state == "waiting"
    assert pairing.asking is asking
    device = pairing.approve(asking.asking_id, box.store, box.lead)
    token = pairing.collect(asking.claim).device_token
    assert devices.device_of(box.store, token) == device
    assert device.name == "Dr. Banda"
    with pytest.raises(NotFoundError):
        pairing.collect(asking.claim)


def test_nothing_lies_in_the_database_that_lets_a_device_in(box: Box, pairing: Pairing) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "Phone", ADDRESS)
    pairing.approve(asking.asking_id, box.store, box.lead)
    token = pairing.collect(asking.claim).device_token
    content = b"".join(path.read_bytes() for path in box.folder.rglob("*") if path.is_file())
    assert b"Phone" in content
    assert token.encode() not in content


def test_a_token_is_good_once(box: Box, pairing: Pairing) -> None:
    token = pairing.make_offer(box.lead).token
    pairing.redeem(token, "first", ADDRESS)
    with pytest.raises(NotFoundError, match="not good any more"):
        pairing.redeem(token, "second", "10.77.0.3")


def test_of_many_at_once_one_gets_the_token(box: Box, pairing: Pairing) -> None:
    token, winners, start = pairing.make_offer(box.lead).token, [], threading.Barrier(16)

    def grab(number: int) -> None:
        start.wait()
        try:
            winners.append(pairing.redeem(token, str(number), f"10.77.1.{number}").name)
        except NotFoundError:
            return

    threads = [threading.Thread(target=grab, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(winners) == 1


def test_an_offer_ends_by_itself_whatever_the_date_says(box: Box, pairing: Pairing) -> None:
    token = pairing.make_offer(box.lead).token
    seen = []
    for passed_s in (OFFER_S - 1, 1):
        box.clock.passed_s += passed_s
        seen.append(pairing.offer is not None)
    assert seen == [True, False]
    with pytest.raises(NotFoundError):
        pairing.redeem(token, "late", ADDRESS)


def test_a_telephone_waits_two_minutes_for_the_lead(box: Box, pairing: Pairing) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "Phone", ADDRESS)
    box.clock.passed_s += ANSWER_S
    assert pairing.asking is None
    with pytest.raises(NotFoundError):
        pairing.approve(asking.asking_id, box.store, box.lead)
    assert devices.devices(box.store) == ()


@pytest.mark.parametrize("how", ["refuse", "withdraw"])
def test_a_refused_telephone_learns_it_and_gets_nothing(box: Box, pairing: Pairing, how: str) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "Phone", ADDRESS)
    if how == "refuse":
        pairing.refuse(asking.asking_id)
    else:
        pairing.withdraw()
    answer = pairing.collect(asking.claim)
    assert (answer.state, answer.device_token) == ("refused", "")
    with pytest.raises(NotFoundError):
        pairing.approve(asking.asking_id, box.store, box.lead)


def test_a_new_offer_closes_the_one_before(box: Box, pairing: Pairing) -> None:
    old = pairing.make_offer(box.lead).token
    new = pairing.make_offer(box.lead).token
    with pytest.raises(NotFoundError):
        pairing.redeem(old, "Phone", ADDRESS)
    assert pairing.redeem(new, "Phone", ADDRESS).state == "waiting"


def test_guesses_are_counted_by_address_and_close_the_way_for_nobody_else(box: Box, pairing: Pairing) -> None:
    token = pairing.make_offer(box.lead).token
    for _ in range(GUESSES_EACH):
        with pytest.raises(NotFoundError):
            pairing.redeem(secrets.token_urlsafe(16), "guess", ADDRESS)
    with pytest.raises(LimitError):
        pairing.redeem(token, "guess", ADDRESS)
    box.clock.passed_s += GUESSES_S
    with pytest.raises(NotFoundError):
        pairing.redeem("", "guess", ADDRESS)
    assert pairing.redeem(token, "Phone", "10.77.0.9").state == "waiting"


def test_a_hundred_thousand_guesses_find_no_token(box: Box, pairing: Pairing) -> None:
    token = pairing.make_offer(box.lead).token
    hits = 0
    for number in range(100_000):
        # Half of them know all but the last letter.
        guess = secrets.token_urlsafe(16) if number % 2 else token[:-1] + "~"
        try:
            pairing.redeem(guess, "guess", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        except (NotFoundError, LimitError):
            continue
        hits += 1
    assert hits == 0
    assert pairing.redeem(token, "Phone", "10.99.0.1").state == "waiting"


@pytest.mark.parametrize("name", ["", "   ", "\u202e\u0000"])
def test_a_telephone_without_a_name_is_called_that(box: Box, pairing: Pairing, name: str) -> None:
    assert pairing.redeem(pairing.make_offer(box.lead).token, name, ADDRESS).name == "Phone without a name"


def test_a_name_is_short_and_printable(box: Box, pairing: Pairing) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "a\u202eb\n" + "x" * 500, ADDRESS)
    assert asking.name == ("ab" + "x" * 500)[:NAME_MAX]


def test_only_a_lead_pairs(box: Box, pairing: Pairing) -> None:
    nurse = People(box.store, clock=box.clock).add("Thandi", "nurse", "730164", box.lead)
    with pytest.raises(ForbiddenError):
        pairing.make_offer(nurse)
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "Phone", ADDRESS)
    with pytest.raises(ForbiddenError):
        pairing.approve(asking.asking_id, box.store, nurse)
    assert pairing.asking is asking


def test_a_revoked_device_is_nobody(box: Box, pairing: Pairing) -> None:
    asking = pairing.redeem(pairing.make_offer(box.lead).token, "Phone", ADDRESS)
    device = pairing.approve(asking.asking_id, box.store, box.lead)
    token = pairing.collect(asking.claim).device_token
    devices.revoke(box.store, device.device_id, box.lead)
    with pytest.raises(MissingError):
        devices.device_of(box.store, token)
