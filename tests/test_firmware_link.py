"""The link's state machine in virtual time: matching, retransmission, sessions, events, and the faults of S2 and S3."""

import dataclasses
import random

import pytest

from firmware_bridge import link as link_module
from firmware_bridge.codes import Faults, IlluminationMode, Inputs, Kind, NakReason, OffReason, Opcode, ResetCause
from firmware_bridge.errors import PacketError
from firmware_bridge.faults import FaultRates, FaultyLine
from firmware_bridge.link import EVENTS_PER_SECOND_MAX, Link
from firmware_bridge.messages import Illuminate, InputEvent, Query
from firmware_bridge.outcomes import Answered, Failed, Failure, Happened, Light, LinkState, Refused, StatusReported
from firmware_bridge.packet import Packet, PacketDecoder, encode_packet
from firmware_bridge.rehearsal import Rehearsal
from firmware_bridge.replies import HelloReply, IlluminationReply, Refusal, StatusReply, TemperatureReply

LIGHT = Illuminate(mode=IlluminationMode.WHITE, level_percent=80, time_limit_ms=10_000)
DARK = Illuminate(mode=IlluminationMode.OFF)
ASK = Query(opcode=Opcode.TEMPERATURE)
WATCHDOG_MS = 250
RESYNC_MAX_MS = 1000
SAID_MAX_MS = 1000


@pytest.fixture
def rehearsal() -> Rehearsal:
    ready = Rehearsal()
    ready.plug_in()
    assert ready.advance_until_ready(100) is not None
    ready.advance(5)  # the first heartbeat is answered
    return ready


def light_of(link: Link) -> Light:
    return link.light


def state_of(link: Link) -> LinkState:
    return link.state


def lit(rehearsal: Rehearsal) -> IlluminationMode:
    return rehearsal.device.state.light.mode


def faulty(seed: int, **rates: float) -> Rehearsal:
    generator = random.Random(seed)
    lines = FaultyLine(FaultRates(**rates), generator), FaultyLine(FaultRates(**rates), generator)
    return Rehearsal(lines=lines, first_session=generator.randint(1, 0xFFFF))


def submit(rehearsal: Rehearsal, command: Illuminate | Query) -> int:
    return rehearsal.link.submit(command, rehearsal.now_s)


def outcome(rehearsal: Rehearsal, ticket: int) -> Answered | Refused | Failed:
    (found,) = [item for item in rehearsal.outcomes if getattr(item, "ticket", None) == ticket]
    assert isinstance(found, Answered | Refused | Failed)
    return found


def events(rehearsal: Rehearsal) -> list[Happened]:
    return [item for item in rehearsal.outcomes if isinstance(item, Happened)]


# Sessions and commands


def test_hello_confirms_that_the_light_is_off(rehearsal: Rehearsal) -> None:
    assert rehearsal.link.state is LinkState.READY
    assert rehearsal.link.light is Light.OFF_CONFIRMED


def test_command_is_answered_and_changes_what_is_known(rehearsal: Rehearsal) -> None:
    ticket = submit(rehearsal, LIGHT)
    assert light_of(rehearsal.link) is Light.UNCONFIRMED
    rehearsal.advance(5)
    answer = outcome(rehearsal, ticket)
    assert answer == Answered(
        ticket=ticket,
        reply=IlluminationReply(mode=IlluminationMode.WHITE, level_percent=80, remaining_ms=10_000),
    )
    assert light_of(rehearsal.link) is Light.ON_CONFIRMED


def test_lost_answer_is_asked_again_and_obeyed_once(rehearsal: Rehearsal) -> None:
    rehearsal.to_host.is_silent = True
    ticket = submit(rehearsal, LIGHT)
    rehearsal.advance(50)
    rehearsal.to_host.is_silent = False
    rehearsal.advance(100)
    assert isinstance(outcome(rehearsal, ticket), Answered)
    assert rehearsal.link.counters.retransmissions == 1
    assert rehearsal.device.state.counts["duplicates"] == 1


