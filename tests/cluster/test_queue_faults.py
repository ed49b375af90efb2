"""Work queues when nodes and servers die or stand still: what was acknowledged is done."""

import asyncio
import contextlib
import os
import random
import re
import tempfile

import nats
from brokers import ROOT, Brokers
from nodes import Node
from test_queues import PROGRAM, STREAM, counts, done_with, jobs, node, pushed, wait_all_done, wait_empty, work
from waiting import LONG, wait_until

DEADLINE_S, DEADLINE_LONG_S = 240, 7200


async def delete(brokers, stream):
    """Deletes a stream as an operator does."""
    client = await nats.connect(brokers.urls())
    try:
        assert await client.jetstream().delete_stream(stream)
    finally:
        await client.close()


def test_stream_deleted():
    """Somebody deletes the queue: what was in it is gone, and both who pushes and who works go on with a new one."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        work(b)
        a.send("push q 0 10")
        wait_all_done(set(range(10)), b)
        asyncio.run(delete(brokers, STREAM))
        a.send("push q 10 10")
        wait_until(lambda: done_with(a)(20) or None, "all pushes have an end")
        assert pushed(a) == set(range(20)), pushed(a, "unpushed")
        wait_all_done(set(range(20)), b)
        wait_empty(b)
        # The worker alone finds it out, too.
        asyncio.run(delete(brokers, STREAM))
        wait_until(lambda: brokers.leader_of(STREAM, "work") is not None or None, "there is a new one")
        a.send("push q 20 10")
        wait_all_done(set(range(30)), b)


def test_node_killed():
    """kill -9 of a node with jobs in hand: others do them."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        with node(brokers, "victim") as victim:
            work(victim, "keep", in_hand=20)
            a.send("push q 0 1000")
            wait_until(lambda: len(jobs(victim)) == 20 or None, "the victim has its hands full")
            work(a)
            wait_until(lambda: len(jobs(a)) >= 20 or None, "the others go to a")
            victim.kill()
        wait_until(lambda: len(pushed(a)) == 1000 or None, "all are pushed")
        wait_all_done(pushed(a), a)
        work(b)
        wait_empty(b)


def test_node_frozen():
    """A frozen node's jobs go to others; when it goes on, its late word is heard or does no harm."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "frozen") as frozen:
        work(frozen, "keep", in_hand=5, ack_ms=1500)
        a.send("push q 0 5")
        wait_until(lambda: len(jobs(frozen)) == 5 or None, "it has its hands full")
        frozen.freeze()
        work(a, ack_ms=1500)
        wait_all_done(set(range(5)), a)
        frozen.thaw()
        frozen.send("finish")
        assert frozen.expect(r"^finished (\d+) (\d+)").groups() == ("5", "0")
        wait_empty(a)


def test_drain():
    """A node that leaves takes nothing new, and what it cannot finish goes to others at once."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "leaver") as leaver:
        # Many: each of its workers wants to give them back.
        work(leaver, "keep", in_hand=1000, ack_ms=100000)
        a.send("push q 0 1100")
        wait_until(lambda: len(jobs(leaver)) == 1000 or None, "it has its hands full")
        wait_until(lambda: len(pushed(a)) == 1100 or None, "all are pushed")
        work(a, ack_ms=100000)
        wait_all_done(set(range(1100)) - jobs(leaver), a)
        leaver.send("leave 300")
        leaver.expect("^jobs cut 1000$")
        leaver.expect("^left")
        wait_all_done(set(range(1100)), a, deadline_s=10)
        wait_empty(a)


def test_leader_killed():
    """kill -9 of the stream's leader under load: what was acknowledged is done, what was not is known."""
    rounds = 10 if LONG else 1
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        work(b, in_hand=50, ack_ms=4000)
        total = 0
        for _ in range(rounds):
            for _ in range(10):
                a.send(f"push q {total} 500")
                total += 500
                # All but the last batch have an end before the leader dies, and the work goes on. Not every end is an
                # acknowledgement: whole batches are refused while the pusher's own server is the one that was killed.
                wait_until(lambda: done_with(a)(total - 999) and len(jobs(b)) > len(pushed(a)) - 2000 or None,
                           "the work goes on", 60)
            victim = brokers.wait_leader(STREAM)
            brokers.kill(victim)
            a.send(f"push q {total} 500")
            total += 500
            wait_until(lambda: done_with(a)(total) or None, "all pushes have an end", 60)
            wait_all_done(pushed(a), b)
            wait_until(lambda: a.said(r"^state (\w+) ")[-1][1] in ("joined", "rejoined"), "a has a server again")
            brokers.restart(victim)
            brokers.wait_ready(deadline_s=60)
            wait_until(lambda: counts(b)[:2] == (0, 0) or None, "the queue is empty", 60)
        lost, unknown = pushed(a, "unpushed"), set(pushed(a, "unpushed").values())
        assert unknown <= {"AHOY_ERR_UNKNOWN_OUTCOME", "AHOY_ERR_DISCONNECTED"}, unknown
        had = [int(re.match(r"job (\d+)", line)[1]) for line in b.lines if line.startswith("job ")]
        assert len(pushed(a)) >= rounds * 4000, f"only {len(pushed(a))} were acknowledged: this shows little"
        print(f"note: {len(pushed(a))} acknowledged, 0 lost, {len(lost)} unknown, {len(had) - len(set(had))} done twice")


