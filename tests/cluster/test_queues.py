"""Work queues: what is pushed is done, once or again; the life of a job with each engine, and what operators do to queues."""

import asyncio
import os
import time

import nats
from brokers import ROOT, Brokers
from engines import pair
from nats.js.api import ConsumerConfig
from nodes import Node
from waiting import for_a_while, scaled, wait_until

PROGRAM = os.path.join(ROOT, "target/cluster/queues")
DEADLINE_S = 240
STREAM = "Q_farm_q"


def node(brokers, name="a", timeout_ms=0):
    """A node of the cluster "farm" that has joined."""
    new = Node(PROGRAM, brokers.url("farm"), name, timeout_ms, name=name)
    new.expect("^ready")
    return new


def work(at, mode="done", in_hand=10, ack_ms=2000, tries=0, replicas=0, queue="q", dead=""):
    """Lets a node work."""
    at.send(f"work {queue} {mode} {in_hand} {ack_ms} {tries} {replicas} {dead}")
    at.expect("^working AHOY_OK")


def counts(at, queue="q"):
    """(waiting, in hand, dead), or the name of the error."""
    at.send(f"counts {queue}")
    said = at.expect(r"^counts (\w+) (\d+) (\d+) (\d+)")
    return tuple(int(part) for part in said.groups()[1:]) if said[1] == "AHOY_OK" else said[1]


def jobs(*nodes):
    """The numbers of the jobs that nodes have had."""
    return {int(said[1]) for at in nodes for said in at.said(r"^job (\d+) \d+$")}


def pushed(at, kind="pushed"):
    """The numbers of the jobs that are acknowledged to a node (or are not, with their statuses)."""
    if kind == "pushed":
        return {int(said[1]) for said in at.said(r"^pushed (\d+)$")}
    return {int(said[1]): said[2] for said in at.said(r"^unpushed (\d+) (\w+)$")}


def done_with(at):
    """Whether a node knows of all of its pushes; it was told to push `total`."""
    return lambda total: len(pushed(at)) + len(pushed(at, "unpushed")) >= total


def wait_all_done(acknowledged, *nodes, deadline_s=60):
    """Until all jobs that were acknowledged have come to somebody."""
    wait_until(lambda: acknowledged <= jobs(*nodes) or None,
               lambda: f"{len(acknowledged - jobs(*nodes))} jobs are done: {sorted(acknowledged - jobs(*nodes))[:9]}",
               deadline_s)


def wait_empty(at, queue="q"):
    """Until nothing is left of a queue."""
    wait_until(lambda: counts(at, queue)[:2] == (0, 0) or None, lambda: f"the queue is empty: {counts(at, queue)}", 60)


def test_spread():
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b, node(brokers, "c") as c:
        for each in (a, b, c):
            work(each)
        total = 0
        # One that has begun a moment later would get nothing of a few.
        while min(len(jobs(each)) for each in (a, b, c)) < 50:
            a.send(f"push q {total} 500")
            total += 500
            wait_until(lambda: len(pushed(a)) == total or None, "all are pushed")
            wait_all_done(set(range(total)), a, b, c)
        wait_empty(a)
        assert sum(len(jobs(each)) for each in (a, b, c)) == total
        stream = brokers.streams(brokers.wait_leader(STREAM))[STREAM]
        assert len(stream["cluster"]["replicas"]) == 2, stream


def test_one_server(engine):
    with engine() as cluster, node(cluster) as a:
        work(a)
        a.send("push q 0 100")
        wait_all_done(set(range(100)), a)
        wait_empty(a)


def test_life_of_a_job(engine):
    """Tried so often as it may be, dropped, merged with its like; and what no queue is."""
    with engine() as cluster, pair(cluster, node) as (a, b):
        assert counts(b) == (0, 0, 0)
        work(a, "retry", tries=3)
        a.send("once q 7 -")
        a.expect("^once AHOY_OK")
        wait_until(lambda: counts(a) == (0, 0, 1) or None, "it is dead")
        assert [said[0] for said in a.said("^job 7 .*")] == ["job 7 1", "job 7 2", "job 7 3"]
        work(a, "drop", queue="r")
        a.send("once r 8 -")
        wait_until(lambda: counts(b, "r") == (0, 0, 1) or None, "it is dropped")
        # The dead are a queue like any other.
        work(a, queue="q-dead")
        wait_until(lambda: counts(b) == (0, 0, 0) or None, "nothing is dead any more")
        assert len(a.said("^job 7 1$")) == 2
        for at, name in ((a, "same"), (a, "same"), (b, "same"), (a, "other")):
            at.send(f"once merged 1 {name}")
            at.expect("^once AHOY_OK")
        assert counts(b, "merged") == (2, 0, 0)
        for name in ("q.q", "x" * 65):
            b.send(f"once {name} 1 -")
            b.expect("^once AHOY_ERR_INVALID")
            assert counts(b, name) == "AHOY_ERR_INVALID"
        # They may have another name, which has to be that of a queue.
        work(a, "drop", queue="s", dead="morgue")
        a.send("once s 9 -")
        wait_until(lambda: counts(a, "s") == (0, 0, 1) or None, "it is dead")
        assert counts(b, "morgue") == (1, 0, 0)
        for name in ("a.b", "s"):
            a.send(f"work s drop 1 1000 0 0 {name}")
            a.expect("^working AHOY_ERR_INVALID")
        # One copy is all that there is.
        work(a, replicas=2, queue="two")
        a.send("once two 1 -")
        a.expect("^once AHOY_ERR_REPLICAS")


