"""Topics across nodes: everybody hears, once, in order; clients of any node, and clients of NATS that know nothing of us."""

import asyncio
import contextlib

import nats

from brokers import Brokers
from engines import most_nodes
from talkers import Talker
from waiting import scaled, wait_until

DEADLINE_S = 90


def everybody(node, topic):
    """Publishes until the others hear this node: interest takes a moment to travel."""
    def is_heard():
        node.publish(topic, f"probe-{node.name}")
        return all(other.has_heard(topic, f"probe-{node.name}") for other in node.others)

    wait_until(is_heard, f"{node.name} is heard")


def nodes_of(brokers, count, topic):
    """So many nodes (alone, there is one) of which each hears the topic, and is heard."""
    nodes = [Talker(brokers.url("chat"), node=f"n{i}") for i in range(most_nodes(brokers, count))]
    for node in nodes:
        node.subscribe(topic)
        node.others = [other for other in nodes if other is not node]
    for node in nodes:
        everybody(node, topic)
    return nodes


def test_everybody_hears_once(engine):
    with engine(3) as cluster:
        nodes = nodes_of(cluster, 3, "news")
        try:
            for number, node in enumerate(nodes):
                assert node.publish("news", f"one-{number}") == "AHOY_OK"
            for node in nodes:
                for number in range(len(nodes)):
                    wait_until(lambda: node.has_heard("news", f"one-{number}"))
            # A second one would have come before this.
            for number, node in enumerate(nodes):
                node.publish("news", f"two-{number}")
            for node in nodes:
                for number in range(len(nodes)):
                    wait_until(lambda: node.has_heard("news", f"two-{number}"))
                    assert len(node.said(f"^heard news one-{number}$")) == 1
        finally:
            for node in nodes:
                node.close()


def test_order_of_each_publisher(engine):
    with engine(3) as cluster:
        nodes = nodes_of(cluster, 2, "flood")
        count = 20000
        try:
            nodes[0].send(f"flood flood {count} 0")
            for node in nodes:
                wait_until(lambda: node.has_heard("flood", count - 1), deadline_s=30)
                heard = [int(each[1]) for each in node.said(r"^heard flood (\d+)$")]
                assert heard == list(range(count)), f"{node.name} has heard {len(heard)}"
            assert not nodes[0].said("^failed")
        finally:
            for node in nodes:
                node.close()


def test_what_was_taken_is_sent_before_the_end():
    """Far more than a socket holds, and the server stopped at once."""
    count, bytes_each = 1000, 20000

    async def hear(brokers, node):
        client = await nats.connect(brokers.urls()[0], pending_size=1 << 30)
        heard = await client.subscribe("chat.topic.flood", pending_msgs_limit=2 * count, pending_bytes_limit=1 << 30)
        await client.flush()
        node.send(f"flood flood {count} {bytes_each}")
        node.send("stop")
        numbers = []
        while len(numbers) < count:
            message = await heard.next_msg(timeout=scaled(10))
            assert len(message.data) == bytes_each
            numbers.append(int(message.data))
        await client.close()
        return numbers

    with Brokers() as brokers, Talker(brokers.url("chat")) as node:
        assert asyncio.run(hear(brokers, node)) == list(range(count))
        node.expect(f"^flooded {count}$")
        node.expect("^stopped$")


def test_too_long():
    """What the cluster's servers do not carry nobody hears, here or elsewhere."""
    with Brokers(max_payload=1000) as brokers:
        nodes = nodes_of(brokers, 2, "news")
        try:
            assert nodes[0].publish("news", "x" * 1001) == "AHOY_ERR_TOO_LONG"
            assert nodes[0].publish("news", "y" * 1000) == "AHOY_OK"
            for node in nodes:
                # What was sent before it would have come before it.
                wait_until(lambda: node.has_heard("news", "y" * 1000))
                assert not node.said("^heard news x")
                # And the links are what they were.
                assert node.metric("ahoy_cluster_reconnects_total") == 0
        finally:
            for node in nodes:
                node.close()


def test_names(engine):
    """Any bytes are a topic, each one of its own, as long as there are 255 at most."""
    topics = ["a", "A", "a.b", "a..b", ".", "=", "=41", "*", ">", "a.>", "a/b", "ä", "$SYS", "x" * 255]
    with engine() as cluster:
        nodes = nodes_of(cluster, 2, "news")
        try:
            for node in nodes:
                for topic in topics:
                    node.subscribe(topic)
            # What a node subscribes to last is known last.
            for node in nodes:
                everybody(node, topics[-1])
            for number, topic in enumerate(topics):
                assert nodes[0].publish(topic, f"text-{number}") == "AHOY_OK"
            assert nodes[0].publish("x" * 255 + "y", "no") == "AHOY_ERR_TOO_LONG"
            nodes[0].publish(topics[-1], "end")
            for node in nodes:
                wait_until(lambda: node.has_heard(topics[-1], "end"))
                heard = [each[0] for each in node.said("^heard .* text-.*$")]
                assert heard == [f"heard {topic} text-{number}" for number, topic in enumerate(topics)], heard
        finally:
            for node in nodes:
                node.close()