def test_corrupt_command_is_repeated_before_the_timeout(rehearsal: Rehearsal) -> None:
    rehearsal.advance(300)
    ticket = submit(rehearsal, ASK)
    wire = bytearray(rehearsal.link.take_outgoing())
    wire[5] ^= 1
    rehearsal.device.receive(bytes(wire))
    rehearsal.advance(5)
    assert isinstance(outcome(rehearsal, ticket), Answered)


def test_command_that_is_never_answered_has_an_unknown_outcome(rehearsal: Rehearsal) -> None:
    rehearsal.to_host.is_silent = True
    ticket, waiting = submit(rehearsal, LIGHT), submit(rehearsal, ASK)
    rehearsal.advance(410)
    assert outcome(rehearsal, ticket) == Failed(ticket=ticket, failure=Failure.UNKNOWN)
    assert outcome(rehearsal, waiting) == Failed(ticket=waiting, failure=Failure.ABSENT)
    assert rehearsal.link.light is Light.UNCONFIRMED


def test_refusal_carries_its_number(rehearsal: Rehearsal) -> None:
    rehearsal.device.inputs.temperature_centidegrees_c = 4800
    rehearsal.advance(1)
    ticket = submit(rehearsal, LIGHT)
    rehearsal.advance(5)
    assert outcome(rehearsal, ticket) == Refused(ticket=ticket, refusal=Refusal(reason=NakReason.HOT, detail=0))


def test_reset_in_mid_command_is_told_and_the_light_is_off(rehearsal: Rehearsal) -> None:
    submit(rehearsal, LIGHT)
    rehearsal.advance(5)
    ticket = submit(rehearsal, ASK)
    rehearsal.device.reset(ResetCause.WATCHDOG)
    rehearsal.advance(20)
    assert outcome(rehearsal, ticket) == Failed(ticket=ticket, failure=Failure.UNKNOWN)
    assert rehearsal.link.state is LinkState.READY
    assert rehearsal.link.light is Light.OFF_CONFIRMED


def test_off_goes_before_all_that_waits_and_drops_orders_for_light(rehearsal: Rehearsal) -> None:
    first, asked, light, dark = (submit(rehearsal, command) for command in (ASK, ASK, LIGHT, DARK))
    rehearsal.advance(20)
    order = [item.ticket for item in rehearsal.outcomes if isinstance(item, Answered)]
    assert order == [first, dark, asked]
    assert outcome(rehearsal, light) == Failed(ticket=light, failure=Failure.SUPERSEDED)
    assert rehearsal.link.light is Light.OFF_CONFIRMED


def test_queue_is_bounded(rehearsal: Rehearsal) -> None:
    tickets = [submit(rehearsal, ASK) for _ in range(20)]
    rehearsal.advance(1)
    assert outcome(rehearsal, tickets[-1]) == Failed(ticket=tickets[-1], failure=Failure.BUSY)


def test_without_a_port_commands_fail_at_once() -> None:
    rehearsal = Rehearsal()
    ticket = submit(rehearsal, LIGHT)
    assert rehearsal.link.take_outcomes() == [Failed(ticket=ticket, failure=Failure.ABSENT)]
    assert rehearsal.link.take_outgoing() == b""


def test_sequence_numbers_never_wrap_within_a_session(rehearsal: Rehearsal) -> None:
    assert rehearsal.device._answer is not None
    rehearsal.device._answer = dataclasses.replace(rehearsal.device._answer, sequence=0xFFFD)
    rehearsal.link._sequence = 0xFFFE
    sessions = rehearsal.link.counters.sessions
    tickets = [submit(rehearsal, ASK) for _ in range(4)]
    rehearsal.advance(30)
    assert all(isinstance(outcome(rehearsal, ticket), Answered) for ticket in tickets)
    assert rehearsal.link.counters.sessions == sessions + 1