def test_pushes_outlast_a_leader():
    """Pushes that may take their time are tried again inside until they are kept, and none is kept twice."""
    with Brokers(3) as brokers, node(brokers, "b") as b:
        b.send("once q 4000 -")
        b.expect("^once AHOY_OK")
        victim = brokers.wait_leader(STREAM)
        # The pusher's own server stays: while a link is down its pushes are refused.
        with Node(PROGRAM, f"{brokers.urls()[(victim + 1) % 3]}/farm", "a", 60000, name="a") as a:
            a.expect("^ready")
            a.send("push q 0 2000")
            wait_until(lambda: len(pushed(a)) > 100 or None, "it has begun")
            assert brokers.wait_leader(STREAM) == victim
            brokers.kill(victim)
            a.send("push q 2000 2000")
            wait_until(lambda: done_with(a)(4000) or None, "all pushes have an end", 90)
            assert pushed(a) == set(range(4000)), pushed(a, "unpushed")
            wait_until(lambda: counts(b) == (4001, 0, 0) or None, lambda: f"there are 4001: {counts(b)}")


def test_broker_frozen():
    """The leader is frozen: its silence is noticed, and the work goes on."""
    with Brokers(3) as brokers, node(brokers, "a", 60000) as a, node(brokers, "b", 60000) as b:
        work(b, ack_ms=5000)
        a.send("push q 0 500")
        wait_all_done(set(range(500)), b)
        victim = brokers.wait_leader(STREAM)
        brokers.freeze(victim)
        a.send("push q 500 500")
        wait_until(lambda: done_with(a)(1000) or None, "all pushes have an end", 90)
        wait_all_done(pushed(a), b)
        brokers.thaw(victim)


def test_render():
    """Three nodes compute a picture, one of them dies half-way, and not a byte is different."""
    def render(*arguments):
        return Node(os.path.join(ROOT, "target/cluster/render"), *arguments)

    with tempfile.TemporaryDirectory() as folder:
        alone, together = os.path.join(folder, "alone.png"), os.path.join(folder, "together.png")
        with render("alone", alone, 20000) as one:
            assert one.wait() == 0
        with Brokers(3) as brokers, contextlib.ExitStack() as stack:
            url = brokers.url("art")
            nodes = [stack.enter_context(render("node", url)) for _ in range(3)]
            client = stack.enter_context(render("client", url, together, 20000))
            victim = nodes[0]
            wait_until(lambda: len(victim.said("^stripe")) >= 5 or None, "it has begun")
            victim.kill()
            assert client.wait(90) == 0
            assert all(each.said("^stripe") for each in nodes)
            for each in nodes[1:]:
                assert each.terminate() == 0
        with open(alone, "rb") as left, open(together, "rb") as right:
            assert left.read() == right.read()


def test_kills():
    """Nodes and servers killed in turns, with pushes and work going on."""
    rounds = 100 if LONG else 3
    with Brokers(3) as brokers, node(brokers, "pusher") as pusher:
        nodes = [node(brokers, f"w{number}") for number in range(3)]
        gone, total, serial = [], 0, 3
        try:
            for each in nodes:
                work(each, in_hand=5, ack_ms=2000, tries=50)
            for turn in range(rounds):
                before = len(jobs(*nodes, *gone))
                pusher.send(f"push q {total} 300")
                total += 300
                wait_until(lambda: len(jobs(*nodes, *gone)) > before + 10 or None, "it has begun", 60)
                if turn % 2:
                    victim = random.randrange(3)
                    brokers.kill(victim)
                    pusher.send(f"push q {total} 50")
                    total += 50
                    brokers.restart(victim)
                    brokers.wait_ready(deadline_s=60)
                else:
                    victim = nodes.pop(random.randrange(len(nodes)))
                    victim.kill()
                    gone.append(victim)
                    nodes.append(node(brokers, f"w{serial}"))
                    work(nodes[-1], in_hand=5, ack_ms=2000, tries=50)
                    serial += 1
                wait_until(lambda: done_with(pusher)(total) or None, "all pushes have an end", 60)
                wait_all_done(pushed(pusher), *nodes, *gone)
            wait_empty(pusher)
            print(f"note: {rounds} kills, {len(pushed(pusher))} acknowledged, 0 lost, "
                  f"{len(pushed(pusher, 'unpushed'))} unknown")
        finally:
            for each in nodes + gone:
                each.close()
