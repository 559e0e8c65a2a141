"""Where the engine answers: a Unix socket, or a port on this machine's loopback; nowhere else, it has no password.

It opens nothing.
"""

import ipaddress
from dataclasses import dataclass
from typing import Self

from appliance.config import LOOPBACK, EngineConfig
from appliance.errors import ConfigurationError

UNIX_PREFIX = "unix:"
SOCKET_PATH_MAX_BYTES = 107
"""Source: unix(7), sun_path is 108 bytes with its closing zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """Either a socket path, or a loopback host and a port."""

    socket: str | None = None
    host: str = LOOPBACK
    port: int = 0

    def __post_init__(self) -> None:
        if self.socket is not None:
            _check_socket(self.socket)
        elif not is_loopback(self.host):
            raise ConfigurationError(
                f"The engine listens on a Unix socket or on loopback only, not on {self.host!r}: it has no password."
            )
        elif not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"The engine's port is 0 to 65535, not {self.port}.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `unix:/run/dermstation/engine.sock`, `127.0.0.1:8765` or `http://127.0.0.1:8765`.

        Raises:
            ConfigurationError: It is none of them.
        """
        if text.startswith(UNIX_PREFIX):
            return cls(socket=text.removeprefix(UNIX_PREFIX))
        host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
        if not host or not port.isdecimal() or not port.isascii():
            raise ConfigurationError(f"The engine's address is unix:/path or host:port, not {text!r}.")
        return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))

    @classmethod
    def from_config(cls, config: EngineConfig) -> Self:
        """Return the address in the settings; a socket goes before host and port.

        Raises:
            ConfigurationError: The host is not loopback, or the socket's path is too long.
        """
        if config.socket is not None:
            return cls(socket=config.socket)
        return cls(host=config.host, port=config.port)

    def __str__(self) -> str:
        if self.socket is not None:
            return UNIX_PREFIX + self.socket
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        if self.socket is not None:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_socket(path: str) -> None:
    if not path or "\0" in path:
        raise ConfigurationError("The engine's socket needs a path.")
    if len(path.encode()) > SOCKET_PATH_MAX_BYTES:
        raise ConfigurationError(f"The engine's socket path has more than {SOCKET_PATH_MAX_BYTES} bytes: {path}.")
