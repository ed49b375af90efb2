"""Buckets: every call and what is refused, with each engine; other clients, and what happens when servers die."""

import asyncio
import contextlib
import os
import re
import subprocess
import tempfile

import nats
from brokers import ROOT, Brokers, VERSION, version_of
from engines import pair
from nodes import Node
from waiting import LONG, Skip, wait_until

DEADLINE_S, DEADLINE_LONG_S = 180, 7200
# Of a call, also while there is no leader.
STREAM = "KV_c_b"


def build(name):
    """The node's program, built when it is older than its source or the library."""
    source, library = f"{ROOT}/tests/cluster/{name}.c", f"{ROOT}/target/lib/libahoy.so"
    program = f"{ROOT}/target/cluster/{name}"
    newest = max(os.path.getmtime(source), os.path.getmtime(f"{ROOT}/include/ahoy.h"))
    if not os.path.exists(program) or os.path.getmtime(program) < newest:
        os.makedirs(os.path.dirname(program), exist_ok=True)
        subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra",
                        "-Werror", "-pthread", f"-I{ROOT}/include", "-o", program, source, library,
                        f"-Wl,-rpath,{os.path.dirname(library)}"], check=True)
    return program


def node(brokers, *more, name=None):
    """A node that has joined."""
    return Node(build("kv"), brokers.url("c"), *more, name=name)


def ask(node, line, deadline_s=30):
    """Sends a command; the rest of its answer."""
    word = line.split()[0]
    node.send(line)
    return node.expect(f"^{word} (.*)$", deadline_s)[1].strip()


def opened(node, *, replicas=0, history=0, ttl=0, reads=0, bytes_max=0, name="b"):
    node.expect("^started AHOY_OK$")
    answer = ask(node, f"open {name} {replicas} {history} {ttl} {reads} {bytes_max}")
    assert answer == "AHOY_OK", answer
    return node


@contextlib.contextmanager
def two_opened(cluster, **options):
    """Two nodes that have the bucket, or the same one twice."""
    with pair(cluster, node) as (one, two):
        opened(one, **options)
        if two is not one:
            opened(two)
        yield one, two


def need_ttl(engine=Brokers):
    """Skips the test where keys have no time of their own."""
    if engine is Brokers and version_of(VERSION) < (2, 11):
        raise Skip("this server is too old for keys with a time to live")


def told(at, line):
    """Until a watch has said that, whatever else was said meanwhile."""
    wait_until(lambda: at.said(f"^watch {re.escape(line)}$") or None, f"the watch has said {line!r}")


def calls(engine, reads):
    with engine() as cluster, two_opened(cluster, reads=reads) as (one, two):
        two.send("watch *")
        two.expect("^watch caught-up$")
        assert ask(one, "put a 1 0") == "AHOY_OK 1"
        told(two, "a 1 1 put")
        assert ask(two, "get a") == "AHOY_OK 1 1"
        assert ask(two, "create a 2 0") == "AHOY_ERR_KEY_EXISTS 0"
        assert ask(one, "update a 2 7") == "AHOY_ERR_REVISION 0"
        assert ask(one, "update a 2 1") == "AHOY_OK 2"
        assert ask(two, "delete a 1") == "AHOY_ERR_REVISION"
        assert ask(two, "delete a 2") == "AHOY_OK"
        told(two, "a - 3 delete")
        assert ask(two, "get a") == "AHOY_ERR_NO_KEY - 0"
        assert ask(two, "update a 2 2") == "AHOY_ERR_REVISION 0"
        assert ask(one, "create a 3 0") == "AHOY_OK 4"
        for number in range(70):
            ask(one, f"put k.{number}* {number} 0")
        assert ask(two, "keys *") == "AHOY_OK 71"
        assert ask(two, "keys k.1") == "AHOY_OK 11"
        assert ask(two, "keys none") == "AHOY_OK 0"


def test_calls(engine):
    calls(engine, reads=0)


def test_calls_stale_ok(engine):
    calls(engine, reads=1)


def test_watch_of_a_prefix(engine):
    """First what is there, then what comes; of other keys nothing."""
    with engine() as cluster, node(cluster) as one:
        opened(one)
        for number in range(70):
            ask(one, f"put k.{number}* {number} 0")
        one.send("watch k.6")
        one.expect("^watch caught-up$")
        assert len(one.said("^watch k[.]6.* put$")) == 11
        assert ask(one, "put k.5* new 0") == "AHOY_OK 71"
        assert ask(one, "put k.6 new 0") == "AHOY_OK 72"
        told(one, "k.6 new 72 put")
        assert len(one.said("^watch k")) == 12


