"""What can go wrong on the line, on purpose: noise, loss, duplicates, reordering, silence, flood. Seeded, repeatable.

A `FaultyLine` stands in one direction between two ends. It cuts the bytes into packets to lose or reorder whole ones,
as a driver's buffer would; noise knows no packets.
"""

import random
from collections import deque
from dataclasses import dataclass, fields

FLOOD_CHUNK_BYTES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """Chances from 0 to 1, each per packet; `noise` damages one by flipped, lost, doubled or foreign bytes.

    Raises:
        ValueError: A chance is outside 0 to 1.
    """

    noise: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) <= 1:
                raise ValueError(f"{item.name} is a chance from 0 to 1, not {getattr(self, item.name)}.")


class FaultyLine:
    """One direction of a bad line. Set `is_silent` to lose everything, `is_flooding` to drown it in garbage.

    `injected` counts the faults by name, so that a test can tell that they happened.
    """

    def __init__(self, rates: FaultRates, generator: random.Random) -> None:
        self.is_silent = False
        self.is_flooding = False
        self.injected: dict[str, int] = {item.name: 0 for item in fields(FaultRates)} | {"silence": 0, "flood": 0}
        self._rates = rates
        self._generator = generator
        self._partial = b""
        self._held: deque[bytes] = deque(maxlen=8)

    def carry(self, data: bytes) -> bytes:
        """Return what arrives of `data`; call it also with nothing, so that a flood goes on."""
        if self.is_silent:
            self.injected["silence"] += bool(data)
            return b""
        arrived = bytearray()
        if self.is_flooding:
            self.injected["flood"] += 1
            arrived += self._generator.randbytes(FLOOD_CHUNK_BYTES)
        *packets, self._partial = (self._partial + data).split(b"\0")
        for packet in packets:
            if packet:
                arrived += self._carry_packet(b"\0" + packet + b"\0")
        return bytes(arrived)

    def _carry_packet(self, packet: bytes) -> bytes:
        if self._happens("drop"):
            return b""
        if self._happens("reorder"):
            self._held.append(packet)
            return b""
        if self._happens("noise"):
            packet = damage(packet, self._generator)
        if self._happens("duplicate"):
            packet += packet
        if self._held and self._generator.random() < 0.5:
            packet += self._held.popleft()
        return packet

    def _happens(self, fault: str) -> bool:
        rate: float = getattr(self._rates, fault)
        is_now = rate > 0 and self._generator.random() < rate
        self.injected[fault] += is_now
        return is_now


def damage(data: bytes, generator: random.Random) -> bytes:
    """Return `data` with one fault of a line: flipped bits, a burst, a lost byte, a doubled byte, foreign bytes."""
    kind = generator.randrange(5)
    at = generator.randrange(len(data))
    if kind == 0:
        damaged = bytearray(data)
        for _ in range(generator.randint(1, 64)):
            bit = generator.randrange(len(data) * 8)
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)
    if kind == 1:
        return data[:at] + generator.randbytes(min(len(data) - at, generator.randint(2, 12))) + data[at + 12 :]
    if kind == 2:
        return data[:at] + data[at + 1 :]
    if kind == 3:
        return data[: at + 1] + data[at:]
    return data[:at] + generator.randbytes(generator.randint(1, 60)) + data[at:]
