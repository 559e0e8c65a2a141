"""Connections that are handed over instead of made: how the front reaches the station without ever connecting anywhere.

The front makes a pair of sockets and passes one end on; the station takes it where a server would accept. So the front
may be forbidden to make a connection at all, and the station has no address on which others could find it.
Source: unix(7), SCM_RIGHTS.
"""

import errno
import os
import socket
from typing import Final

_NOTE: Final = b"c"


class PassedConnections(socket.socket):
    """Looks like a listening socket to a server; not thread-safe."""

    def listen(self, backlog: int = 0, /) -> None:
        """Do nothing: what was passed waits in the socket."""

    def accept(self) -> tuple[socket.socket, str]:
        """Take the next connection.

        Raises:
            OSError: There is none, or what was passed is none.
        """
        _, descriptors, _, _ = socket.recv_fds(self, len(_NOTE), 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            raise BlockingIOError(errno.EAGAIN, "nothing was passed")
        try:
            passed = socket.socket(fileno=descriptors[0])
        except OSError:  # it is no socket
            os.close(descriptors[0])
            raise
        is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if (passed.family, passed.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or is_listening:
            passed.close()
            raise OSError(errno.EPROTOTYPE, "no connection was passed")
        return passed, ""


def passed_connections() -> tuple[PassedConnections, socket.socket]:
    """Return the station's end, for its server, and the one for whoever passes connections."""
    near, far = socket.socketpair()
    return PassedConnections(fileno=near.detach()), far


def pass_connection(far: socket.socket) -> socket.socket:
    """Make a connection to whoever has the other end.

    Raises:
        OSError: It is gone, or has not taken those of before.
    """
    mine, theirs = socket.socketpair()
    try:
        with theirs:
            socket.send_fds(far, [_NOTE], [theirs.fileno()], socket.MSG_DONTWAIT)
    except OSError:
        mine.close()
        raise
    return mine
