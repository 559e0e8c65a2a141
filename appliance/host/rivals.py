"""Two stations that came up at the same moment, as after a power cut, and claimed the same host name: who keeps it.

Each found the name free, for neither answered yet. Both hear the other's announcement, and both come to the same
answer: the later address wins, as in a probe. It only listens; `discovery.py` acts.
Source: RFC 6762, sections 8.2 (simultaneous probe tiebreaking) and 9 (conflict resolution).
"""

import asyncio
import ipaddress

import zeroconf
from zeroconf import DNSAddress  # type: ignore[attr-defined]  # public, missing from its __all__

from appliance.host.addresses import own_addresses


class Rivals(zeroconf.RecordUpdateListener):
    """Hears whether another machine announces the same host name."""

    def __init__(self, host: str, heard: asyncio.Event) -> None:
        """Listen for a host name.

        Args:
            host: Such as "dermstation.local.".
            heard: Set when another machine has it too.
        """
        self._host = host.lower()
        self._heard = heard
        self._addresses: set[str] = set()

    def async_update_records(self, zc: zeroconf.Zeroconf, now: float, records: list[zeroconf.RecordUpdate]) -> None:
        """Take what the network says."""
        del zc, now
        own = own_addresses()
        for update in records:
            if not isinstance(update.new, DNSAddress) or update.new.key != self._host:
                continue
            address = str(ipaddress.ip_address(update.new.address))
            # This machine's own Avahi may announce the same name with the same addresses.
            if address not in own:
                self._addresses.add(address)
                self._heard.set()

    def wins_over(self, addresses: tuple[str, ...]) -> bool:
        """Whether another machine keeps the name; what was heard until now is forgotten then.

        Args:
            addresses: This machine's.
        """
        heard, self._addresses = self._addresses, set()
        return bool(heard) and max(map(_order, heard)) > max(map(_order, addresses))


def _order(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)