def test_kept_too_long(engine):
    """A job comes again when its time is over, and the late word of the first who had it ends it."""
    with engine() as cluster, node(cluster) as a:
        work(a, "keep", in_hand=2, ack_ms=500)
        a.send("once q 9 -")
        a.expect("^job 9 1$")
        a.expect("^job 9 2$")
        a.send("finish")
        a.expect("^finished 2 0$")
        wait_empty(a)


def test_dead_letters():
    with Brokers(1) as brokers, node(brokers, "a") as a:
        work(a, "retry", tries=3)
        work(a, "drop", queue="r")
        a.send("once q 7 -")
        a.send("once r 8 -")
        wait_until(lambda: (counts(a), counts(a, "r")) == ((0, 0, 1), (0, 0, 1)) or None, "they are dead")

        async def letters():
            client = await nats.connect(brokers.urls()[0])
            stream = client.jetstream()
            found = [await stream.get_msg(f"Q_farm_{queue}-dead", seq=1) for queue in ("q", "r")]
            await client.close()
            return [(letter.data, letter.headers) for letter in found]

        tried, dropped = asyncio.run(letters())
        assert tried[0] == b"7" and tried[1]["Ahoy-Dead-Reason"] == "given up after 3 tries", tried
        assert (tried[1]["Ahoy-Dead-Queue"], tried[1]["Ahoy-Dead-Tries"], tried[1]["Ahoy-Dead-Node"]) == ("q", "3", "a")
        assert tried[1]["Nats-Msg-Id"] == "Q_farm_q-1"
        assert dropped[1]["Ahoy-Dead-Reason"] == "not wanted", dropped


def test_merged():
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        for at in (a, a, b):
            at.send("once q 1 same")
            at.expect("^once AHOY_OK")
        a.send("once q 1 other")
        a.expect("^once AHOY_OK")
        assert counts(b) == (2, 0, 0)


def test_no_store():
    with Brokers(1, jetstream=False) as brokers, node(brokers, "a") as a:
        a.send("once q 1 -")
        a.expect("^once AHOY_ERR_NO_STORE")
        a.send("push q 1 1")
        a.expect("^unpushed 1 AHOY_ERR_NO_STORE")
        assert counts(a) == "AHOY_ERR_NO_STORE"
        work(a)


def test_replicas():
    with Brokers(3) as brokers, node(brokers, "a") as a:
        work(a, replicas=5)
        a.send("once q 1 -")
        a.expect("^once AHOY_ERR_REPLICAS")
        # Another queue has as many as it wants.
        work(a, replicas=2, queue="two")
        a.send("once two 1 -")
        a.expect("^once AHOY_OK")
        stream = brokers.streams(brokers.wait_leader("Q_farm_two"))["Q_farm_two"]
        assert len(stream["cluster"]["replicas"]) == 1, stream


def copies(brokers, stream):
    """How many servers keep a stream, once it has a leader."""
    found = brokers.streams(brokers.wait_leader(stream)).get(stream, {}).get("cluster", {})
    return 1 + len(found.get("replicas") or [])