def test_deletions(engine):
    """Each is a change with a revision of its own, also where there was nothing; and a key may be made anew from it."""
    with engine() as cluster, node(cluster) as one:
        opened(one)
        one.send("watch *")
        one.expect("^watch caught-up$")
        assert ask(one, "delete a 1") == "AHOY_ERR_REVISION"
        assert ask(one, "update a x 1") == "AHOY_ERR_REVISION 0"
        assert ask(one, "delete a 0") == "AHOY_OK"
        told(one, "a - 1 delete")
        assert ask(one, "delete a 0") == "AHOY_OK"
        told(one, "a - 2 delete")
        assert ask(one, "keys *") == "AHOY_OK 0"
        # Only the last thing that was done to it counts.
        assert ask(one, "update a x 1") == "AHOY_ERR_REVISION 0"
        assert ask(one, "update a x 2") == "AHOY_OK 3"
        assert ask(one, "update a y 2") == "AHOY_ERR_REVISION 0"
        assert ask(one, "delete a 3") == "AHOY_OK"
        assert ask(one, "delete a 3") == "AHOY_ERR_REVISION"
        assert ask(one, "delete a 4") == "AHOY_OK"
        told(one, "a - 5 delete")
        assert ask(one, "create a z 0") == "AHOY_OK 6"
        assert ask(one, "update a x 5") == "AHOY_ERR_REVISION 0"


def test_refused(engine):
    with engine() as cluster, node(cluster) as one:
        opened(one)
        assert ask(one, "open z 3 0 0 0").startswith("AHOY_ERR_REPLICAS")
        for bucket, reason in (("b 0 5 0 0", "its history is 1, not 5"), ("b 0 0 100 0", "its ttl_ms is 0, not 100"),
                               ("z 0 65 0 0", "history is at most 64"), ("z 0 0 99 0", "ttl_ms of a bucket is at least 100"),
                               ("z 6 0 0 0", "replicas is at most 5"), ("a.b 0 0 0 0", "the name of a bucket is")):
            answer = ask(one, f"open {bucket}")
            assert answer.startswith("AHOY_ERR_INVALID") and reason in answer, answer
        assert ask(one, "open b 0 0 0 0") == "AHOY_OK"


def test_no_store():
    with Brokers(1, jetstream=False) as brokers, node(brokers) as one:
        one.expect("^started AHOY_OK$")
        assert ask(one, "open b 0 0 0 0").startswith("AHOY_ERR_NO_STORE")


def test_key_ttl(engine):
    need_ttl(engine)
    with engine() as cluster, node(cluster) as one:
        opened(one)
        one.send("watch *")
        one.expect("^watch caught-up$")
        assert ask(one, "create a 1 900") == "AHOY_OK 1"
        one.expect("^watch a - 2 delete$")
        assert ask(one, "get a") == "AHOY_ERR_NO_KEY - 0"
        # What the server leaves in its place is no key; and the new one has a time as well.
        assert ask(one, "create a 2 900") == "AHOY_OK 3"
        one.expect("^watch a - 4 delete$")


def test_key_ttl_with_history(engine):
    """Where a key's older values are kept the last one has no time of its own: an older one would come back after it."""
    need_ttl(engine)
    with engine() as cluster, node(cluster) as one:
        opened(one, history=3)
        assert ask(one, "put a old 0") == "AHOY_OK 1"
        for write in ("put a new 1000", "update a new 1 1000", "create b new 1000"):
            assert ask(one, write) == "AHOY_ERR_UNSUPPORTED 0"
        # Nothing was written, and what has no time is.
        assert ask(one, "get a") == "AHOY_OK old 1"
        assert ask(one, "get b") == "AHOY_ERR_NO_KEY - 0"
        assert ask(one, "update a new 1") == "AHOY_OK 2"


def test_key_ttl_on_an_old_server():
    assert version_of("debian") < (2, 11), "Debian's server is no old one any more"
    with Brokers(1, version="debian") as brokers, node(brokers) as one:
        opened(one)
        for change in ("put", "create"):
            assert ask(one, f"{change} a 1 1000") == "AHOY_ERR_UNSUPPORTED 0"
            assert ask(one, "get a") == "AHOY_ERR_NO_KEY - 0"
        # Nothing was written: this is the first revision.
        assert ask(one, "put a 2 0") == "AHOY_OK 1"
        assert ask(one, "put a 3 1000") == "AHOY_ERR_UNSUPPORTED 0"
        assert ask(one, "get a") == "AHOY_OK 2 1"


