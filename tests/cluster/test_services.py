"""Services over real brokers: who answers, what a caller learns, and what a crash costs."""

import json
import os
import time

import nats
from nats.micro import add_service
from nats.micro.service import EndpointConfig, ServiceConfig, ServiceInfo, ServicePing, ServiceStats

from brokers import ROOT, Brokers
from engines import pair
from nodes import Node
from waiting import becomes, for_a_while, scaled, wait_until

PROGRAM = os.path.join(ROOT, "target/cluster/services")


def node(brokers, name="a"):
    """One that has joined."""
    started = Node(PROGRAM, name, brokers.url("chat"), name=name)
    started.expect("^ready$")
    return started


def offer(at, name, mode, *more):
    at.send(" ".join(["offer", name, mode, *more]))
    at.expect("^offer AHOY_OK$")
    # Its broker has heard of it before it answers this.
    call(at, "offered", "nobody")
    assert reply(at, "offered")[0] == "NO_SERVICE"


def call(at, number, service, text="x", timeout_ms=10000, idempotent=0):
    at.send(f"call {number} {service} {timeout_ms} {idempotent} {text}")


def kept(at, *texts):
    """Until it has these calls, in any order."""
    wait_until(lambda: all(at.said(f"^kept {text}$") for text in texts) or None, f"{texts} are kept")


def reply(at, number):
    """Status and text."""
    found = at.expect(rf"^reply {number} (\w+) \d+ ?(.*)$")
    return found[1].removeprefix("AHOY_").removeprefix("ERR_"), found[2]


def known_to(caller, service):
    """Until the caller's broker has heard that somebody offers it."""
    def answered():
        call(caller, "known", service)
        return reply(caller, "known")[0] != "NO_SERVICE"
    wait_until(answered, f"{service} is known")


def counted(at, title="counts"):
    """What came of its calls, by status."""
    line = at.expect(f"^{title}.*")[0]
    return {name.removeprefix("AHOY_").removeprefix("ERR_"): int(count)
            for name, count in (pair.split("=") for pair in line.split()[1:])}


def test_load_is_spread():
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b, node(brokers, "c") as c:
        for each in (a, b, c):
            offer(each, "who", "node")
        for each in (a, b, c):
            known_to(each, "who")
        before = []
        for each in (a, b, c):
            each.send("served")
            before.append(int(each.expect(r"^served (\d+)$")[1]))
        for each in (a, b, c):
            each.send("many who 1000")
            each.send("counts")
            assert counted(each) == {"OK": 1000}
        shares = []
        for each, had in zip((a, b, c), before):
            each.send("served")
            shares.append(int(each.expect(r"^served (\d+)$")[1]) - had)
        assert sum(shares) == 3000 and min(shares) > 300, shares
        print(f"note: {shares}")


def test_outcomes(engine):
    with engine() as cluster, pair(cluster, node) as (a, b):
        call(a, 1, "nobody")
        begin = time.monotonic()
        assert reply(a, 1)[0] == "NO_SERVICE"
        assert time.monotonic() - begin < scaled(2)
        # Our own node is one of those that answer, at once.
        offer(a, "upper", "upper")
        call(a, 2, "upper", "hello")
        assert reply(a, 2) == ("OK", "HELLO")
        offer(b, "fail", "fail")
        call(a, 3, "fail")
        assert reply(a, 3) == ("FAILED", "it broke")
        offer(b, "keep", "keep", "1")
        call(a, 4, "keep", "first")
        kept(b, "first")
        call(a, 5, "keep", "second")
        assert reply(a, 5)[0] == "AGAIN"
        b.send("reply done")
        assert reply(a, 4) == ("OK", "done")
        call(a, 6, "keep", "third", timeout_ms=200)
        assert reply(a, 6)[0] == "UNKNOWN_OUTCOME"
        # Answered when nobody waits any more; and after the offer has ended.
        b.send("reply late")
        wait_until(lambda: len(b.said("^replied AHOY_OK$")) == 2 or None, "it is answered")
        call(a, 7, "keep", "fourth")
        kept(b, "fourth")
        b.send("end")
        wait_until(lambda: b.said("^end AHOY_OK$") and b.said("^freed$") or None, "the offer has ended")
        b.send("reply after the end")
        assert reply(a, 7) == ("OK", "after the end")
        call(a, 8, "keep")
        assert reply(a, 8)[0] == "NO_SERVICE"
        wait_until(lambda: len(b.said("^replied")) == 3 or None, "all is answered")
        assert len(b.said("^replied AHOY_OK$")) == 3


