"""K4: PINs cannot be guessed, whatever the power and the clock do; and sessions end when nobody is there."""

import random
from datetime import datetime, timedelta

import pytest
from manual_clock import ManualClock
from records_boxes import LEAD_PIN, Box

from appliance.records import people as people_module
from appliance.records.clinic_key import SheetKey
from appliance.records.devices import device_of, devices, pair, revoke
from appliance.records.errors import (
    ForbiddenError,
    MissingError,
    NotSavedError,
    ReadOnlyError,
    ThrottledError,
    WrongSecretError,
)
from appliance.records.people import GUESSES_MAX, People, wait_after
from appliance.records.pins import BOX_SECRET_NAME, is_pin
from appliance.records.sessions import FRESH_S, IDLE_S, LONGEST_S, Session
from appliance.records.users import PERMISSIONS, Role, User

NURSE_PIN = "739105"


class JumpingClock(ManualClock):
    """A date that somebody may set to anything; the boot's monotonic clock does not care."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = timedelta()

    def now_at(self) -> datetime:
        return super().now_at() + self.set_by


@pytest.fixture
def people(box: Box) -> People:
    return People(box.store, clock=box.clock, boot="boot 1")


@pytest.fixture
def nurse(people: People, box: Box) -> User:
    return people.add("Brother Ben", "nurse", NURSE_PIN, box.lead)


def test_right_pin_signs_in_and_forgives_the_wrong_ones(people: People, nurse: User, box: Box) -> None:
    for _ in range(3):
        with pytest.raises(WrongSecretError, match="wrong"):
            people.sign_in(nurse.user_id, "000001")
        box.clock.passed_s += 10
    assert people.sign_in(nurse.user_id, NURSE_PIN).name == "Brother Ben"
    with pytest.raises(WrongSecretError):
        people.sign_in(nurse.user_id, "000001")
    box.clock.passed_s += wait_after(1)
    assert people.sign_in(nurse.user_id, NURSE_PIN).role == "nurse"


def test_each_wrong_pin_costs_twice_the_time(people: People, nurse: User, box: Box) -> None:
    for guesses in range(1, 8):
        with pytest.raises(WrongSecretError):
            people.sign_in(nurse.user_id, "000001")
        wait_s = min(2.0 ** (guesses - 1), 300.0)
        box.clock.passed_s += wait_s - 0.01
        with pytest.raises(ThrottledError, match="try again in") as refused:
            people.sign_in(nurse.user_id, NURSE_PIN)
        assert refused.value.wait_s == pytest.approx(0.01, abs=1e-6)
        box.clock.passed_s += 0.02


def test_guesses_of_one_user_are_not_anothers(people: People, nurse: User, box: Box) -> None:
    with pytest.raises(WrongSecretError):
        people.sign_in(nurse.user_id, "000001")
    assert people.sign_in(box.lead.user_id, LEAD_PIN).role == "lead"


@pytest.mark.parametrize("rounds", [300])
def test_no_more_than_twenty_pins_are_ever_compared(
    box: Box, nurse: User, seed: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guesser who may cut the power, set the clock and wait, as often as they like."""
    rng, compared = random.Random(seed), 0
    clock = JumpingClock()

    def counted(pin: str, kept: str, secret: bytes) -> bool:
        nonlocal compared
        compared += 1
        return is_pin(pin, kept, secret) if compared == 1 else False

    monkeypatch.setattr(people_module, "is_pin", counted)
    current = Box(folder=box.folder, store=box.store, made=box.made, lead=box.lead, clock=clock)
    people, boots = People(current.store, clock=clock, boot="boot 0"), 0
    for _ in range(rounds):
        match rng.randrange(5):
            case 0:  # the power goes, and comes back: a new boot, its clock from nothing
                boots += 1
                clock.passed_s = rng.choice([0.0, 5.0, 1e6])
                current = current.reopen(is_unlocked=False)
                people = People(current.store, clock=clock, boot=f"boot {boots}")
            case 1:
                clock.set_by = timedelta(days=rng.choice([-400, -1, 1, 400]))
            case 2:
                clock.passed_s += rng.choice([1, 60, 301, 1000])
            case _:
                with pytest.raises((WrongSecretError, ThrottledError)):
                    people.sign_in(nurse.user_id, "000001")
    assert 5 < compared <= GUESSES_MAX
    current.store.close()


