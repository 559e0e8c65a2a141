"""Listening sockets over TCP."""

import socket


def tcp_listener(host: str, port: int) -> socket.socket:
    """Bind a socket to a host and a port; 0 lets the kernel choose.

    Raises:
        OSError: The address is taken, or is none of this machine's.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A process that was started again must not wait for its predecessor's connections to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError:
        listener.close()
        raise
    return listener