def test_too_long():
    with Brokers(1, max_payload=65536) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        offer(b, "upper", "upper")
        a.send("big upper 65536")
        a.expect("^big AHOY_OK 65536$")
        a.send("big upper 65537")
        a.expect("^big AHOY_ERR_TOO_LONG 0$")
        offer(b, "big", "big")
        call(a, 1, "big", "65537")
        b.expect("^big AHOY_ERR_TOO_LONG$")
        assert reply(a, 1) == ("FAILED", "AHOY_ERR_TOO_LONG")


def test_node_killed():
    """The one that has the call: its caller learns of it long before the time is up."""
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b, node(brokers, "c") as c:
        offer(b, "keep", "keep")
        offer(b, "upper", "upper")
        # What is offered on one connection becomes known in order.
        known_to(a, "upper")
        call(a, 1, "keep", "one", idempotent=0)
        call(a, 2, "keep", "two", idempotent=1)
        kept(b, "one", "two")
        offer(c, "keep", "upper")
        offer(c, "other", "upper")
        known_to(a, "other")
        # A note that it takes longer has come by now.
        for_a_while(0.2)
        b.kill()
        begin = time.monotonic()
        assert reply(a, "[12]")
        assert reply(a, "[12]")
        took = time.monotonic() - begin
        said = {found[1]: found[2] for found in a.said(r"^reply ([12]) (\w+)")}
        assert said == {"1": "AHOY_ERR_UNKNOWN_OUTCOME", "2": "AHOY_OK"}, said
        assert took < scaled(3), took
        print(f"note: noticed within {took:.2f} s")


def test_node_frozen():
    with Brokers(1) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        offer(b, "keep", "keep")
        call(a, 1, "keep", "one", timeout_ms=2000)
        call(a, 2, "keep", "two", timeout_ms=30000, idempotent=1)
        kept(b, "one", "two")
        for_a_while(0.2)
        b.freeze()
        begin = time.monotonic()
        assert reply(a, 1)[0] == "UNKNOWN_OUTCOME"
        assert 1 < time.monotonic() - begin < scaled(4)
        with node(brokers, "c") as c:
            offer(c, "keep", "upper")
            # It is sent again; it may be to the frozen one, and then it waits until that goes on.
            for_a_while(2.5)
            b.thaw()
            wait_until(lambda: a.said("^reply 2 ") or len(b.said("^kept two$")) == 2, "c or b has it")
            b.send("reply thawed")
            status, text = reply(a, 2)
            assert status == "OK" and text in ("TWO", "thawed"), (status, text)


def test_broker_killed():
    with Brokers(3) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        offer(b, "upper", "upper")
        known_to(a, "upper")
        a.send("keep calling upper")
        for victim in (0, 1):
            for_a_while(0.5)
            brokers.kill(victim)
            for_a_while(1)
            brokers.restart(victim)
            brokers.wait_ready()
        call(a, 7, "upper", "still")
        wait_until(lambda: a.said("^reply 7 "), "the call has an end")
        a.send("enough")
        seen = counted(a)
        assert seen.get("OK", 0) > 100, seen
        allowed = {"OK", "UNKNOWN_OUTCOME", "DISCONNECTED", "NO_SERVICE"}
        assert set(seen) <= allowed, seen
        assert seen.get("UNKNOWN_OUTCOME", 0) <= 4, seen
        print(f"note: {seen}")


def test_only_broker_killed():
    """While cut off a call is refused at once; what was under way is unknown, or sent again."""
    with Brokers(1) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        offer(b, "keep", "keep")
        call(a, 1, "keep", "one")
        call(a, 2, "keep", "two", timeout_ms=30000, idempotent=1)
        kept(b, "one", "two")
        brokers.kill(0)
        assert reply(a, 1)[0] == "UNKNOWN_OUTCOME"
        a.send("call 3 keep 1000 0 three")
        a.expect("^call 3 AHOY_ERR_DISCONNECTED$")
        b.expect("^state 3 ")
        # An answer waits for the link.
        b.send("reply held")
        b.expect("^replied AHOY_OK$")
        brokers.restart(0)
        brokers.wait_ready()
        wait_until(lambda: len(b.said("^kept two$")) == 2 or None, "it is sent again")
        b.send("reply again")
        assert reply(a, 2) == ("OK", "again")


