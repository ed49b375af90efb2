"""Buckets when servers die, nodes stand still, and somebody deletes what is there."""

import asyncio
import contextlib
import re
import subprocess
import tempfile
import os

import nats
from brokers import ROOT, Brokers, VERSION, version_of
from nodes import Node
from test_kv import STREAM, ask, build, need_ttl, node, opened, told
from waiting import LONG, Skip, wait_until

DEADLINE_S, DEADLINE_LONG_S = 180, 7200


async def delete(brokers):
    """Deletes the bucket as an operator does."""
    client = await nats.connect(brokers.urls()[0])
    try:
        assert await client.jetstream().delete_key_value("c_b")
    finally:
        await client.close()


def test_bucket_deleted():
    """Handles say so, each call for itself, and new ones make the bucket anew."""
    with Brokers(1) as brokers, node(brokers, "1500") as one, node(brokers) as two:
        opened(one), opened(two)
        one.send("watch *")
        one.expect("^watch caught-up$")
        assert ask(two, "put a 1 0") == "AHOY_OK 1"
        told(one, "a 1 1 put")
        asyncio.run(delete(brokers))
        assert ask(one, "get a") == "AHOY_ERR_NO_STORE - 0"
        assert ask(one, "keys *") == "AHOY_ERR_NO_STORE 0"
        for change in ("put a 2 0", "create a 2 0", "update a 2 1"):
            assert ask(one, change) == "AHOY_ERR_NO_STORE 0", change
        assert ask(one, "delete a 0") == "AHOY_ERR_NO_STORE"
        # The program has only this handle from here on.
        assert ask(two, "open b 0 0 0 0") == "AHOY_OK"
        assert ask(two, "get a") == "AHOY_ERR_NO_KEY - 0"
        assert ask(two, "create a 3 0") == "AHOY_OK 1"


def keys_told(at, prefix):
    """How many keys begin so, once there is a leader that has told of all of them."""
    found = wait_until(lambda: re.fullmatch(r"AHOY_OK (\d+)", ask(at, f"keys {prefix}", 60)), "all keys are told", 60)
    return int(found[1])


def leader_killed(count):
    with Brokers(3) as brokers, node(brokers) as one, node(brokers) as two:
        opened(one, replicas=3), opened(two)
        two.send("watch l-")
        two.expect("^watch caught-up$")
        one.send(f"load l- {count}")
        one.expect(f"^loading {count // 4 // 500 * 500}$")
        brokers.kill(brokers.wait_leader(STREAM))
        said = one.expect(r"^load acknowledged=(\d+) unknown=(\d+) failed=(\d+) refused=(\d+)$", 60)
        answer = ask(one, "verify", 60)
        assert answer.startswith("lost=0 "), answer
        # What is there in the end the watch has told.
        there = keys_told(two, "l-")
        assert there >= int(said[1])
        wait_until(lambda: len(two.said("^watch l-")) >= there,
                   lambda: f"{len(two.said('^watch l-'))} of {there} told", 60)
        assert len({found.string for found in two.said("^watch l-")}) == len(two.said("^watch l-"))
        print(f"note: {said.string}, lost 0, watch told {there} of {there}")


def test_leader_killed():
    leader_killed(60000 if LONG else 10000)


def test_gap_is_repaired():
    """The watch's server dies, not the leader: changes go on while the watch comes back, and it reads what it has missed."""
    with Brokers(3) as brokers:
        with node(brokers) as first:
            opened(first, replicas=3)
        leader = brokers.wait_leader(STREAM)
        with Node(build("kv"), f"{brokers.urls()[leader]}/c") as one:
            opened(one)
            with Node(build("kv"), f"{brokers.urls()[(leader + 1) % 3]}/c") as two:
                opened(two)
                two.send("watch *")
                two.expect("^watch caught-up$")
                one.send("load l- 20000")
                one.expect("^loading 2000$")
                brokers.kill((leader + 1) % 3)
                one.expect("^load acknowledged=20000 ", 60)
                wait_until(lambda: len(two.said("^watch l-")) >= 20000,
                           lambda: f"{len(two.said('^watch l-'))} told", 60)
                gaps = int(ask(two, 'metric ahoy_kv_total{event="gap"}'))
                assert gaps > 0, "nothing was missed: this shows nothing"
                print(f"note: 20000 of 20000 told, gaps repaired: {gaps}")


