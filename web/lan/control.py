"""What the station tells the process in front of it: descriptors first, then lines of JSON.

The front learns no more than it needs to speak for the box: its certificate, the way to the station, and two pages
without anybody's name.
"""

from typing import Final, cast

import msgspec

from web.lan.limits import Limits

DESCRIPTORS: Final = b"descriptors\n"
"""Comes with the way to the station and the listening sockets, in this order."""
READY: Final = b"ready\n"
LINE_MAX_BYTES: Final = 1 << 20
PEER_HEADER: Final = "X-Dermstation-Peer"
"""Set by the front on what it passes on: the address that asked."""
DEVICE_HEADER: Final = "X-Dermstation-Device"
"""Set by the station on its answers, taken off by the front: whose connection it is, so that it can be cut."""
OWN_HEADERS: Final = "x-dermstation-"


class Settings(msgspec.Struct, frozen=True, kw_only=True, tag="settings"):
    """The first line, and only that: who is shut in cannot load another certificate."""

    chain_pem: str
    key_pem: str
    authority_der: bytes
    """What a telephone installs: handed out without TLS, for there is none before."""
    guide_html: str
    """The one page without TLS: how to come in."""
    limits: Limits = msgspec.field(default_factory=Limits)

    def __repr__(self) -> str:
        """Say nothing: there is a key in it."""
        return "<Settings>"


class CutDevice(msgspec.Struct, frozen=True, kw_only=True, tag="cut"):
    """A device was revoked: its open connections end now."""

    device_id: str


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag="leave"):
    """Answer what is being asked, and end: the next front has another certificate."""


Message = Settings | CutDevice | Leave
_decoder = msgspec.json.Decoder(Message)


def line_of(message: Message) -> bytes:
    """Write one message."""
    return msgspec.json.encode(message) + b"\n"


def message_of(line: bytes) -> Message:
    """Read one message.

    Raises:
        msgspec.ValidationError, msgspec.DecodeError: It is none.
    """
    return cast("Message", _decoder.decode(line))
