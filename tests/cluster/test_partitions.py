"""Nodes on hosts of their own, and cables that are pulled while they are at work."""

import contextlib
import time

import test_kv
import test_queues
import test_services
from brokers import Brokers
from namespaces import Network
from nodes import Node
from test_kv import ask, build, opened
from test_kv_faults import keys_told
from test_queues import counts, done_with, pushed, wait_all_done, wait_empty, work
from test_services import call, kept, known_to, offer, reply
from waiting import for_a_while, wait_until

DEADLINE_S = 240
# The brokers have the first three hosts.
HERE, THERE = 3, 4


@contextlib.contextmanager
def machines():
    """Three brokers and two more hosts."""
    with Network(5) as network, Brokers(3, network=network) as brokers:
        yield network, brokers


def bucket(network, brokers, host, timeout_ms=5000):
    return Node(*network.command(host, build("kv"), brokers.url("c"), str(timeout_ms)))


def queue(network, brokers, host, name):
    node = Node(*network.command(host, test_queues.PROGRAM, brokers.url("farm"), name, "0"), name=name)
    node.expect("^ready")
    return node


def others_lead(brokers, stream, cut):
    """Waits until the others have a leader."""
    others = [i for i in range(3) if i != cut]
    wait_until(lambda: brokers.wait_leader(stream, among=others) != cut, "the others have a leader", 60)


def check_bucket(writer, reader, said):
    """Everything that was acknowledged is there, and the watch tells all that is there."""
    assert int(said[1]) > 0, said.string
    assert ask(writer, "verify", 120).startswith("lost=0 ")
    there = keys_told(reader, "p-")
    assert there >= int(said[1])
    wait_until(lambda: len(reader.said("^watch p-")) >= there,
               lambda: f"{len(reader.said('^watch p-'))} of {there} told", 60)
    print(f"note: {said.string}, lost 0, watch told {there}")


def under_load(harm):
    """One writes and one watches, while something happens to a host."""
    with machines() as (network, brokers), bucket(network, brokers, HERE) as writer, \
            bucket(network, brokers, THERE) as reader:
        opened(writer, replicas=3), opened(reader)
        reader.send("watch p-")
        reader.expect("^watch caught-up$")
        writer.send("load p- 6000")
        writer.expect("^loading 1500$")
        heal = harm(network, brokers)
        said = writer.expect(r"^load acknowledged=(\d+) ", 120)
        heal()
        brokers.wait_ready(deadline_s=60)
        check_bucket(writer, reader, said)


def test_bucket_and_its_leader_cut_off():
    def harm(network, brokers):
        leader = brokers.wait_leader(test_kv.STREAM)
        network.cut(leader)
        others_lead(brokers, test_kv.STREAM, leader)
        return lambda: network.heal(leader)

    under_load(harm)


def test_bucket_and_its_writer_cut_off():
    def harm(network, _):
        network.cut(HERE)
        # It finds out by itself, and what it has not begun is refused.
        return lambda: network.heal(HERE)

    under_load(harm)


def test_bucket_and_its_watcher_cut_off():
    def harm(network, _):
        network.cut(THERE)
        return lambda: network.heal(THERE)

    under_load(harm)


def test_queue_and_its_leader_cut_off():
    with machines() as (network, brokers), queue(network, brokers, HERE, "a") as a, \
            queue(network, brokers, THERE, "b") as b:
        work(b, in_hand=20, ack_ms=3000, tries=50)
        a.send("push q 0 500")
        wait_until(lambda: len(pushed(a)) > 100 or None, "it has begun")
        leader = brokers.wait_leader(test_queues.STREAM)
        network.cut(leader)
        a.send("push q 500 500")
        others_lead(brokers, test_queues.STREAM, leader)
        wait_until(lambda: done_with(a)(1000) or None, "all pushes have an end", 90)
        wait_all_done(pushed(a), b)
        network.heal(leader)
        brokers.wait_ready(deadline_s=60)
        a.send("push q 1000 500")
        wait_until(lambda: done_with(a)(1500) or None, "all pushes have an end", 90)
        wait_all_done(pushed(a), b)
        wait_empty(a)
        print(f"note: {len(pushed(a))} acknowledged, 0 lost, {len(pushed(a, 'unpushed'))} refused or unknown")


def test_worker_cut_off():
    """Its jobs go to somebody else when their time is over; what it says later does no harm."""
    with machines() as (network, brokers), queue(network, brokers, HERE, "a") as a, \
            queue(network, brokers, THERE, "cut") as cut:
        work(cut, "keep", in_hand=10, ack_ms=2000, tries=50)
        a.send("push q 0 50")
        wait_until(lambda: len(pushed(a)) == 50 and len(cut.said("^job ")) >= 10 or None, "it has its hands full")
        network.cut(THERE)
        work(a, in_hand=10, ack_ms=2000, tries=50)
        wait_all_done(set(range(50)), a, deadline_s=60)
        network.heal(THERE)
        cut.send("finish")
        cut.expect("^finished ", 60)
        wait_until(lambda: counts(a) == (0, 0, 0) or None, lambda: f"the queue has {counts(a)}", 60)


def test_service_cut_off():
    """The same as a crash, as soon as its broker has noticed: what it had in hand is unknown, or sent to another."""
    with Network(5) as network, Brokers(3, network=network, extra="ping_interval: 500ms\nping_max: 1") as brokers:
        def node(host, name):
            started = Node(*network.command(host, test_services.PROGRAM, name, brokers.url("chat")), name=name)
            started.expect("^ready$")
            return started

        with node(HERE, "a") as a, node(THERE, "cut") as cut, node(HERE, "c") as c:
            offer(cut, "keep", "keep")
            known_to(a, "keep")
            call(a, 1, "keep", "one", timeout_ms=60000)
            call(a, 2, "keep", "two", timeout_ms=10000, idempotent=1)
            kept(cut, "one", "two")
            offer(c, "keep", "upper")
            # A note that it takes longer has come by now.
            for_a_while(0.2)
            network.cut(THERE)
            begin = time.monotonic()
            wait_until(lambda: a.said("^reply 1 AHOY_ERR_UNKNOWN_OUTCOME .* gone$"), "its broker has noticed", 60)
            print(f"note: noticed within {time.monotonic() - begin:.1f} s")
            # If that takes two seconds or more, the second try may have gone there, too.
            wait_until(lambda: a.said("^reply 2 AHOY_OK 3 TWO$|^reply 2 AHOY_ERR_UNKNOWN_OUTCOME .* no answer in time$"))
            # From now on everybody knows.
            for number in range(10, 20):
                call(a, number, "keep", "more")
                assert reply(a, number) == ("OK", "MORE")
            cut.expect("^state 3 ", 60)
            call(cut, 3, "nobody", timeout_ms=1000)
            cut.expect("^call 3 AHOY_ERR_DISCONNECTED$")
            network.heal(THERE)
            cut.expect("^state 4 ", 60)
            call(cut, 4, "nobody")
            assert reply(cut, 4)[0] == "NO_SERVICE"