def test_answers_that_wait_are_bounded():
    """While the cluster is gone, 64 MiB of answers wait for it: more are refused, and nothing else suffers."""
    with Brokers(1) as brokers, node(brokers, "a") as a, node(brokers, "b") as b:
        offer(b, "keep", "keep")
        for number in range(70):
            call(a, number, "keep", str(number))
        kept(b, *range(70))
        brokers.kill(0)
        b.expect("^state 3 ")
        b.send(f"fill {1 << 20}")
        assert counted(b, "filled") == {"OK": 64, "AGAIN": 6}
        brokers.restart(0)
        for each in (a, b):
            each.expect("^state 4 ")
        offer(b, "upper", "upper")
        known_to(a, "upper")
        call(a, "after", "upper", "hello")
        assert reply(a, "after") == ("OK", "HELLO")
        # There is room again.
        call(a, "again", "keep", "again")
        kept(b, "again")
        b.send(f"fill {1 << 10}")
        assert counted(b, "filled") == {"OK": 1}


def test_stop_of_a_node():
    """A stop takes no further call and answers those in hand; callers do not notice."""
    with Brokers(1) as brokers, node(brokers, "a") as a, node(brokers, "b") as b, node(brokers, "c") as c:
        offer(b, "upper", "upper")
        offer(c, "upper", "upper")
        known_to(a, "upper")
        offer(c, "keep", "keep")
        call(a, 1, "keep", "one")
        kept(c, "one")
        a.send("keep calling upper")
        for_a_while(0.3)
        c.send("stop")
        wait_until(lambda: c.said("^stopping$") and len(c.said("^freed$")) == 2 or None, "it takes no further call")
        c.send("reply done")
        c.expect("^replied AHOY_OK$")
        assert reply(a, 1) == ("OK", "done")
        for_a_while(0.3)
        a.send("enough")
        seen = counted(a)
        assert set(seen) == {"OK"}, seen
        c.end_input()
        c.expect("^bye 2$")
        print(f"note: {seen}")


async def test_foreign_clients():
    """nats-py calls a service of ours, reads what it is told about it, and offers one that we call."""
    with Brokers(1) as brokers, node(brokers, "a") as a:
        offer(a, "upper", "upper")
        offer(a, "fail", "fail")
        client = await nats.connect(brokers.urls()[0])
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        assert (await client.request("chat.service.upper", b"hello", timeout=5)).data == b"HELLO"
        failed = await client.request("chat.service.fail", b"", timeout=5)
        assert failed.headers["Nats-Service-Error"] == "it broke"
        assert failed.headers["Nats-Service-Error-Code"] == "500"
        # Exactly one plain answer.
        await client.publish("chat.service.upper", b"once", reply=inbox)
        assert (await answers.next_msg(5)).data == b"ONCE"
        offer(a, "keep", "keep")
        await client.publish("chat.service.keep", b"slow", reply=inbox)
        await client.flush()
        kept(a, "slow")
        for_a_while(0.3)
        a.send("reply slow")
        assert (await answers.next_msg(5)).data == b"slow"
        assert answers.pending_msgs == 0

        async def ask(subject):
            return json.loads((await client.request(subject, b"", timeout=5)).data)

        ping = await ask("$SRV.PING.upper")
        assert ping["type"] == "io.nats.micro.v1.ping_response"
        identity = ServicePing.from_dict(ping)
        assert (identity.name, identity.version) == ("upper", "1.2.0")
        assert identity.metadata == {"cluster": "chat", "node": "a"}
        raw = await ask(f"$SRV.INFO.upper.{identity.id}")
        assert raw["type"] == "io.nats.micro.v1.info_response"
        info = ServiceInfo.from_dict(raw)
        assert info.description == 'says "hello"'
        assert [(at.subject, at.queue_group) for at in info.endpoints] == [("chat.service.upper", "q")]
        raw = await ask("$SRV.STATS.fail")
        assert raw["type"] == "io.nats.micro.v1.stats_response"
        [stats] = ServiceStats.from_dict(raw).endpoints
        assert (stats.num_requests, stats.num_errors, stats.last_error) == (1, 1, "it broke")
        assert stats.processing_time > 0
        # All three answer to all.
        await client.publish("$SRV.PING", b"", reply=inbox)
        names = sorted([json.loads((await answers.next_msg(5)).data)["name"] for _ in range(3)])
        assert names == ["fail", "keep", "upper"]

        service = await add_service(client, ServiceConfig(name="twice", version="0.0.1"))

        async def twice(request):
            if request.data == b"no":
                await request.respond_error("400", "not that")
            else:
                await request.respond(request.data * 2)

        await service.add_endpoint(EndpointConfig(name="twice", subject="chat.service.twice", handler=twice))
        await client.flush()
        call(a, 1, "twice", "ab")
        await becomes(said(a, "^reply 1 AHOY_OK 4 abab$"))
        call(a, 2, "twice", "no")
        await becomes(said(a, "^reply 2 AHOY_ERR_FAILED 8 not that$"))
        await service.stop()
        await client.close()


def said(at, pattern):
    async def holds():
        return at.said(pattern) or None
    return holds
