"""Everything that one machine sends over the cable, named: listens at the other end until its input ends, then JSON.

python cable_tap.py INTERFACE MAC. Frames of other machines are not counted. Names say what it was and to whom, so that
whatever is not expected can be read. Source: packet(7); RFC 826, 791, 8200, 4443, 6762.
"""

import collections
import ipaddress
import json
import socket
import struct
import sys
import threading

_ALL = 0x0003
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_DNS = 53
_IGMP, _TCP, _UDP, _ICMP6, _HOP_BY_HOP = 2, 6, 17, 58, 0
_ICMP6_NAMES = {133: "router solicitation", 135: "neighbour solicitation", 143: "multicast report"}
_UNSPECIFIED = ipaddress.IPv6Address(0)


def name_of(frame: bytes) -> str:
    """Say what a frame is."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    content = frame[14:]
    if kind == _ARP:
        return f"arp for {ipaddress.IPv4Address(content[24:28])}"
    if kind == _IPV4:
        header_bytes = (content[0] & 15) * 4
        return _transport(content[9], str(ipaddress.IPv4Address(content[16:20])), content[header_bytes:])
    if kind == _IPV6:
        source, target = (ipaddress.IPv6Address(content[at : at + 16]) for at in (8, 24))
        protocol, rest = content[6], content[40:]
        if protocol == _HOP_BY_HOP:
            protocol, rest = rest[0], rest[(rest[1] + 1) * 8 :]
        if protocol == _ICMP6:
            said = _ICMP6_NAMES.get(rest[0], f"icmp6 {rest[0]}")
            # Asking whether one's own new address is free has no sender yet (RFC 4862, 5.4).
            return f"{said} of the kernel" if source == _UNSPECIFIED or rest[0] != 135 else f"{said} {target}"
        return _transport(protocol, str(target), rest)
    return f"frame {kind:#06x}"


def _transport(protocol: int, target: str, content: bytes) -> str:
    if protocol in {_TCP, _UDP}:
        (port,) = struct.unpack_from("!H", content, 2)
        asked = f" {_asked(content[8:])}" if (protocol, port) == (_UDP, _DNS) else ""
        return f"{'tcp' if protocol == _TCP else 'udp'} {target} {port}{asked}"
    return f"igmp {target}" if protocol == _IGMP else f"protocol {protocol} {target}"


def _asked(message: bytes) -> str:
    """Read the name of a DNS query (RFC 1035, 4.1.2)."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode(errors="replace"))
        at += 1 + message[at]
    return ".".join(labels)


def main() -> None:
    interface, mac = sys.argv[1:]
    own = bytes.fromhex(mac.replace(":", ""))
    seen: collections.Counter[str] = collections.Counter()
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    tap.bind((interface, 0))

    def listen() -> None:
        while True:
            frame = tap.recv(65536)
            if frame[6:12] == own:
                seen[name_of(frame)] += 1

    threading.Thread(target=listen, daemon=True).start()
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    sys.stdin.read()
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
