"""Nodes that talk (talker.c)."""

import os
import re
import socket

from nodes import Node

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../target/cluster")
LOCAL, JOINING, JOINED, DISCONNECTED, REJOINED, LEFT = range(6)


class Talker(Node):
    """A node that runs talker; `address` is where its clients connect."""

    def __init__(self, url, joined=True, **options):
        arguments = [f"{key}={value}" for key, value in options.items()]
        super().__init__(os.path.join(PROGRAMS, "talker"), url, *arguments, name=options.get("node", "talker"))
        if joined:
            self.address = self.expect(r"^(ready|failed) (.*)$")[2]
            if url:
                self.wait_state(JOINED)

    def wait_state(self, *states):
        """The reason of the next change to one of these states."""
        if found := self.said(rf"^state ({'|'.join(map(str, states))}) (\w+)$"):
            if int(found[-1][1]) in states and self.now() in states:
                return found[-1][2]
        return self.expect(rf"^state ({'|'.join(map(str, states))}) (\w+)$")[2]

    def now(self):
        """The state that it has now."""
        self.send("state")
        return int(self.expect(r"^state is (\d)$")[1])

    def subscribe(self, topic):
        self.send(f"subscribe {topic}")
        assert self.expect(r"^subscribed (\w+)$")[1] == "AHOY_OK"

    def publish(self, topic, text):
        """The status of the publish."""
        self.send(f"publish {topic} {text}")
        return self.expect(r"^published (\w+)$")[1]

    def metric(self, name):
        """A number of its metrics."""
        self.send(f"metric {name}")
        return int(self.expect("^metric (.*)$")[1])

    def has_heard(self, topic, text):
        """Whether it has, so far; the text is a pattern."""
        return bool(self.said(f"^heard {re.escape(topic)} {text}$"))

    def client(self):
        """A client of this node."""
        host, port = self.address.removeprefix("tcp://").rsplit(":", 1)
        return socket.create_connection((host, int(port)))