def test_hello_with_the_session_that_the_device_takes_for_stale_does_not_lock_out() -> None:
    rehearsal = Rehearsal(first_session=7)
    rehearsal.device.state.previous_session = 7
    rehearsal.plug_in()
    assert rehearsal.advance_until_ready(RESYNC_MAX_MS) is not None


def test_device_of_another_version_is_said_to_be_incompatible(rehearsal: Rehearsal) -> None:
    link = Link(first_session=1)
    link.connect(0.0)
    hello = sent(link)
    link.receive(answer(hello, Kind.NAK, Refusal(reason=NakReason.VERSION, detail=2).pack()), 0.01)
    assert state_of(link) is LinkState.INCOMPATIBLE
    assert link.light is Light.UNCONFIRMED
    link.tick(6.0)
    assert state_of(link) is LinkState.OPENING


def test_echo_of_our_own_packets_is_ignored() -> None:
    link = Link(first_session=1)
    link.connect(0.0)
    link.receive(link.take_outgoing(), 0.0)
    assert state_of(link) is LinkState.OPENING
    assert link.counters.stale == 1


def test_reply_with_an_unknown_code_is_malformed_not_shown(rehearsal: Rehearsal) -> None:
    ticket = submit(rehearsal, ASK)
    command = sent(rehearsal.link)
    rehearsal.link.receive(answer(command, Kind.ACK, b"<script>"), rehearsal.now_s)
    assert rehearsal.link.take_outcomes() == [Failed(ticket=ticket, failure=Failure.MALFORMED)]


# The device's own limits


@pytest.mark.parametrize(
    ("limit_ms", "expected", "within_ms"), [(500, OffReason.TIME_LIMIT, 510), (9000, OffReason.HOST_SILENT, 1260)]
)
def test_device_turns_the_light_off_by_itself(
    rehearsal: Rehearsal, limit_ms: int, expected: OffReason, within_ms: int
) -> None:
    submit(rehearsal, Illuminate(mode=IlluminationMode.POLARISED, level_percent=10, time_limit_ms=limit_ms))
    rehearsal.advance(5)
    assert lit(rehearsal) is IlluminationMode.POLARISED
    rehearsal.to_device.is_silent = expected is OffReason.HOST_SILENT
    rehearsal.advance(within_ms)
    assert lit(rehearsal) is IlluminationMode.OFF
    assert rehearsal.device.state.light.off_reason is expected


def test_light_off_by_itself_is_reported(rehearsal: Rehearsal) -> None:
    submit(rehearsal, LIGHT)
    rehearsal.advance(5)
    rehearsal.device.inputs.battery_mv = 3200
    rehearsal.advance(10)
    assert [(item.opcode, item.value) for item in events(rehearsal)] == [(Opcode.LIGHT_OFF, OffReason.BATTERY)]
    assert rehearsal.link.off_reason is OffReason.BATTERY


def test_continuous_light_ends_after_three_minutes_however_often_renewed(rehearsal: Rehearsal) -> None:
    for _ in range(23):
        submit(rehearsal, LIGHT)
        rehearsal.advance(8000)
    assert rehearsal.device.state.light.off_reason is OffReason.CONTINUOUS
    refused = submit(rehearsal, LIGHT)
    rehearsal.advance(5)
    assert outcome(rehearsal, refused) == Refused(ticket=refused, refusal=Refusal(reason=NakReason.RESTING, detail=0))
    rehearsal.advance(10_000)
    granted = submit(rehearsal, LIGHT)
    rehearsal.advance(5)
    assert isinstance(outcome(rehearsal, granted), Answered)


