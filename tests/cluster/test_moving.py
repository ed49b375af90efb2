"""Clients that move to another node when theirs is gone, and who asks one question of a cluster from outside."""

import contextlib
import os

from authority import Authority
from brokers import Brokers
from namespaces import Network
from nodes import Node
from talkers import PROGRAMS
from test_services import kept, node, offer
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
        for host in ("a b", "", "a/b", "a:b", "[::1", "0.0.0.0", "[::]", "10.0.0.300", "-x", "tcp://a:1"):
            with Node(MOVER, "node", brokers.url("chat"), "a", "-", "0.0.0.0", host) as node:
                node.expect("^failed advertise: .* is no host: ")


def asking(brokers, service, text, *idempotent):
    """One that asks a service of the cluster from outside, and is no member of it."""
    return Node(MOVER, "ask", f"cluster+{brokers.url('chat')}/{service}", text, *idempotent, name="asking")


def test_asking_a_service():
    """Where no node listens under the name, the service of that name is asked: each way in which that may end."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        with asking(brokers, "upper", "hi") as nobody:
            nobody.expect("^failed AHOY_ERR_NO_SERVICE: ")
        offer(a, "upper", "upper")
        offer(a, "fail", "fail")
        offer(b, "keep", "keep", "1")

        def answered():
            with asking(brokers, "upper", "hi") as caller:
                return caller.expect("^answer HI$|^failed AHOY_ERR_NO_SERVICE: ")[0] == "answer HI" or None

        wait_until(answered, "it is known to all brokers")
        with asking(brokers, "fail", "hi") as failing:
            failing.expect("^failed AHOY_ERR_FAILED: it broke$")
        with asking(brokers, "keep", "slow") as slow:
            kept(b, "slow")
            with asking(brokers, "keep", "one too many") as refused:
                refused.expect("^failed AHOY_ERR_AGAIN: b has 1 calls in hand")
            b.send("reply done")
            slow.expect("^answer done$")
        # The node is killed with the question in its hands: nothing tells whether it was done.
        with asking(brokers, "keep", "lost") as lost:
            kept(b, "lost")
            b.kill()
            lost.expect("^failed AHOY_ERR_UNKNOWN_OUTCOME: ")
        assert not a.said("^kept")
        wait_until(gone(brokers, "keep"), "all brokers know that b is gone")
        # It could be asked again where somebody else offers it, if that does no harm.
        with node(brokers, "c") as c, node(brokers, "d") as d:
            offer(c, "keep", "keep")
            with asking(brokers, "keep", "twice", 1) as twice:
                kept(c, "twice")
                offer(d, "keep", "upper")
                c.kill()
                twice.expect("^answer TWICE$")
            assert len(c.said("^kept twice$")) == 1


def gone(brokers, service):
    """Whether nobody answers for a service any more."""
    def is_gone():
        with asking(brokers, service, "anybody?") as caller:
            return caller.expect("^(failed|answer) .*")[0].startswith("failed AHOY_ERR_NO_SERVICE") or None
    return is_gone