def test_control_a_count_in_memory_is_given_back_by_a_restart(box: Box, nurse: User) -> None:
    """What the count on the disk is for: deleting it gives the guesses back, so the test above can fail."""
    compared = 0
    for number in range(GUESSES_MAX + 1):
        people = People(box.store, clock=box.clock, boot=f"boot {number}")
        with pytest.raises(WrongSecretError):
            people.sign_in(nurse.user_id, "000001")
        compared += 1
        box.store.saver.connection.execute("DELETE FROM pin_guard")
    assert compared > GUESSES_MAX


def test_twentieth_wrong_pin_closes_the_user_until_the_lead_helps(people: People, nurse: User, box: Box) -> None:
    for _ in range(GUESSES_MAX):
        box.clock.passed_s += 301
        with pytest.raises(WrongSecretError):
            people.sign_in(nurse.user_id, "000001")
    box.clock.passed_s += 1e6
    with pytest.raises(ThrottledError, match="ask the lead") as refused:
        people.sign_in(nurse.user_id, NURSE_PIN)
    assert refused.value.wait_s is None
    people.reset_pin(nurse.user_id, "864201", box.lead)
    assert people.sign_in(nurse.user_id, "864201").user_id == nurse.user_id


def test_guess_that_cannot_be_counted_is_not_compared(
    people: People, nurse: User, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    monkeypatch.setattr(people_module, "is_pin", lambda *typed: compared.append(typed))
    box.store.saver.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(ReadOnlyError):
        people.sign_in(nurse.user_id, NURSE_PIN)
    assert compared == []


def test_lead_who_forgot_the_pin_is_helped_by_a_recovery_sheet(people: People, nurse: User, box: Box) -> None:
    people.reset_lead_pin(box.lead.user_id, "864201", SheetKey(box.made.sheets[1]))
    assert people.sign_in(box.lead.user_id, "864201").role == "lead"
    with pytest.raises(ForbiddenError):
        people.reset_lead_pin(nurse.user_id, "864201", box.sheet())


def test_only_the_lead_changes_who_works_here(people: People, nurse: User, box: Box) -> None:
    for forbidden in (
        lambda: people.add("Eve", "nurse", "918273", nurse),
        lambda: people.remove(box.lead.user_id, nurse),
        lambda: people.reset_pin(box.lead.user_id, "918273", nurse),
        lambda: people.remove(box.lead.user_id, box.lead),
    ):
        with pytest.raises(ForbiddenError):
            forbidden()
    people.remove(nurse.user_id, box.lead)
    assert nurse.user_id not in {user.user_id for user in people.users()}
    assert people.user(nurse.user_id).name == "Brother Ben"
    with pytest.raises(ForbiddenError, match="does not work here"):
        people.sign_in(nurse.user_id, NURSE_PIN)
    with pytest.raises(MissingError):
        people.user("0" * 32)


def test_name_is_ones_own_and_a_pin_is_changed_by_who_knows_it(people: People, nurse: User, box: Box) -> None:
    for name in ("Brother Ben", " "):
        with pytest.raises(WrongSecretError, match="name"):
            people.add(name, "nurse", "918273", box.lead)
    people.change_pin(nurse.user_id, NURSE_PIN, "918273")
    assert people.sign_in(nurse.user_id, "918273").user_id == nurse.user_id
    with pytest.raises(WrongSecretError, match="easy"):
        people.change_pin(nurse.user_id, "918273", "234567")


@pytest.mark.parametrize("left", [None, b"", b"x" * 31])
def test_without_the_boxs_secret_no_pin_holds_and_each_is_set_anew(box: Box, nurse: User, left: bytes | None) -> None:
    """As after a restore onto another box, or with a stolen backup."""
    path = box.folder / BOX_SECRET_NAME
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    people = People(box.store, clock=box.clock, boot="boot 2")
    with pytest.raises(ThrottledError, match="No PIN holds"):
        people.sign_in(nurse.user_id, NURSE_PIN)
    assert people.wait_s(nurse.user_id) is None
    assert len(path.read_bytes()) == 32
    people.reset_lead_pin(box.lead.user_id, "864201", box.sheet())
    people.reset_pin(nurse.user_id, NURSE_PIN, people.sign_in(box.lead.user_id, "864201"))
    # The secret that was made stays.
    again = People(box.store, clock=box.clock, boot="boot 3")
    assert again.sign_in(nurse.user_id, NURSE_PIN).name == nurse.name
    assert box.store.verify_audit().problems == ()


def test_a_disk_that_does_not_take_the_secret_sets_no_pin(
    box: Box, nurse: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (box.folder / BOX_SECRET_NAME).unlink()
    monkeypatch.setattr("appliance.records.box_secret.replace_file", refuse)
    people = People(box.store, clock=box.clock, boot="boot 2")
    with pytest.raises(NotSavedError, match="no PIN can be set"):
        people.reset_pin(nurse.user_id, NURSE_PIN, box.lead)


@pytest.mark.parametrize(
    ("role", "forbidden"),
    [
        ("nurse", {"export", "erase", "people", "update", "audit"}),
        ("technician", {"capture", "read", "assess", "export", "erase", "witness", "people", "audit"}),
        ("clinician", {"capture", "assess", "export", "erase", "witness", "people", "backup", "update", "audit"}),
        ("lead", set()),
    ],
)
def test_roles_may_what_the_table_says(role: Role, forbidden: set[str]) -> None:
    assert PERMISSIONS[role] == PERMISSIONS["lead"] - forbidden


def test_device_comes_with_its_token_until_it_is_revoked(box: Box, nurse: User) -> None:
    tablet, token = pair(box.store, "Tablet", box.lead)
    _, other = pair(box.store, "Telephone", box.lead)
    assert device_of(box.store, token) == tablet
    assert token.encode() not in b"".join(path.read_bytes() for path in box.folder.glob("records.sqlite*"))
    with pytest.raises(ForbiddenError):
        pair(box.store, "Eve's", nurse)
    with pytest.raises(ForbiddenError):
        revoke(box.store, tablet.device_id, nurse)
    revoke(box.store, tablet.device_id, box.lead)
    for refused in (token, other[:-1], ""):
        with pytest.raises(MissingError, match="not paired"):
            device_of(box.store, refused)
    assert [(device.name, device.is_revoked) for device in devices(box.store)] == [
        ("Tablet", True),
        ("Telephone", False),
    ]


def test_session_locks_when_nobody_touches_it() -> None:
    session = Session().signed_in("ben", 100.0)
    assert session.touched(100 + IDLE_S - 1).state == "active"
    assert session.at(100 + IDLE_S).state == "locked"
    assert session.touched(100 + IDLE_S).state == "locked"
    assert session.idle_left_s(160.0) == IDLE_S - 60


def test_same_pin_opens_a_locked_session_and_anothers_begins_a_new_one() -> None:
    locked = Session().signed_in("ben", 0.0).locked()
    assert (locked.state, locked.user_id) == ("locked", "ben")
    assert locked.signed_in("ben", 50.0).signed_in_s == 0.0
    assert locked.signed_in("asha", 50.0).signed_in_s == 50.0


def test_session_ends_after_twelve_hours_and_by_a_clock_that_went_back() -> None:
    session = Session().signed_in("ben", 1000.0)
    for minute in range(1, 720):
        session = session.touched(1000.0 + 60 * minute)
    assert session.state == "active"
    assert session.at(1000.0 + LONGEST_S).state == "signed-out"
    assert session.at(500.0).state == "signed-out"


def test_pin_counts_as_just_typed_for_two_minutes() -> None:
    session = Session().signed_in("ben", 0.0)
    assert session.has_fresh_pin(FRESH_S)
    assert not session.touched(FRESH_S).has_fresh_pin(FRESH_S + 1)
    assert not session.locked().has_fresh_pin(1.0)
    assert not Session().has_fresh_pin(0.0)
    assert session.signed_out().state == "signed-out"