def test_without_a_temperature_sensor_the_level_is_capped_and_said(rehearsal: Rehearsal) -> None:
    rehearsal.device.inputs.temperature_centidegrees_c = 0x7FFF
    rehearsal.advance(1)
    ticket = submit(rehearsal, LIGHT)
    rehearsal.advance(300)
    reply = getattr(outcome(rehearsal, ticket), "reply", None)
    assert isinstance(reply, IlluminationReply)
    assert reply.level_percent == 40
    statuses = [item.status for item in rehearsal.outcomes if isinstance(item, StatusReported)]
    assert statuses[-1].faults == Faults.NO_TEMPERATURE


# Events


def test_press_is_delivered_once_with_its_time_although_acks_are_lost(rehearsal: Rehearsal) -> None:
    rehearsal.to_device.is_silent = True
    pressed_s = rehearsal.now_s
    rehearsal.device.inputs.buttons = Inputs.SHUTTER
    rehearsal.advance(250)
    rehearsal.to_device.is_silent = False
    rehearsal.advance(500)
    (event,) = events(rehearsal)
    assert (event.opcode, event.value) == (Opcode.SHUTTER, 1)
    assert event.occurred_s == pytest.approx(pressed_s, abs=0.003)


def test_press_that_the_host_missed_for_half_a_second_is_never_delivered(rehearsal: Rehearsal) -> None:
    rehearsal.to_host.is_silent = True
    rehearsal.device.inputs.buttons = Inputs.FOOT_SWITCH
    rehearsal.advance(600)
    rehearsal.to_host.is_silent = False
    rehearsal.advance(1000)
    assert events(rehearsal) == []
    assert rehearsal.device.state.counts["events_dropped"] == 1 or rehearsal.link.counters.sessions > 1


def test_bouncing_switch_is_one_press(rehearsal: Rehearsal) -> None:
    for milliseconds in (3, 2, 4, 1, 60):
        rehearsal.device.inputs.buttons ^= Inputs.SHUTTER
        rehearsal.advance(milliseconds)
    assert [item.value for item in events(rehearsal)] == [1]


def test_flood_of_events_is_capped() -> None:
    link = ready_link()
    for sequence in range(1, 200):
        link.receive(event_packet(link, sequence), 1.0 + sequence / 1000)
    assert len([item for item in link.take_outcomes() if isinstance(item, Happened)]) == EVENTS_PER_SECOND_MAX


@pytest.mark.parametrize(("age_ms", "is_delivered"), [(500, True), (501, False)])
def test_old_press_is_dropped_by_the_host_too(age_ms: int, is_delivered: bool) -> None:
    link = ready_link()
    link.receive(event_packet(link, 1, age_ms), 1.0)
    assert any(isinstance(item, Happened) for item in link.take_outcomes()) is is_delivered


def test_event_of_an_earlier_session_is_neither_delivered_nor_acknowledged() -> None:
    link = ready_link()
    stale = event_packet(link, 1)
    link.connect(1.0)
    hello = sent(link)
    link.receive(hello_answer(hello), 1.0)
    link.take_outcomes()
    link.take_outgoing()
    link.receive(stale, 1.1)
    assert not any(isinstance(item, Happened) for item in link.take_outcomes())
    assert link.take_outgoing() == b""


# S3: stale replies


def sent(link: Link) -> Packet:
    (packet,) = (item for item in PacketDecoder().feed(link.take_outgoing()) if not isinstance(item, PacketError))
    return packet


def answer(command: Packet, kind: Kind, payload: bytes) -> bytes:
    return encode_packet(
        Packet(kind=kind, opcode=command.opcode, session=command.session, sequence=command.sequence, payload=payload)
    )


def hello_answer(hello: Packet) -> bytes:
    reply = HelloReply(version=1, reset_cause=ResetCause.POWER_ON, boot_id=1, uptime_ms=1)
    return answer(hello, Kind.ACK, reply.pack())


def event_packet(link: Link, sequence: int, age_ms: int = 20) -> bytes:
    event = InputEvent(opcode=Opcode.SHUTTER, value=1, age_ms=age_ms)
    return encode_packet(
        Packet(kind=Kind.EVENT, opcode=Opcode.SHUTTER, session=link._session, sequence=sequence, payload=event.pack())
    )