def test_value_too_long():
    with Brokers(1, max_payload=2000) as brokers, node(brokers) as one:
        opened(one)
        long, short = "x" * 2001, "y" * 1500
        for change in ("put a {} 0", "create a {} 0", "update a {} 1"):
            assert ask(one, change.format(long)) == "AHOY_ERR_TOO_LONG 0"
            assert ask(one, "get a") == "AHOY_ERR_NO_KEY - 0"
        assert ask(one, f"put a {short} 0") == "AHOY_OK 1"
        assert ask(one, f"update a {long} 1") == "AHOY_ERR_TOO_LONG 0"
        assert ask(one, "get a") == f"AHOY_OK {short} 1"
        # What goes along with an update counts, too: it is refused, and the connection lives.
        assert ask(one, f"update a {long[:2000]} 1") == "AHOY_ERR_TOO_LONG 0"
        assert ask(one, f"update a {short} 1") == "AHOY_OK 2"


def test_full(engine):
    """What does not fit is refused, and a full bucket forgets nothing; what is deleted makes room."""
    with engine() as cluster, node(cluster) as one:
        opened(one, bytes_max=4000)
        value = "x" * 1500
        assert ask(one, f"put a {value} 0") == "AHOY_OK 1"
        assert ask(one, f"put b {value} 0") == "AHOY_OK 2"
        for change in ("put c {} 0", "create c {} 0"):
            assert ask(one, change.format(value)) == "AHOY_ERR_AGAIN 0"
            assert ask(one, "get c") == "AHOY_ERR_NO_KEY - 0"
        assert ask(one, "get a") == f"AHOY_OK {value} 1"
        assert ask(one, "delete a 1") == "AHOY_OK"
        assert ask(one, f"create c {value} 0") == "AHOY_OK 4"
        answer = ask(one, "open b 0 0 0 0 5000")
        assert answer.startswith("AHOY_ERR_INVALID") and "its bytes_max is 4000, not 5000" in answer, answer


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


def in_line(key):
    """A key as kv.c writes it."""
    return "".join(chr(byte) if 32 < byte < 127 and byte != ord("%") else f"%{byte:02X}" for byte in key)


def test_any_key(engine):
    """What NATS does not take in a subject is a key all the same."""
    keys = [b"=", b"=41", b"A", b"a b", b">", b"*", b"*.>", b".", b"..", ".ä.".encode(), b"a.", b".a", b"a..b", b"%", b"\0",
            b"a\0", b"a\0b", b"\r\n", b"\x7f\xff", bytes(range(1, 256)), b">" * 255, b"." * 255, b"a.b" * 85]
    with engine() as cluster, two_opened(cluster) as (one, two):
        two.send("watch *")
        two.expect("^watch caught-up$")
        for number, key in enumerate(keys):
            assert ask(one, f"create {in_line(key)} v{number} 0") == f"AHOY_OK {number + 1}", key
        for number, key in enumerate(keys):
            # Each is a key of its own.
            assert ask(two, f"get {in_line(key)}") == f"AHOY_OK v{number} {number + 1}", key
            two.send(f"keys {in_line(key) if key != b'*' else '%2A'}")
            count = sum(other.startswith(key) for other in keys)
            assert two.expect("^keys (.*)$")[1] == f"AHOY_OK {count}", key
        wait_until(lambda: len(two.said("^watch .* put$")) >= len(keys), "all are told")
        puts = [found.string for found in two.said("^watch .* put$")]
        assert puts == [f"watch {in_line(key)} v{number} {number + 1} put" for number, key in enumerate(keys)], puts
        for number, key in enumerate(keys):
            assert ask(one, f"delete {in_line(key)} {number + 1}") == "AHOY_OK", key
            told(two, f"{in_line(key)} - {len(keys) + number + 1} delete")
        assert ask(two, "keys *") == "AHOY_OK 0"
        for change in (f"put {'k' * 256} 1 0", f"get {'k' * 256}"):
            assert ask(one, change).startswith("AHOY_ERR_TOO_LONG"), change


