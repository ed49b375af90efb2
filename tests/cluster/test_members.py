"""Who is in a cluster, and who is not: nodes that come, go, die and stand still, and servers that die under them."""

import contextlib
import os
import socket
import time

import nats

from brokers import Brokers
from namespaces import Network
from nodes import Node
from waiting import LONG, STEP_S, scaled, wait_until

DEADLINE_S = 120
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "target/cluster/members")
NONE = "0" * 32


class Member(Node):
    """A running tests/cluster/members.c."""

    def __init__(self, brokers, name, join_ms=10_000, meta="", url=None, host=None):
        """host: the number of its host in the brokers' Network."""
        command = [PROGRAM, url or brokers.url("chat"), name, join_ms, meta]
        super().__init__(*(command if host is None else brokers.network.command(host, *map(str, command))), name=name)

    def started(self):
        """Waits until it has; its port."""
        return int(self.expect(r"^started tcp://127\.0\.0\.1:(\d+)$")[1])

    def sees(self, other, state, deadline_s=STEP_S):
        """Waits for the news of another; how long that has taken."""
        begin = time.monotonic()
        self.expect(f"^member {other} {state}$", deadline_s)
        return time.monotonic() - begin

    def members(self):
        """Its list: name to (state, is it itself, connections, addresses, meta)."""
        self.send("members")
        begin = self.next
        count = int(self.expect(r"^members (\d+)$")[1])
        lines = [line.split(" ", 6) for line in self.lines[begin:self.next] if line.startswith("listed ")]
        assert len(lines) == count, lines
        return {line[1]: (line[2], line[3] == "1", int(line[4]), line[5], line[6]) for line in lines}

    def news(self, state=r"\w+"):
        """Whom it was told to be so, so far."""
        return [found[1] for found in self.said(rf"^member (\S+) {state}$")]


@contextlib.contextmanager
def cluster(count, names, **options):
    """Servers, and nodes that have joined and know each other."""
    with Brokers(count, **options) as brokers, contextlib.ExitStack() as stack:
        members = [stack.enter_context(Member(brokers, name)) for name in names]
        for member in members:
            member.port = member.started()
        for member in members:
            wait_until(lambda member=member: len(member.members()) == len(names), f"{member.name} knows all")
        yield (brokers, *members)


