"""Ports that stay ours."""

import socket


class Reserved:
    """A port of 127.0.0.1, from the choice on until `close`, whatever starts, dies and starts again on it.

    The socket is bound and never listens. Linux lets a server with SO_REUSEADDR (nats-server has it, as most) listen
    beside it, gives the port to nobody who asks for any port, and refuses who connects while no server is there.
    A port that was merely free a moment ago could be taken in between; and a client that connects again and again
    to a dead server's port could be given that port as its own, and would then be connected with itself.
    """

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.number = self.socket.getsockname()[1]

    def close(self):
        """Lets others have it."""
        self.socket.close()
