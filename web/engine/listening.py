"""The engine's listening socket: a Unix socket only for its owner and group, or a port on loopback.

It accepts nothing. A socket file that a dead engine left behind is replaced; one that somebody answers on is not.
"""

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from appliance.engine_address import EngineAddress
from appliance.errors import ConfigurationError
from web.listening import tcp_listener

_OTHERS_MASK: Final = 0o117
"""Leaves 0660: the station's group may ask, nobody else."""
_PROBE_S: Final = 1.0


def listening_socket(address: EngineAddress) -> tuple[socket.socket, EngineAddress]:
    """Open the socket; the address that is returned has the port that the kernel chose for port 0.

    Raises:
        ConfigurationError: The address is taken, or cannot be used.
    """
    try:
        if address.socket is not None:
            return _unix_socket(address.socket), address
        return _tcp_socket(address)
    except OSError as error:
        raise ConfigurationError(f"The engine cannot listen on {address}: {error.strerror or error}.") from error


def remove_socket_file(address: EngineAddress) -> None:
    """Remove the socket file on the way out."""
    if address.socket is not None:
        with contextlib.suppress(OSError):
            Path(address.socket).unlink()


def _unix_socket(path: str) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set before the file exists, so that there is no moment at which anybody may connect.
    previous = os.umask(_OTHERS_MASK)
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"The engine cannot listen on {path}: a file that is not a socket is there.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        else:
            raise ConfigurationError(f"The engine cannot listen on {path}: another process answers there.")


def _tcp_socket(address: EngineAddress) -> tuple[socket.socket, EngineAddress]:
    listener = tcp_listener(address.host, address.port)
    return listener, EngineAddress(host=address.host, port=listener.getsockname()[1])
