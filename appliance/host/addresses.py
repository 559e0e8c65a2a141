"""Which of this machine's addresses a listening socket can be reached at, and whether that is beyond loopback.

It opens no socket. A host name is looked up once a call; one that cannot be resolved counts as beyond loopback,
because that is the answer that keeps doors shut.
"""

import ipaddress
import socket
from collections.abc import Iterator

import ifaddr

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_beyond_loopback(host: str) -> bool:
    """Tell whether a socket listening on `host` can be reached from another machine; `0.0.0.0` and `::` can."""
    try:
        return not all(address.is_loopback for address in _resolve(host))
    except OSError:
        return True


def lan_addresses(host: str) -> tuple[str, ...]:
    """List where other machines reach a socket that listens on `host`, sorted; empty on loopback.

    `0.0.0.0` stands for every IPv4 address and `::` for every IPv6 address: a socket on `::` takes no IPv4 here.
    Link-local IPv6 addresses are left out: a browser cannot be given one without naming its own interface.
    """
    try:
        listening = _resolve(host)
    except OSError:
        return ()
    found: set[IpAddress] = set()
    for address in listening:
        found |= {address} if not address.is_unspecified else set(_own(address.version))
    return tuple(sorted(str(address) for address in found if _is_worth_telling(address)))


def own_addresses() -> frozenset[str]:
    """List every address of this machine, loopback and link-local too."""
    return frozenset(str(address) for version in (4, 6) for address in _own(version))


def _resolve(host: str) -> set[IpAddress]:
    try:
        return {ipaddress.ip_address(host)}
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return {ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found}


def _own(version: int) -> Iterator[IpAddress]:
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            # ifaddr gives IPv4 as a string and IPv6 as (address, flow info, scope).
            address = ipaddress.ip_address(entry.ip if isinstance(entry.ip, str) else entry.ip[0])
            if address.version == version:
                yield address


def _is_worth_telling(address: IpAddress) -> bool:
    return not address.is_loopback and not (address.version == 6 and address.is_link_local)