def test_server_takes_nothing():
    """What waits to be sent to a server that has stopped reading is bounded; when it goes on, all of that arrives."""
    with Brokers() as brokers:
        nodes = nodes_of(brokers, 2, "news")
        try:
            brokers.freeze(0)
            # Nobody has noticed yet.
            nodes[0].send("fill news 4000")
            filled, status = nodes[0].expect(r"^filled (\d+) (\w+)$").groups()
            assert status == "AHOY_ERR_AGAIN" and int(filled) >= 8192 - 100, (filled, status)
            assert nodes[0].publish("news", "no") == "AHOY_ERR_AGAIN"
            # A word in time: it was no loss.
            brokers.thaw(0)
            wait_until(lambda: nodes[0].publish("news", "end") == "AHOY_OK", "there is room again")
            wait_until(lambda: nodes[1].has_heard("news", "end"))
            heard = len(nodes[1].said("^heard news \0*$"))
            assert heard == int(filled), f"{heard} of {filled}"
            assert nodes[0].metric("ahoy_cluster_reconnects_total") == 0
            print(f"note: {filled} messages of 4000 bytes waited")
        finally:
            for node in nodes:
                node.close()


def subscriptions(brokers, subject):
    """How often clients of the first broker are subscribed to it, all in all."""
    connections = brokers.ask(0, "/connz?subs=1")["connections"]
    return sum(connection.get("subscriptions_list", []).count(subject) for connection in connections)


def test_one_subscription_for_a_topic():
    """However many connections of a node are in a topic: the cluster knows of one."""
    with Brokers() as brokers, Talker(brokers.url("chat")) as node, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for _ in range(20)]
        for client in clients:
            client.settimeout(scaled(10))
            client.sendall(b"here\n")
            # It hears itself: it is in the topic.
            assert client.makefile("rb").readline() == b"here\n"
        wait_until(lambda: subscriptions(brokers, "chat.topic.lobby") == 1,
                   lambda: f"there are {subscriptions(brokers, 'chat.topic.lobby')}")
        for number, client in enumerate(clients):
            assert subscriptions(brokers, "chat.topic.lobby") == 1
            client.close()
            wait_until(lambda: node.metric('ahoy_connections{state="open"}') == 19 - number)
        wait_until(lambda: subscriptions(brokers, "chat.topic.lobby") == 0,
                   lambda: f"there are {subscriptions(brokers, 'chat.topic.lobby')}")


def test_clients_of_different_nodes():
    with Brokers() as brokers, Talker(brokers.url("chat")) as here, Talker(brokers.url("chat")) as there:
        with here.client() as first, there.client() as second:
            first.settimeout(scaled(10))
            second.settimeout(0)
            echoes, heard = first.makefile("rb"), b""

            def is_heard():
                nonlocal heard
                first.sendall(b"hello\n")
                assert echoes.readline() == b"hello\n"
                try:
                    heard += second.recv(4096)
                except BlockingIOError:
                    pass
                return b"hello\n" in heard

            wait_until(is_heard)
            assert heard.replace(b"hello\n", b"") == b""


async def test_foreign_clients():
    with Brokers() as brokers, Talker(brokers.url("chat")) as node:
        client = await nats.connect(brokers.urls()[0])
        node.subscribe("news.sport")
        node.subscribe("two=words")
        inbox = await client.subscribe("chat.topic.>")
        await client.flush()
        assert await asyncio.to_thread(node.publish, "news.sport", "one to nil") == "AHOY_OK"
        message = await inbox.next_msg(10)
        assert (message.subject, message.data) == ("chat.topic.news.sport", b"one to nil")
        await asyncio.to_thread(node.publish, "two=words", "encoded")
        assert (await inbox.next_msg(10)).subject == "chat.topic.two=3Dwords"
        tries = 0
        while not node.has_heard("news.sport", "from outside"):
            await client.publish("chat.topic.news.sport", b"from outside")
            await client.flush()
            tries += 1
            assert tries < 10000
        await client.publish("chat.topic.two=3Dwords", b"from outside")
        await asyncio.to_thread(wait_until, lambda: node.has_heard("two=words", "from outside"))
        await client.close()


def test_clusters_do_not_meet():
    with Brokers() as brokers, Talker(brokers.url("one")) as one, Talker(brokers.url("two")) as two, \
            Talker(brokers.url("one")) as also_one:
        for node in (one, two, also_one):
            node.subscribe("news")
        one.others = [also_one]
        everybody(one, "news")
        two.publish("news", "mine")
        wait_until(lambda: two.has_heard("news", "mine"))
        assert not two.said("probe") and not one.said("mine")
