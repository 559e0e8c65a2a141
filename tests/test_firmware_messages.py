"""Messages against recorded bytes, both ways; unknown codes are errors; nothing that a device says is text (S4)."""

import contextlib
import dataclasses
import enum
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import codes, messages, outcomes, replies
from firmware_bridge.codes import Kind, Opcode
from firmware_bridge.errors import MessageError
from firmware_bridge.messages import BeginUpdate, Hello, Illuminate, InputEvent, Query
from firmware_bridge.packet import Packet, PacketDecoder, encode_packet
from firmware_bridge.replies import Refusal, unpack_reply

RECORDED = json.loads((Path(__file__).parent / "data" / "packets" / "packets.json").read_text())


def message_of(record: dict[str, Any]) -> Any:
    """Build the message that a record describes, from its class and its numbers."""
    for module in (messages, replies):
        if hasattr(module, record["message"]):
            kind = getattr(module, record["message"])
            hints = typing.get_type_hints(kind)
            return kind(**{name: hints[name](value) for name, value in record["fields"].items()})
    raise AssertionError(record["message"])


def unpacked(packet: Packet) -> Any:
    match packet.kind:
        case Kind.ACK:
            return unpack_reply(packet.opcode, packet.payload)
        case Kind.NAK:
            return Refusal.unpack(packet.payload)
        case Kind.EVENT:
            return InputEvent.unpack(packet.opcode, packet.payload)
    commands: dict[int, Any] = {Opcode.HELLO: Hello, Opcode.ILLUMINATION: Illuminate, Opcode.UPDATE: BeginUpdate}
    if packet.opcode in commands:
        return commands[packet.opcode].unpack(packet.payload)
    return Query(opcode=Opcode(packet.opcode))


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record["name"])
def test_message_becomes_the_recorded_bytes(record: dict[str, Any]) -> None:
    packet = Packet(
        kind=Kind(record["kind"]),
        opcode=record["opcode"],
        session=record["session"],
        sequence=record["sequence"],
        payload=message_of(record).pack(),
    )
    assert encode_packet(packet).hex() == record["wire"]


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record["name"])
def test_recorded_bytes_become_the_message(record: dict[str, Any]) -> None:
    (packet,) = PacketDecoder().feed(bytes.fromhex(record["wire"]))
    assert isinstance(packet, Packet)
    assert (packet.kind, packet.opcode) == (record["kind"], record["opcode"])
    assert (packet.session, packet.sequence) == (record["session"], record["sequence"])
    assert unpacked(packet) == message_of(record)


def test_every_opcode_is_recorded() -> None:
    assert {record["opcode"] for record in RECORDED} >= set(Opcode)


@given(st.integers(0, 255), st.binary(max_size=32))
def test_any_payload_is_a_message_or_a_message_error(opcode: int, payload: bytes) -> None:
    for reader in (lambda: unpack_reply(opcode, payload), lambda: InputEvent.unpack(opcode, payload)):
        with contextlib.suppress(MessageError):
            reader()


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (Opcode.HEARTBEAT, b"\0\0\0\0\x03\0\0\0\0\0\0\0"),
        (Opcode.HEARTBEAT, b"\0\0\0\0\0\0\0\0\x08\0\0\0"),
        (Opcode.HEARTBEAT, b"\0\0\0\0\0\0\0\0\0\x09\0\0"),
        (Opcode.HEARTBEAT, b"\0\0\0\0\0\0\0\0\0\0\x40\0"),
        (Opcode.BATTERY, b"\0\0\x65\0"),
        (Opcode.BATTERY, b"\0\0\0\x04"),
        (Opcode.FIRMWARE, b"\x04" + bytes(11)),
        (Opcode.TEMPERATURE, b"\0"),
        (0x7F, b""),
    ],
)
def test_unknown_code_in_a_reply_is_an_error(opcode: int, payload: bytes) -> None:
    with pytest.raises(MessageError):
        unpack_reply(opcode, payload)


@pytest.mark.parametrize(("level", "limit"), [(0, 100), (101, 100), (50, 0), (50, 10_001)])
def test_order_for_light_outside_the_limits_cannot_be_made(level: int, limit: int) -> None:
    with pytest.raises(MessageError):
        Illuminate(mode=codes.IlluminationMode.WHITE, level_percent=level, time_limit_ms=limit)


def test_only_numbers_leave_the_device() -> None:
    kinds = [
        kind
        for kind in vars(replies).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == replies.__name__
    ]
    kinds += [InputEvent, outcomes.Happened]
    assert len(kinds) > 8
    for kind in kinds:
        for field, hint in typing.get_type_hints(kind).items():
            if not field.startswith("_"):
                assert hint in (int, float) or issubclass(hint, enum.IntEnum | enum.IntFlag), (kind, field, hint)