class Client:
    """A client of a node: lines."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), scaled(STEP_S))
        self.file = self.socket.makefile("rwb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def line(self):
        return self.file.readline().decode().rstrip("\n")

    def ask(self, line):
        self.file.write(line.encode() + b"\n")
        self.file.flush()
        return self.line()


# --- Members -----------------------------------------------------------------------------------------


def test_all_see_each_other():
    with Brokers(3) as brokers, Member(brokers, "a", meta="red apples") as a, Member(brokers, "b") as b:
        port = a.started()
        b.started()
        with Client(port) as client:
            assert len(client.ask("address")) == 32
            wait_until(lambda: b.members().get("a", (0, 0, 0))[2] == 1, "the connection is told")
        with Member(brokers, "c") as c:
            c.started()
            for member in (a, b, c):
                wait_until(lambda member=member: set(member.members()) == {"a", "b", "c"})
                assert [name for name, its in member.members().items() if its[1]] == [member.name]
            assert b.members()["a"][3:] == (f"tcp://127.0.0.1:{port}", "red apples")
            # Of each once, and nothing else.
            assert sorted(c.news()) == sorted(c.news("joined")) == ["a", "b"], c.news()


def test_killed():
    with cluster(3, "abc") as (_, a, b, c):
        b.kill()
        begin = time.monotonic()
        a.sees("b", "left")
        c.sees("b", "left")
        took = time.monotonic() - begin
        print(f"note: seen after {took:.2f} s")
        assert took <= scaled(2), took
        assert set(a.members()) == {"a", "c"}
        assert a.news("left") == ["b"] and c.news("left") == ["b"]


def test_clean_stop():
    with cluster(3, "abc") as (_, a, b, c):
        begin = time.monotonic()
        b.send("stop")
        a.sees("b", "left")
        c.sees("b", "left")
        took = time.monotonic() - begin
        print(f"note: seen after {1000 * took:.0f} ms")
        assert took <= scaled(0.3), took
        assert b.wait() == 0 and "b" not in a.news("suspect")


def test_frozen():
    with cluster(3, "abc") as (_, a, b, c):
        b.freeze()
        begin = time.monotonic()
        a.sees("b", "suspect")
        a.sees("b", "left")
        c.sees("b", "left")
        took = time.monotonic() - begin
        print(f"note: seen after {took:.2f} s")
        assert took <= scaled(3), took
        b.thaw()
        a.sees("b", "joined")
        c.sees("b", "joined")
        # It has stood still itself: that is nobody's silence.
        wait_until(lambda: set(b.members()) == {"a", "b", "c"})
        assert b.news("left") == [] and a.news("left") == ["b"]


def test_broker_killed():
    # Whatever server dies, whoever was connected to it, nobody is given up but one that stands still: by the time that
    # all have found that out, they would have given up others, too.
    runs = 12 if LONG else 4
    frozen = []
    with cluster(3, "abcd") as (brokers, *members):
        for run in range(runs):
            name = f"frozen-{run}"
            with Member(brokers, name) as still:
                still.started()
                for member in members:
                    member.sees(name, "joined")
                still.freeze()
                brokers.kill(run % 3)
                for member in members:
                    member.sees(name, "left")
            frozen.append(name)
            for member in members:
                assert member.news("left") == frozen, member.lines
                wait_until(lambda member=member: {its[0] for its in member.members().values()} == {"joined"})
            brokers.restart(run % 3)
            brokers.wait_ready()
        print(f"note: {runs} servers killed")


def test_one_broker_frozen():
    """The link of one node stands still: it looks dead until it has noticed and has gone to another server."""
    with Brokers(3) as brokers, Member(brokers, "a", url=f"{brokers.urls()[0]}/chat") as a, \
            Member(brokers, "b", url=f"{brokers.urls()[1]}/chat") as b:
        for member in (a, b):
            member.started()
        for member in (a, b):
            wait_until(lambda member=member: sees_all(member, "ab"), f"{member.name} knows all")
        brokers.freeze(0)
        begin = time.monotonic()
        b.sees("a", "left")
        left = time.monotonic() - begin
        a.expect("^state disconnected ")
        a.expect("^state rejoined ")
        b.sees("a", "joined")
        print(f"note: left after {left:.2f} s, back after {time.monotonic() - begin:.2f} s")
        for member in (a, b):
            wait_until(lambda member=member: sees_all(member, "ab"), lambda member=member: str(member.members()))
        assert a.news("left") == [] and b.news("left") == ["a"], (a.lines, b.lines)
        brokers.thaw(0)
        brokers.wait_ready()


def test_all_brokers_gone():
    for harm in ("freeze", "kill"):
        with cluster(3, "abc") as (brokers, *members):
            for i in range(3):
                getattr(brokers, harm)(i)
            for member in members:
                member.expect("^state disconnected ")
                wait_until(lambda member=member: sorted(its[0] for its in member.members().values()) ==
                           ["joined", "unknown", "unknown"])
                member.send("count lobby")
                member.expect("^counted AHOY_ERR_DISCONNECTED 0 0$")
            for i in range(3):
                brokers.thaw(i) if harm == "freeze" else brokers.restart(i)
            for member in members:
                member.expect("^state rejoined ")
                wait_until(lambda member=member: {its[0] for its in member.members().values()} == {"joined"})
            for member in members:
                assert member.news("left") == [], (harm, member.lines)


def sees_all(member, names):
    """Whether they all are there, for it."""
    return {name: its[0] for name, its in member.members().items()} == dict.fromkeys(names, "joined")


def test_cut_off():
    """A node whose cable is pulled is dead for the others; for it nobody is dead, but unknown."""
    with Network(6) as network, Brokers(3, network=network) as brokers, contextlib.ExitStack() as stack:
        members = [stack.enter_context(Member(brokers, name, host=3 + i)) for i, name in enumerate("abc")]
        for member in members:
            member.started()
        for member in members:
            wait_until(lambda member=member: len(member.members()) == 3, f"{member.name} knows all")
        a, b, c = members
        begin = time.monotonic()
        network.cut(3 + 1)
        a.sees("b", "left")
        c.sees("b", "left")
        took = time.monotonic() - begin
        print(f"note: seen after {took:.2f} s")
        assert took <= scaled(3), took
        wait_until(lambda: set(b.news("unknown")) == {"a", "c"}, "for b nobody is known")
        assert set(a.members()) == {"a", "c"}
        network.heal(3 + 1)
        for member in members:
            wait_until(lambda member=member: sees_all(member, "abc"), lambda member=member: str(member.members()))
        assert a.news("left") == ["b"] and c.news("left") == ["b"] and b.news("left") == []


def test_servers_cut_off():
    """A server that is cut off takes its nodes' links with it. Until they have found out and gone to another they look
    like dead ones, and may be taken for such; then all are there again."""
    with Network(6) as network, Brokers(3, network=network) as brokers, contextlib.ExitStack() as stack:
        members = [stack.enter_context(Member(brokers, name, host=3 + i)) for i, name in enumerate("abc")]
        for member in members:
            member.started()
        for i in range(3):
            network.cut(i)
            # Who hears of somebody new has a server that is there.
            with Member(brokers, f"new-{i}", host=3) as new:
                new.started()
                for member in members:
                    member.sees(f"new-{i}", "joined")
                    wait_until(lambda member=member: set("abc") <= set(member.members()), "all are there again")
            network.heal(i)
            brokers.wait_ready()
        for member in members:
            wait_until(lambda member=member: sees_all(member, "abc"), lambda member=member: str(member.members()))


def test_a_name_twice():
    with cluster(3, "ab") as (brokers, a, b):
        with Member(brokers, "b", join_ms=800) as other:
            other.expect("^failed AHOY_ERR_NODE_TAKEN$")
            assert other.wait() == 1
        with Member(brokers, "b", join_ms=0) as other:
            other.started()
            other.expect("^state joining AHOY_ERR_NODE_TAKEN$")
            b.send("stop")
            begin = time.monotonic()
            other.expect("^state joined AHOY_OK$")
            print(f"note: taken over {1000 * (time.monotonic() - begin):.0f} ms after the stop")
            wait_until(lambda: a.members().get("b"))
            # It comes back after a kill -9: nobody is in its way.
            other.kill()
            begin = time.monotonic()
            with Member(brokers, "b") as again:
                again.started()
                print(f"note: back {1000 * (time.monotonic() - begin):.0f} ms after a kill -9")
                wait_until(lambda: len(again.members()) == 2)
        assert a.news("joined").count("b") == 3


def state_of(member):
    """What it has said last of how it stands."""
    said = member.said(r"^state (\w+)")
    return said[-1][1] if said else ""


def test_both_at_once():
    with Brokers(3) as brokers:
        for _ in range(5):
            with Member(brokers, "x", join_ms=0) as one, Member(brokers, "x", join_ms=0) as two:
                pair = (one, two)
                wait_until(lambda pair=pair: sorted(map(state_of, pair)) == ["joined", "joining"],
                           lambda pair=pair: [member.lines for member in pair])


# --- Addresses ---------------------------------------------------------------------------------------


def test_addresses():
    with cluster(3, "ab") as (_, a, b), Client(b.port) as client:
        address = client.ask("address")
        for node in (a, b):
            for way in ("confirm", "confirm_wait"):
                node.send(f"{way} {address} hello from {node.name}")
                node.expect("^confirmed AHOY_OK$")
                assert client.line() == f"hello from {node.name}"
            node.send(f"send {address} once")
            node.expect("^sent AHOY_OK$")
            assert client.line() == "once"
        client.close()
        wait_until(lambda: b.members()["b"][2] == 0, "the connection is gone")
        for node in (a, b):
            node.send(f"confirm {address} late")
            node.expect("^confirmed AHOY_ERR_STALE$")
            node.send(f"confirm_wait {NONE} nobody")
            node.expect("^confirmed AHOY_ERR_STALE$")
        a.send(f"send {address} late")
        a.expect("^sent AHOY_OK$")


def test_address_of_a_dead_node():
    with cluster(3, "ab") as (_, a, b), Client(b.port) as client:
        address = client.ask("address")
        b.kill()
        a.send(f"confirm {address} late")
        # Whoever is so early may still have reached its server, and nobody behind it.
        a.expect("^confirmed AHOY_ERR_(STALE|UNKNOWN_OUTCOME)$", 8)
        wait_until(lambda: a.news("left") == ["b"])
        a.send(f"confirm_wait {address} late")
        a.expect("^confirmed AHOY_ERR_STALE$", 1)


def test_answers_that_are_lost():
    with cluster(1, "ab") as (_, a, b), Client(b.port) as client:
        address = client.ask("address")
        b.freeze()
        a.send(f"confirm {address} hello")
        a.expect("^confirmed AHOY_ERR_UNKNOWN_OUTCOME$", 8)
        b.thaw()
        assert client.line() == "hello"


def test_address_too_long():
    with cluster(1, "ab", max_payload=4000) as (_, a, b), Client(b.port) as client:
        address = client.ask("address")
        for way, said in (("send", "sent"), ("confirm", "confirmed"), ("confirm_wait", "confirmed")):
            for text, status in (("x" * 4001, "AHOY_ERR_TOO_LONG"), (way, "AHOY_OK"), ("y" * 4000, "AHOY_OK")):
                a.send(f"{way} {address} {text}")
                assert a.expect(rf"^{said} (\w+)$")[1] == status, (way, len(text))
            # The long one has not come, and the link has not suffered.
            assert [client.line(), client.line()] == [way, "y" * 4000]
        assert a.news("left") == [] and not a.said("^state disconnected")


def test_address_full():
    with cluster(1, "ab") as (_, a, b), Client(b.port) as client:
        # Long ones: the system takes some megabytes before the server's own queue begins to fill.
        address, text, full = client.ask("address"), "x" * 16_000, False
        until = time.monotonic() + scaled(STEP_S)
        while not full:
            assert time.monotonic() < until
            for _ in range(50):
                a.send(f"confirm {address} {text}")
            full = all(a.expect(r"^confirmed (\w+)$")[1] == "AHOY_ERR_AGAIN" for _ in range(50))
        assert {found[1] for found in a.said(r"^confirmed (\w+)$")} == {"AHOY_OK", "AHOY_ERR_AGAIN"}


# --- Presence ----------------------------------------------------------------------------------------


def test_topic_count():
    with cluster(3, "abc") as (_, a, b, c), contextlib.ExitStack() as stack:
        for node, count in ((a, 1), (b, 2), (c, 3)):
            for _ in range(count):
                assert stack.enter_context(Client(node.port)).ask("join lobby") == "joined"
        for node in (a, b, c):
            node.send("count lobby")
            node.expect("^counted AHOY_OK 6 0$")
            node.send("wait lobby")
            node.expect("^waited AHOY_OK 6$")
            node.send("wait nobody")
            node.expect("^waited AHOY_OK 0$")
        c.freeze()
        begin = time.monotonic()
        a.send("count lobby")
        a.expect("^counted AHOY_ERR_TIMEOUT 3 1$")
        assert 0.9 <= time.monotonic() - begin <= scaled(1.5)
        a.send("wait lobby")
        a.expect("^waited AHOY_ERR_TIMEOUT 3$")
        c.kill()
        a.sees("c", "left")
        a.send("count lobby")
        a.expect("^counted AHOY_OK 3 0$")


# --- Strangers ---------------------------------------------------------------------------------------


async def test_other_clients_of_nats():
    with cluster(3, "ab") as (brokers, a, b), Client(b.port) as client:
        address = client.ask("address")
        assert client.ask("join lobby") == "joined"
        link = await nats.connect(brokers.urls()[0])
        beats = await link.subscribe("chat.member.*")
        beat = (await beats.next_msg(timeout=scaled(2))).data.decode()
        head, _, meta = beat.partition("\n\n")
        first, *lines = head.split("\n")
        said = dict(line.partition(" ")[::2] for line in lines)
        assert first == "ahoy 1" and meta == "" and said["node"] in "ab" and said["state"] == "up"
        assert said["addresses"].startswith("tcp://127.0.0.1:") and said["interval"] == "300"

        subject = f"chat.conn.{address[:16]}.{address[16:]}"
        await link.publish(subject, b"hello from Python")
        await link.flush()
        assert client.line() == "hello from Python"
        answer = await link.request(subject, b"hello again", timeout=scaled(5))
        assert answer.data == b"AHOY_OK" and client.line() == "hello again"
        answer = await link.request(f"chat.conn.{address[:16]}.{'0' * 16}", b"?", timeout=scaled(5))
        assert answer.data == b"AHOY_ERR_STALE"
        for bad in (f"chat.conn.{address[:16]}.{bad}" for bad in ("1", "+1", "x", "+000000000000001")):
            assert (await link.request(bad, b"?", timeout=scaled(5))).data == b"AHOY_ERR_STALE"

        alive = await link.request(f"chat.node.{address[:16]}.ping", b"", timeout=scaled(5))
        assert b"\nnode b\n" in alive.data
        inbox = await link.subscribe("answers")
        await link.publish("chat.count", b"lobby", reply="answers")
        counts = [(await inbox.next_msg(timeout=scaled(5))).data.split() for _ in "ab"]
        assert sorted(int(count) for _, count in counts) == [0, 1]

        # Whatever a stranger says there, nobody is harmed.
        for rubbish in (b"", b"\xff", b"ahoy 1", beat.encode().replace(b"node ", b"node \0"), b"x" * 100_000):
            for node in ("a", "z"):
                await link.publish(f"chat.member.{node}", rubbish)
        await link.publish("chat.count", b"lobby")
        await link.publish("chat.count", b"\xff", reply="answers")
        await link.flush()
        assert set(a.members()) == {"a", "b"}
        await link.close()