def ready_link() -> Link:
    link = Link(first_session=1)
    link.connect(0.0)
    link.receive(hello_answer(sent(link)), 0.0)
    status = StatusReply(
        uptime_ms=1,
        mode=IlluminationMode.OFF,
        level_percent=0,
        remaining_ms=0,
        inputs=Inputs(0),
        off_reason=OffReason.NEVER_ON,
        faults=Faults(0),
    )
    link.receive(answer(sent(link), Kind.ACK, status.pack()), 0.0)
    link.take_outcomes()
    return link


def wrong_matches(commands: int, generator: random.Random, *, has_sequence: bool) -> int:
    """Answer commands late and out of order; count those that got another command's temperature."""
    link = ready_link()
    past: list[tuple[Packet, bytes]] = []
    wrong = 0
    for number in range(commands):
        now_s = number / 1e6
        ticket = link.submit(ASK, now_s)
        command = sent(link)
        if command.opcode == Opcode.HELLO:
            link.receive(hello_answer(command), now_s)
            command = sent(link)
        payload = TemperatureReply(centidegrees_c=number % 30_000).pack()
        for old, old_payload in generator.sample(past, min(len(past), 3)):
            named_as = old if has_sequence else command
            link.receive(answer(named_as, Kind.ACK, old_payload), now_s)
        link.receive(answer(command, Kind.ACK, payload), now_s)
        past = [*past[-20:], (command, payload)]
        for item in link.take_outcomes():
            if isinstance(item, Answered) and item.ticket == ticket:
                assert isinstance(item.reply, TemperatureReply)
                wrong += item.reply.centidegrees_c != number % 30_000
    return wrong


def test_stale_replies_are_never_matched(seed: int) -> None:
    assert wrong_matches(3_000, random.Random(seed), has_sequence=True) == 0


@pytest.mark.slow
def test_stale_replies_are_never_matched_in_a_hundred_thousand(seed: int) -> None:
    assert wrong_matches(100_000, random.Random(seed), has_sequence=True) == 0


def test_control_without_sequence_numbers_stale_replies_are_matched(seed: int) -> None:
    assert wrong_matches(100, random.Random(seed), has_sequence=False) > 0


# Noise, loss, duplicates and reordering together


def exchange(rehearsal: Rehearsal, commands: int) -> list[Answered | Refused | Failed]:
    rehearsal.plug_in()
    found = []
    for _ in range(commands):
        rehearsal.advance_until_ready(5_000)
        ticket = submit(rehearsal, LIGHT)
        for _ in range(60):
            if any(getattr(item, "ticket", None) == ticket for item in rehearsal.outcomes):
                break
            rehearsal.advance(10)
        found.append(outcome(rehearsal, ticket))
        rehearsal.outcomes.clear()
    return found


def test_commands_come_through_a_bad_line_or_say_so(seed: int) -> None:
    rehearsal = faulty(seed, noise=0.1, drop=0.1, duplicate=0.1, reorder=0.1)
    found = exchange(rehearsal, 100)
    assert sum(isinstance(item, Answered) for item in found) >= 80
    assert all(count for name, count in rehearsal.to_device.injected.items() if name in ("noise", "drop", "reorder"))


def test_control_a_line_that_loses_all_answers_nothing(seed: int) -> None:
    rehearsal = faulty(seed, drop=1.0)
    rehearsal.plug_in()
    assert rehearsal.advance_until_ready(5_000) is None


# S2: reset, hang, flood, silence