def test_replicas_are_raised():
    """Whoever works later may ask for more copies, on the same node or another; nobody's wish makes them fewer."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        work(a, replicas=1)
        a.send("push q 0 3")
        wait_all_done({0, 1, 2}, a)
        assert copies(brokers, STREAM) == 1
        work(b, replicas=2)
        wait_until(lambda: copies(brokers, STREAM) == 2 or None, "b has asked for two")
        work(a, replicas=3)
        wait_until(lambda: copies(brokers, STREAM) == 3 or None, "a has asked for three")
        work(b, replicas=2)
        b.send("push q 3 20")
        wait_all_done(set(range(23)), a, b)
        assert copies(brokers, STREAM) == 3


async def change(brokers, stream, **settings):
    """Changes the configuration of a stream as an operator does."""
    client = await nats.connect(brokers.urls())
    try:
        config = (await client.jetstream().stream_info(stream)).config
        await client.jetstream().update_stream(config.evolve(**settings))
    finally:
        await client.close()


def test_full():
    """An operator has bounded the queue: what does not fit is refused as such, and fits when there is room."""
    with Brokers(1) as brokers, node(brokers, "a", 1000) as a:
        a.send("long q 1000")
        a.expect("^long AHOY_OK")
        asyncio.run(change(brokers, STREAM, max_bytes=2500))
        a.send("long q 1000")
        a.expect("^long AHOY_OK")
        for _ in range(2):
            a.send("long q 1000")
            a.expect("^long AHOY_ERR_AGAIN")
        # What was kept is kept.
        assert counts(a) == (2, 0, 0)
        work(a)
        wait_empty(a)
        a.send("long q 1000")
        a.expect("^long AHOY_OK")


def test_longest_dead_letter():
    """A job as long as the servers allow has no room for what is said of the dead, and is buried all the same."""
    with Brokers(1, max_payload=10000) as brokers, node(brokers, "a") as a:
        work(a, "drop")
        a.send("once q 1 -")
        wait_until(lambda: counts(a) == (0, 0, 1) or None, "the first is dead")

        async def push():
            client = await nats.connect(brokers.urls()[0])
            await client.jetstream().publish("farm.queue.q", b"x" * 10000)
            await client.close()

        async def buried():
            client = await nats.connect(brokers.urls()[0])
            letter = await client.jetstream().get_msg("Q_farm_q-dead", seq=2)
            await client.close()
            return letter.data

        asyncio.run(push())
        wait_until(lambda: counts(a) == (0, 0, 2) or None, lambda: f"it is dead: {counts(a)}")
        assert asyncio.run(buried()) == b"x" * 10000
        assert len(a.said("^job x+ ")) == 1


def test_too_long():
    with Brokers(1, max_payload=10000) as brokers, node(brokers, "a") as a:
        for length, status in ((9000, "AHOY_OK"), (10001, "AHOY_ERR_TOO_LONG"), (9990, "AHOY_ERR_TOO_LONG")):
            a.send(f"long q {length}")
            a.expect(f"^long {status}")
        assert counts(a) == (1, 0, 0)


def test_foreign_client():
    """nats-py pushes plain payloads, and takes what a node has pushed."""
    with Brokers(3) as brokers, node(brokers, "a") as a:
        a.send("once q 1 -")
        a.expect("^once AHOY_OK")

        async def foreign():
            client = await nats.connect(brokers.urls())
            stream = client.jetstream()
            ack = await stream.publish("farm.queue.q", b"2")
            assert ack.stream == STREAM
            await stream.add_consumer(STREAM, ConsumerConfig(durable_name="work", ack_policy="explicit", max_deliver=-1,
                                                             max_ack_pending=-1, ack_wait=2))
            pull = await stream.pull_subscribe_bind("work", STREAM)
            [message] = await pull.fetch(1, timeout=5)
            assert message.data == b"1"
            await message.ack_sync()
            await client.close()

        asyncio.run(foreign())
        work(a)
        a.expect("^job 2 1")
        wait_empty(a)


def test_progress():
    """A job stays with whoever says that it takes longer, and goes to somebody else without a word."""
    ack_ms = int(scaled(1500))
    with Brokers(3) as brokers, node(brokers, "slow") as slow, node(brokers, "a") as a:
        work(slow, "keep", in_hand=3, ack_ms=ack_ms)
        slow.send("push q 0 3")
        wait_until(lambda: jobs(slow) == {0, 1, 2} or None, "it has its hands full")
        work(a, ack_ms=ack_ms)
        begin, words = time.monotonic(), 0
        while time.monotonic() - begin < 4 * ack_ms / 1000:
            slow.send("progress")
            slow.expect("^progressed 3 0$")
            words += 1
            for_a_while(ack_ms / 1000 / 5)
        assert not jobs(a) and len(slow.said("^job ")) == 3, (a.lines, slow.lines)
        assert counts(a) == (0, 3, 0)
        silent = time.monotonic()
        wait_all_done({0, 1, 2}, a)
        print(f"note: {words} words kept them, and they went {time.monotonic() - silent:.2f} s after the last pause")
        assert {found[1] for found in a.said(r"^job \d+ (\d+)$")} == {"2"}
        wait_empty(a)


def test_later(engine):
    """A job that is put off comes again when its time has come, and not before."""
    with engine() as cluster, node(cluster) as a:
        work(a, "later", in_hand=50, ack_ms=60000)
        a.send("push q 0 40")
        wait_until(lambda: len(a.said("^later ")) == 40 or None, "all came again")
        waits = sorted(int(found[1]) / 1000 for found in a.said(r"^later \d+ (\d+)$"))
        print(f"note: they came again after {waits[0]:.1f} to {waits[-1]:.1f} ms")
        assert waits[0] >= 1000 and waits[-1] < scaled(5000), waits
        wait_empty(a)
        assert len(a.said("^job ")) == 80