def test_watchers_server_killed():
    """The watch is on one server, the changes come through another."""
    with Brokers(3) as brokers:
        with node(brokers) as one:
            opened(one, replicas=3)
            with Node(build("kv"), brokers.url("c")) as two:
                opened(two)
                two.send("watch *")
                two.expect("^watch caught-up$")
                one.send("load l- 8000")
                one.expect("^loading 1000$")
                for i in range(3):
                    brokers.kill(i)
                    brokers.restart(i)
                    brokers.wait_ready()
                acknowledged = int(one.expect(r"^load acknowledged=(\d+) ", 90)[1])
                assert acknowledged > 1000, f"only {acknowledged} were acknowledged: this shows little"
                there = keys_told(two, "l-")
                wait_until(lambda: len(two.said("^watch l-")) >= there,
                           lambda: f"{len(two.said('^watch l-'))} of {there} told", 60)
                gaps = ask(two, 'metric ahoy_kv_total{event="gap"}')
                print(f"note: {there} of {there} told, gaps repaired: {gaps}")


def test_disconnected():
    with Brokers(1) as brokers, node(brokers, "1500") as one:
        opened(one)
        one.send("watch *")
        one.expect("^watch caught-up$")
        brokers.kill(0)
        wait_until(lambda: ask(one, "put a 1 0") == "AHOY_ERR_DISCONNECTED 0")
        assert ask(one, "get a") == "AHOY_ERR_DISCONNECTED - 0"
        brokers.restart(0)
        brokers.wait_ready()
        wait_until(lambda: ask(one, "put a 2 0").startswith("AHOY_OK"))
        wait_until(lambda: one.said("^watch a 2 .* put$") or None)


def writes_of(nodes):
    """What the guarded key was given, as far as that is acknowledged: (revision, fence, count), in the order of the bucket."""
    found = [each.groups() for node in nodes for each in node.said(r"^wrote (\d+) (\d+) (\d+)$")]
    return sorted((int(revision), int(fence), int(count)) for fence, count, revision in found)


def test_lock_with_fencing():
    """The lock of docs/CLUSTER.md: holders that stand still for longer than their time, and leaders that are killed. Whoever
    has lost the lock may believe that it has it; what it writes is refused."""
    need_ttl()
    rounds = 20 if LONG else 2
    with Brokers(3) as brokers, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(Node(build("locks"), brokers.url("c"), f"n{number}", name=f"n{number}"))
                 for number in range(4)]

        def holder():
            """Who has the lock, and is about to write."""
            return next((node for node in nodes if re.match("locked|wrote", (node.lines or [""])[-1])), None)

        def write_on(among, count=20):
            """Until so many more writes are acknowledged."""
            before = len(writes_of(among))
            wait_until(lambda: len(writes_of(among)) >= before + count, "the writing goes on", 60)

        def refused():
            """How often somebody was about to write who had lost the lock."""
            return sum(len(node.said("^refused ")) for node in nodes)

        for node in nodes:
            node.expect("^ready$")
        write_on(nodes)
        stops = 0
        # One that is stopped between two writes finds out before it writes, and shows nothing.
        while refused() < rounds:
            stops += 1
            assert stops <= 10 * rounds, f"{refused()} of {stops} have written after they had lost the lock"
            frozen = wait_until(holder, "somebody has the lock")
            frozen.freeze()
            write_on([node for node in nodes if node is not frozen])
            ends = len(frozen.said("^(lost|released)"))
            frozen.thaw()
            wait_until(lambda: len(frozen.said("^(lost|released)")) > ends, "it has noticed")
            leader = brokers.wait_leader(STREAM)
            brokers.kill(leader)
            write_on(nodes)
            brokers.restart(leader)
            brokers.wait_ready(deadline_s=60)
        for node in nodes:
            node.end_input()
        for node in nodes:
            node.expect("^ended$", 60)
        writes = writes_of(nodes)
        fences, counts = [fence for _, fence, _ in writes], [count for _, _, count in writes]
        assert fences == sorted(fences), "a write was taken from somebody who had lost the lock"
        assert counts == sorted(set(counts)), "two have written from one state"
        unknown = {int(found[1]) for node in nodes for found in node.said(r"^unknown \d+ (\d+)$")}
        missing = set(range(1, counts[-1] + 1)) - set(counts)
        assert missing <= unknown, f"nobody has written {missing - unknown}"
        print(f"note: {len(writes)} writes by {len(set(fences))} holders, {stops} stopped, {refused()} refused, "
              f"{len(unknown)} unknown")


