"""The packet codec: what it takes back, what it refuses, and that noise never becomes a packet (S1)."""

import binascii
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.cobs import decode_cobs, encode_cobs
from firmware_bridge.codes import Kind
from firmware_bridge.errors import (
    ChecksumError,
    HeaderError,
    OversizedError,
    PacketError,
    SizeError,
    StuffingError,
)
from firmware_bridge.faults import damage
from firmware_bridge.packet import ENCODED_MAX_BYTES, Packet, PacketDecoder, decode_body, encode_packet

PACKETS = st.builds(
    Packet,
    kind=st.sampled_from(Kind),
    opcode=st.integers(0, 255),
    session=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 0xFFFF),
    payload=st.binary(max_size=32),
)
CI_FRAMES = 20_000
SLOW_FRAMES = 1_000_000


def decoded(data: bytes) -> list[Packet | PacketError]:
    return list(PacketDecoder().feed(data))


def packets_in(data: bytes) -> list[Packet]:
    return [item for item in decoded(data) if isinstance(item, Packet)]


def test_crc_is_the_one_of_the_protocol() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926


@given(st.binary(max_size=600))
def test_cobs_takes_back_what_it_gave_without_zeros(body: bytes) -> None:
    encoded = encode_cobs(body)
    assert 0 not in encoded
    assert decode_cobs(encoded) == body
    assert len(encoded) <= len(body) + len(body) // 254 + 1


@pytest.mark.parametrize("encoded", [b"\x02", b"\x03\x01", b"\x01\x00\x01"])
def test_cobs_refuses_distances_that_lead_outside_and_zeros(encoded: bytes) -> None:
    with pytest.raises(StuffingError):
        decode_cobs(encoded)


@given(PACKETS)
def test_packet_survives_the_wire(packet: Packet) -> None:
    assert decoded(encode_packet(packet)) == [packet]


@given(st.lists(PACKETS, max_size=5), st.data())
def test_stream_may_be_cut_anywhere(packets: list[Packet], data: st.DataObject) -> None:
    wire = b"".join(map(encode_packet, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    decoder = PacketDecoder()
    found = [
        item
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)
        for item in decoder.feed(wire[start:end])
    ]
    assert found == packets


@given(st.binary(max_size=300), PACKETS)
def test_noise_before_a_packet_does_not_swallow_it(noise: bytes, packet: Packet) -> None:
    assert packets_in(noise + encode_packet(packet))[-1] == packet


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_decoder_never_raises_and_stays_small(pieces: list[bytes]) -> None:
    decoder = PacketDecoder()
    for piece in pieces:
        list(decoder.feed(piece))
        assert len(decoder._pending) <= ENCODED_MAX_BYTES


def test_oversized_input_is_thrown_away_up_to_the_next_delimiter() -> None:
    packet = Packet(kind=Kind.ACK, opcode=2, session=1, sequence=1)
    items = decoded(b"\x01" * 100_000 + encode_packet(packet))
    assert isinstance(items[0], OversizedError)
    assert items[1:] == [packet]


def body_of(**changes: int) -> bytes:
    header = {"version": 1, "kind": 2, "opcode": 2, "length": 0} | changes
    covered = bytes(header.values()) + b"\x01\x00\x01\x00"
    return covered + zlib.crc32(covered).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (body_of()[:-1], SizeError),
        (body_of()[:-1] + b"\xff", ChecksumError),
        (body_of(version=2), HeaderError),
        (body_of(kind=0), HeaderError),
        (body_of(kind=6), HeaderError),
        (body_of(length=1), SizeError),
    ],
)
def test_damaged_body_is_refused_for_its_fault(body: bytes, error: type[PacketError]) -> None:
    assert decode_body(body_of()).opcode == 2
    with pytest.raises(error):
        decode_body(body)


@pytest.mark.parametrize("change", [{"payload": bytes(33)}, {"session": 0x10000}, {"sequence": -1}, {"opcode": 256}])
def test_packet_that_does_not_fit_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(PacketError):
        Packet(**({"kind": Kind.COMMAND, "opcode": 1, "session": 1, "sequence": 1} | change))  # type: ignore[arg-type]  # on purpose


