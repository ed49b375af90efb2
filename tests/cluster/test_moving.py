"""Clients that move to another node when theirs is gone."""

import contextlib
import os

from authority import Authority
from brokers import Brokers
from namespaces import Network
from nodes import Node
from talkers import PROGRAMS
from waiting import SCALE, wait_until

DEADLINE_S = 90
MOVER = os.path.join(PROGRAMS, "mover")
# Asked for: every client is served again within that time.
SERVED_AGAIN_MS = 2000


@contextlib.contextmanager
def echoing(brokers, count):
    """So many nodes that listen under "echo"."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(Node(MOVER, "node", brokers.url("chat"), f"n{i}")) for i in range(count)]
        for node in nodes:
            node.expect("^ready ")
        yield nodes


def report(clients, word="report"):
    clients.send(word)
    found = clients.expect(r"^served (\d+) longest (\d+) downs (\d+)$")
    return [int(each) for each in found.groups()]


def test_a_hundred_clients_and_a_node_that_dies():
    count = 100
    with Brokers(3) as brokers, echoing(brokers, 3) as nodes, \
            Node(MOVER, "clients", "cluster+" + brokers.url("chat") + "/echo", count) as clients:
        clients.expect("^ready$")
        wait_until(lambda: report(clients)[0] == count)
        before = report(clients, "clear")[2]
        nodes[0].kill()

        def moved():
            served, longest_ms, downs = report(clients)
            return (downs - before, longest_ms) if downs > before and served == count else None

        moves, longest_ms = wait_until(moved)
        print(f"note: {moves} moved, the longest wait was {longest_ms} ms")
        assert longest_ms <= SERVED_AGAIN_MS * SCALE


def test_a_node_that_freezes_is_not_chosen():
    with Brokers() as brokers, echoing(brokers, 2) as nodes:
        nodes[0].freeze()
        for _ in range(10):
            with Node(MOVER, "ask", "cluster+" + brokers.url("chat") + "/echo", "hi") as asking:
                asking.expect("^answer hi$")


def test_a_node_connects_as_it_has_joined():
    """With its own authority, and with its own login unless the URL has one; somebody else has nothing but the URL."""
    with Authority() as ours, Brokers(tls=ours, user="ahoy", password="secret") as brokers:
        url, bare = brokers.url("chat"), brokers.url("chat", login="")
        with Node(MOVER, "node", url, "n", ours.ca_file) as node:
            node.expect("^ready ")
            wrong = brokers.url("chat", login="ahoy:wrong@")
            for target, answer in ((bare, "answer hi"), (url, "answer hi"), (wrong, "failed AHOY_ERR_CREDENTIALS")):
                with Node(MOVER, "inside", url, f"cluster+{target}/echo", ours.ca_file) as inside:
                    inside.expect(f"^{answer}$")
                    assert inside.wait() == 0
            with Node(MOVER, "ask", f"cluster+{url}/echo", "hi") as asking:
                asking.expect("^failed AHOY_ERR_CERTIFICATE: ")


def test_nobody_listens_there():
    with Brokers() as brokers, echoing(brokers, 1):
        target = "cluster+" + brokers.url("chat")
        for name, answer in (("/echo", "^answer hi$"), ("", "^answer hi$"), ("/other", "^failed AHOY_ERR_NO_SERVICE")):
            with Node(MOVER, "ask", target + name, "hi") as asking:
                asking.expect(answer)
        with Node(MOVER, "ask", "cluster+" + brokers.url("nobody") + "/echo", "hi") as asking:
            asking.expect("^failed AHOY_ERR_NO_SERVICE")
        brokers.kill(0)
        with Node(MOVER, "ask", target + "/echo", "hi") as asking:
            asking.expect("^failed AHOY_ERR_DISCONNECTED")


def test_listeners_on_every_address():
    """A node tells where others reach it: as the broker sees it, or as it is told to. They are found there from another host."""
    with Network(3) as network, Brokers(network=network) as brokers, contextlib.ExitStack() as stack:
        def started(host, *command):
            return stack.enter_context(Node(*network.command(host, MOVER, *command)))

        url, other = brokers.url("chat"), "10.77.0.33"
        network.ip(2, f"address add {other}/24 dev eth0")
        a, b = started(1, "node", url, "a", "-", "0.0.0.0"), started(2, "node", url, "b", "-", "0.0.0.0", other)
        for node, name, host in ((a, "a", network.address(1)), (b, "b", other)):
            node.expect("^ready ")
            node.send("members")
            assert node.expect(rf"^listed {name} tcp://(.*):\d+\?name=echo")[1] == host
        for gone in (None, a):
            if gone:
                gone.close()
            for _ in range(4):
                started(0, "ask", f"cluster+{url}/echo", "hi").expect("^answer hi$")


def test_what_is_no_host_is_not_advertised():
    with Brokers() as brokers:
        for host in ("a b", "", "a/b", "a:b", "[::1"):
            with Node(MOVER, "node", brokers.url("chat"), "a", "-", "0.0.0.0", host) as node:
                node.expect("^failed advertise: .* is no host$")