def suffer(fault: str, generator: random.Random) -> tuple[int | None, int]:
    """Light, one fault, and back; return ms until all is known again and true, and ms that a wrong light was shown.

    A hang counts from its start, the others from their end.
    """
    lines = FaultyLine(FaultRates(), generator), FaultyLine(FaultRates(), generator)
    rehearsal = Rehearsal(lines=lines, first_session=generator.randint(1, 0xFFFF))
    rehearsal.plug_in()
    assert rehearsal.advance_until_ready(RESYNC_MAX_MS) is not None
    submit(rehearsal, LIGHT)
    rehearsal.advance(generator.randint(0, 300))
    if generator.random() < 0.5:
        submit(rehearsal, ASK)
    lasts_ms = {"reset": 1, "hang": WATCHDOG_MS}.get(fault) or generator.randint(1, 1500)
    longest_ms = wrong_ms = 0
    for passed in range(lasts_ms):
        apply(fault, rehearsal, passed)
        rehearsal.advance(1)
        wrong_ms = _shown_wrongly(rehearsal, wrong_ms)
        longest_ms = max(longest_ms, wrong_ms)
    relieve(rehearsal)
    for took_ms in range(2 * RESYNC_MAX_MS):
        if _is_known_and_true(rehearsal):
            return took_ms + (WATCHDOG_MS if fault == "hang" else 0), longest_ms
        rehearsal.advance(1)
        wrong_ms = _shown_wrongly(rehearsal, wrong_ms)
        longest_ms = max(longest_ms, wrong_ms)
    return None, longest_ms


def _is_known_and_true(rehearsal: Rehearsal) -> bool:
    truth = Light.OFF_CONFIRMED if lit(rehearsal) is IlluminationMode.OFF else Light.ON_CONFIRMED
    is_one_session = rehearsal.device.state.session == rehearsal.link._session
    return is_one_session and rehearsal.link.state is LinkState.READY and rehearsal.link.light is truth


def _shown_wrongly(rehearsal: Rehearsal, so_far_ms: int) -> int:
    is_on = rehearsal.device.state.light.mode is not IlluminationMode.OFF
    is_wrong = rehearsal.link.light is (Light.OFF_CONFIRMED if is_on else Light.ON_CONFIRMED)
    return so_far_ms + 1 if is_wrong else 0


def apply(fault: str, rehearsal: Rehearsal, passed_ms: int) -> None:
    if fault == "reset" and passed_ms == 0:
        rehearsal.device.reset()
    elif fault == "hang":
        rehearsal.is_hung = True
    elif fault == "flood":
        rehearsal.to_host.is_flooding = True
        rehearsal.to_device.is_silent = True
    elif fault == "silence":
        rehearsal.to_host.is_silent = rehearsal.to_device.is_silent = True


def relieve(rehearsal: Rehearsal) -> None:
    if rehearsal.is_hung:
        # The hardware watchdog ends a hang.
        rehearsal.device.reset(ResetCause.WATCHDOG)
    rehearsal.is_hung = rehearsal.to_host.is_flooding = False
    rehearsal.to_host.is_silent = rehearsal.to_device.is_silent = False


def check_faults(fault: str, trials: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    times = []
    for _ in range(trials):
        took_ms, wrong_ms = suffer(fault, generator)
        assert took_ms is not None
        assert took_ms <= RESYNC_MAX_MS
        assert wrong_ms <= SAID_MAX_MS
        times.append(took_ms)
    return sorted(times)


@pytest.mark.parametrize("fault", ["reset", "hang", "flood", "silence"])
def test_link_is_back_within_a_second_and_knows_the_light(fault: str, seed: int) -> None:
    check_faults(fault, 25, seed)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset", "hang", "flood", "silence"])
def test_link_is_back_within_a_second_five_hundred_times(fault: str, seed: int) -> None:
    times = check_faults(fault, 500, seed)
    print(f"{fault}: resync median {times[250]} ms, p95 {times[475]} ms, max {times[-1]} ms")  # noqa: T201 - the result


def test_control_a_link_that_never_gives_up_waiting_shows_a_light_that_is_off(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "ANSWER_TIMEOUT_S", 1e9)
    with pytest.raises(AssertionError):
        check_faults("silence", 25, seed)