# S1: noise. A frame is undetected when something is decoded that was not sent.


def corrupted(wires: list[bytes], generator: random.Random) -> bytes:
    """Return one damaged frame: random, flips, burst, lost, doubled or foreign bytes, reordered halves, splice."""
    one, other = generator.choice(wires), generator.choice(wires)
    kind = generator.randrange(4)
    at = generator.randrange(1, len(one) - 1)
    if kind == 0:
        return generator.randbytes(generator.randint(13, 45))
    if kind == 1:
        return one[at:] + one[:at]
    if kind == 2:
        return one[:at] + other[generator.randrange(1, len(other) - 1) :]
    return damage(one, generator)


def undetected(count: int, generator: random.Random, check_bytes: int) -> int:
    """Count frames of which something that was never sent passes a check of 4 (CRC-32) or 2 (CRC-16) bytes."""
    bodies = [generator.randbytes(generator.randint(8, 40)) for _ in range(64)]
    if check_bytes == 4:
        sent: list[Packet] | list[bytes] = [_packet(body, generator) for body in bodies]
        wires = [encode_packet(packet) for packet in sent if isinstance(packet, Packet)]
    else:
        sent, wires = bodies, [b"\0" + encode_cobs(body + _crc16(body)) + b"\0" for body in bodies]
    genuine = set(sent)
    wrong = 0
    for _ in range(count):
        data = b"\0" + corrupted(wires, generator) + b"\0"
        found = packets_in(data) if check_bytes == 4 else _bodies_by_crc16(data)
        wrong += any(item not in genuine for item in found)
    return wrong


def _packet(body: bytes, generator: random.Random) -> Packet:
    numbers = {"session": generator.randrange(0x10000), "sequence": generator.randrange(0x10000)}
    return Packet(kind=generator.choice(list(Kind)), opcode=generator.randrange(256), payload=body[:32], **numbers)


def _crc16(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def _bodies_by_crc16(data: bytes) -> list[bytes]:
    found = []
    for piece in data.split(b"\0"):
        try:
            body = decode_cobs(piece)
        except StuffingError:
            continue
        if len(body) >= 10 and _crc16(body[:-2]) == body[-2:]:
            found.append(body[:-2])
    return found


def test_no_corrupted_frame_is_taken_for_a_packet(seed: int) -> None:
    assert undetected(CI_FRAMES, random.Random(seed), check_bytes=4) == 0


@pytest.mark.slow
def test_no_corrupted_frame_of_a_million_is_taken_for_a_packet(seed: int) -> None:
    assert undetected(SLOW_FRAMES, random.Random(seed), check_bytes=4) == 0


@pytest.mark.slow
def test_control_crc16_lets_corrupted_frames_of_a_million_through(seed: int) -> None:
    passed = undetected(SLOW_FRAMES, random.Random(seed), check_bytes=2)
    print(f"CRC-16 let {passed} of {SLOW_FRAMES} corrupted frames through")  # noqa: T201 - the figure is the result
    assert passed > 0


def test_control_crc16_lets_noise_through(seed: int) -> None:
    generator = random.Random(seed)
    # One in 65,536 passes; that none of two million does has a chance of e**-30.
    assert any(binascii.crc_hqx(generator.randbytes(14), 0xFFFF) == 0 for _ in range(2_000_000))


def test_control_without_a_check_damage_is_taken_for_packets(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_bridge.packet._CHECK", _Blind())
    assert undetected(2_000, random.Random(seed), check_bytes=4) > 0


class _Blind:
    """A check field that says what the reader wants to hear."""

    size = 4

    def pack(self, check: int) -> bytes:
        return check.to_bytes(4, "little")

    def unpack(self, _: bytes) -> tuple[object]:
        return (_EqualToAll(),)


class _EqualToAll:
    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]  # nothing keeps it