def linear():
    """The checker's program."""
    folder = f"{ROOT}/tests/cluster/linear"
    subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--quiet", "--locked", "--release", "--target-dir",
                    f"{ROOT}/target/linear"], cwd=folder, check=True)
    return f"{ROOT}/target/linear/release/linear"


def linearizable(harm):
    """Five processes, and something happens to the leader again and again."""
    if version_of(VERSION) < (2, 11):
        # 2.9.10 was seen to do so in every third run, with dozens of changes in a row: each was at two revisions.
        raise Skip("this server may store acknowledged changes a second time after its leader was killed")
    program = linear()
    seconds = 120 if LONG else 15
    with Brokers(3) as brokers, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node(brokers, "3000")) for _ in range(5)]
        for each in nodes:
            opened(each, replicas=3)
        for seed, each in enumerate(nodes):
            each.send(f"random {seed + 1} 16 {seconds * 1000}")
        harms = 0
        while not all(each.said("^random ") for each in nodes):
            wait_until(lambda: any(each.said("^random ") for each in nodes)
                       or all(len(each.said("^call .* AHOY_OK ")) > 150 * (harms + 1) for each in nodes), deadline_s=90)
            if any(each.said("^random ") for each in nodes):
                break
            harm(brokers, brokers.wait_leader(STREAM))
            harms += 1
            brokers.wait_ready(deadline_s=60)
        assert harms > 0, "nothing has happened: this shows nothing"
        for each in nodes:
            each.expect("^random ", 60)
        with tempfile.TemporaryFile("w+") as history:
            for number, each in enumerate(nodes):
                for found in each.said("^call (.*)$"):
                    print(number, found[1], file=history)
            history.seek(0)
            verdict = subprocess.run([program], stdin=history, capture_output=True, text=True, check=False)
        for each in nodes:
            assert not each.said("^failed"), each.said("^failed")[0].string
        longest = max((int(found[2]) - int(found[1])) / 1e9
                      for each in nodes for found in each.said(r"^call (\d+) (\d+) "))
        print(f"note: {verdict.stdout.strip()}, {harms} times, the longest call took {longest:.1f} s")
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_linearizable():
    def kill(brokers, leader):
        brokers.kill(leader)
        brokers.restart(leader)

    linearizable(kill)


def test_linearizable_frozen():
    """A leader that goes on does not know yet that there is another."""
    def freeze(brokers, leader):
        brokers.freeze(leader)
        others = [i for i in range(3) if i != leader]
        wait_until(lambda: brokers.leader_of(STREAM, among=others) in others, "another leads", 60)
        brokers.thaw(leader)

    linearizable(freeze)


def test_kills():
    """The leader killed again and again, each time under load: what was acknowledged is there at once, and at the end."""
    rounds, count = 100 if LONG else 1, 2000
    with Brokers(3) as brokers, node(brokers) as one, node(brokers) as two:
        opened(one, replicas=3), opened(two)
        two.send("watch k")
        two.expect("^watch caught-up$")
        acknowledged, there = 0, []

        def keys_of(turn):
            return keys_told(two, f"k{turn}-")

        for turn in range(rounds):
            one.send(f"load k{turn}- {count}")
            one.expect("^loading 500$", 60)
            victim = brokers.wait_leader(STREAM)
            brokers.kill(victim)
            said = one.expect(r"^load acknowledged=(\d+) ", 60)
            answer = ask(one, "verify", 60)
            assert answer.startswith("lost=0 "), (turn, answer)
            acknowledged += int(said[1])
            there.append(keys_of(turn))
            assert there[-1] >= int(said[1]), (turn, there[-1], said.string)
            brokers.restart(victim)
            brokers.wait_ready(deadline_s=60)
            brokers.wait_leader(STREAM)
        # Later leaders have it all, too. What had an unknown outcome may have come later.
        for turn, before in enumerate(there):
            assert keys_of(turn) >= before, (turn, before)
        told = sum(map(keys_of, range(rounds)))
        wait_until(lambda: len(two.said("^watch k")) >= told, lambda: f"{len(two.said('^watch k'))} of {told} told", 60)
        assert len({found.string for found in two.said("^watch k")}) == len(two.said("^watch k"))
        print(f"note: {rounds} leaders killed, {acknowledged} acknowledged, 0 lost, watch told {told} of {told}")
