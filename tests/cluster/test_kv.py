"""Buckets: every call and what is refused, with each engine; and other clients."""

import contextlib
import os
import re
import subprocess

import nats
from brokers import ROOT, Brokers, VERSION, version_of
from engines import pair
from nodes import Node
from waiting import Skip, wait_until

DEADLINE_S = 180
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
