"""How much one address of the network may ask of the box, and all of them together: counts that are told the time.

Nothing here waits or answers; who is over a limit is somebody else's to tell. An IPv6 address counts with its /64,
which one machine has to itself.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Final

_V6_PREFIX: Final = 64
_ADDRESSES_MAX: Final = 4096
"""Addresses that are remembered; the quietest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Chosen for a clinic: a dozen telephones, each of which opens six connections and a page of twenty files."""

    connections: int = 64
    connections_each: int = 8
    accepts_per_s: float = 200.0
    accepts_burst: float = 128.0
    handshakes_each_per_s: float = 5.0
    handshakes_each_burst: float = 24.0
    requests_per_s: float = 60.0
    requests_burst: float = 120.0
    requests_each_per_s: float = 10.0
    requests_each_burst: float = 40.0
    answering: int = 8
    """Requests that the station works on at once."""
    answering_each: int = 6
    """As many as a browser sends at once: a page with photos must not lose some of them."""
    handshake_s: float = 5.0
    header_s: float = 5.0
    idle_s: float = 15.0
    body_s: float = 30.0
    body_min_bytes_per_s: float = 1024.0
    body_max_bytes: int = 64 << 10
    header_max_bytes: int = 16 << 10
    slot_wait_s: float = 5.0
    """How long a request waits for the station to be free, before it is told to come again."""
    answer_s: float = 30.0
    """Until the station begins to answer."""
    send_min_bytes_per_s: float = 16384.0


class Bucket:
    """Lets through `burst` at once and `per_s` a second in the long run."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s, self._burst, self._left, self._at_s = per_s, burst, burst, now_s

    def take(self, now_s: float) -> bool:
        """Take one, unless there is none."""
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True, kw_only=True)
class _Address:
    handshakes: Bucket
    requests: Bucket
    seen_s: float
    connections: int = 0
    answering: int = 0


@dataclass(slots=True, kw_only=True)
class Counts:
    """What the network does now; not thread-safe."""

    limits: Limits
    now_s: float
    connections: int = 0
    _accepts: Bucket = field(init=False)
    _requests: Bucket = field(init=False)
    _addresses: dict[str, _Address] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._accepts = Bucket(self.limits.accepts_per_s, self.limits.accepts_burst, self.now_s)
        self._requests = Bucket(self.limits.requests_per_s, self.limits.requests_burst, self.now_s)

    def may_accept(self, now_s: float) -> bool:
        """Whether one more connection may be looked at now; else it waits in the kernel."""
        return self._accepts.take(now_s)

    def open(self, address: str, now_s: float) -> bool:
        """Count a new connection; False refuses it, and then it is not counted."""
        one = self._of(address, now_s)
        is_over = self.connections >= self.limits.connections or one.connections >= self.limits.connections_each
        if is_over or not one.handshakes.take(now_s):
            return False
        self.connections += 1
        one.connections += 1
        return True

    def close(self, address: str, now_s: float) -> None:
        """A connection that was counted has ended."""
        self.connections -= 1
        self._of(address, now_s).connections -= 1

    def request(self, address: str, now_s: float) -> bool:
        """Count a request that is to be answered; False refuses it, and then it is not counted."""
        one = self._of(address, now_s)
        if one.answering >= self.limits.answering_each or not one.requests.take(now_s):
            return False
        if not self._requests.take(now_s):
            return False
        one.answering += 1
        return True

    def answered(self, address: str, now_s: float) -> None:
        """A request that was counted has its answer, or has none any more."""
        self._of(address, now_s).answering -= 1

    def _of(self, address: str, now_s: float) -> _Address:
        key = network_of(address)
        one = self._addresses.get(key)
        if one is None:
            self._forget()
            limits = self.limits
            one = self._addresses[key] = _Address(
                handshakes=Bucket(limits.handshakes_each_per_s, limits.handshakes_each_burst, now_s),
                requests=Bucket(limits.requests_each_per_s, limits.requests_each_burst, now_s),
                seen_s=now_s,
            )
        one.seen_s = now_s
        return one

    def _forget(self) -> None:
        """Make room: half of those that have nothing open go, the longest unseen first."""
        if len(self._addresses) < _ADDRESSES_MAX:
            return
        idle = [key for key, one in self._addresses.items() if not one.connections and not one.answering]
        for key in sorted(idle, key=lambda key: self._addresses[key].seen_s)[: len(idle) // 2 + 1]:
            del self._addresses[key]


def network_of(address: str) -> str:
    """Return what one machine has to itself: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _V6_PREFIX), strict=False))
    return str(parsed)