def test_bucket_ttl(engine):
    with engine() as cluster, node(cluster) as one:
        opened(one, ttl=500)
        assert ask(one, "put a 1 0") == "AHOY_OK 1"
        wait_until(lambda: ask(one, "get a") == "AHOY_ERR_NO_KEY - 0")
        assert ask(one, "create a 1 0").startswith("AHOY_OK")


def test_own_writes():
    with Brokers(3) as brokers, node(brokers) as one:
        opened(one)
        assert ask(one, "own 3000", 60) == "missed=0 of=3000"


async def test_other_clients():
    """nats-py has the bucket, too."""
    with Brokers(3) as brokers, node(brokers) as one:
        opened(one)
        client = await nats.connect(brokers.urls()[0])
        try:
            kv = await client.jetstream().key_value("c_b")
            assert ask(one, "put from.ahoy 1 0") == "AHOY_OK 1"
            assert (await kv.get("from.ahoy")).value == b"1"
            one.send("watch *")
            one.expect("^watch caught-up$")
            watcher = await kv.watchall()

            async def next_change():
                while True:
                    entry = await watcher.updates(timeout=5)
                    if entry is not None:
                        return entry.key, entry.operation, entry.value

            assert await next_change() == ("from.ahoy", None, b"1")
            assert await kv.put("from.python", b"2") == 2
            one.expect("^watch from.python 2 2 put$")
            assert await next_change() == ("from.python", None, b"2")
            assert ask(one, "get from.python") == "AHOY_OK 2 2"
            assert ask(one, "update from.python 3 2") == "AHOY_OK 3"
            assert await next_change() == ("from.python", None, b"3")
            await kv.delete("from.python")
            one.expect("^watch from.python - 4 delete$")
            assert ask(one, "get from.python") == "AHOY_ERR_NO_KEY - 0"
            assert await next_change() == ("from.python", "DEL", b"")
            assert ask(one, "delete from.ahoy 1") == "AHOY_OK"
            assert (await next_change())[:2] == ("from.ahoy", "DEL")
            assert ask(one, "create from.python 5 0") == "AHOY_OK 6"
            assert (await kv.get("from.python")).value == b"5"
        finally:
            await client.close()


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
        two.send("keys l-")
        there = int(two.expect(r"^keys AHOY_OK (\d+)$", 60)[1])
        assert there >= int(said[1])
        wait_until(lambda: len(two.said("^watch l-")) >= there,
                   lambda: f"{len(two.said('^watch l-'))} of {there} told", 60)
        assert len({found.string for found in two.said("^watch l-")}) == len(two.said("^watch l-"))
        print(f"note: {said.string}, lost 0, watch told {there} of {there}")


def test_leader_killed():
    leader_killed(60000 if LONG else 10000)


def test_kills():
    """The leader killed again and again, each time under load: what was acknowledged is there at once, and at the end."""
    rounds, count = 100 if LONG else 1, 2000
    with Brokers(3) as brokers, node(brokers) as one, node(brokers) as two:
        opened(one, replicas=3), opened(two)
        two.send("watch k")
        two.expect("^watch caught-up$")
        acknowledged, there = 0, []

        def keys_of(turn):
            two.send(f"keys k{turn}-")
            return int(two.expect(r"^keys AHOY_OK (\d+)$", 60)[1])

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
                two.send("keys l-")
                there = int(two.expect(r"^keys AHOY_OK (\d+)$", 60)[1])
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


def test_linearizable():
    """Five processes, and the leader is killed again and again."""
    program = linear()
    seconds = 120 if LONG else 15
    with Brokers(3) as brokers, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node(brokers, "3000")) for _ in range(5)]
        for each in nodes:
            opened(each, replicas=3)
        for seed, each in enumerate(nodes):
            each.send(f"random {seed + 1} 16 {seconds * 1000}")
        kills = 0
        while not all(each.said("^random ") for each in nodes):
            wait_until(lambda: any(each.said("^random ") for each in nodes)
                       or all(len(each.said("^call .* AHOY_OK ")) > 150 * (kills + 1) for each in nodes), deadline_s=90)
            if any(each.said("^random ") for each in nodes):
                break
            leader = brokers.wait_leader(STREAM)
            brokers.kill(leader)
            kills += 1
            brokers.restart(leader)
            brokers.wait_ready(deadline_s=60)
        assert kills > 0, "no leader was killed: this shows nothing"
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
        print(f"note: {verdict.stdout.strip()}, {kills} leaders killed, the longest call took {longest:.1f} s")
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr
