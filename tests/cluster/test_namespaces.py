"""Hosts whose cables can be pulled (namespaces.py), and brokers on them."""

import asyncio
import socket

from namespaces import Network
from brokers import Brokers
from nodes import Node
from test_brokers import acknowledged, client_of, make_stream, texts
from waiting import scaled, wait_until

DEADLINE_S = 180


def test_cut_and_heal():
    with Network(3) as network:
        with network.inside(0):
            server = socket.create_server((network.address(0), 7000))

        def reaches(i, seconds=10):
            with network.inside(i), socket.socket() as client:
                client.settimeout(scaled(seconds))
                return client.connect_ex((network.address(0), 7000)) == 0

        with server:
            assert reaches(0) and reaches(1) and reaches(2)
            network.cut(1)
            assert not reaches(1, 0.5) and reaches(2)
            network.heal(1)
            wait_until(lambda: reaches(1, 1), "host 1 is back")
            network.cut(0)
            assert reaches(0) and not reaches(1, 0.5) and not reaches(2, 0.5)
        # Here there is no such network.
        with open("/proc/net/fib_trie", encoding="ascii") as routes:
            assert network.address(0) not in routes.read()


def test_node_in_a_host():
    with Network(2) as network, Node(*network.command(1, "cat", "/proc/net/fib_trie", "-")) as node:
        node.expect(network.address(1))
        node.send("ahoy")
        node.expect("^ahoy$")
        assert network.address(0) in network.run(0, "cat", "/proc/net/fib_trie")


def test_leader_cut_off():
    with Network(4) as network, Brokers(3, network=network) as brokers, network.inside(3):
        asyncio.run(_leader_cut_off(network, brokers))


async def _leader_cut_off(network, brokers):
    async with client_of(brokers) as client:
        stream = await make_stream(client, "S", 3)
        await acknowledged(stream, "S.x", b"before")
        leader = brokers.wait_leader("S")
        others = [i for i in range(3) if i != leader]
        network.cut(leader)
        await acknowledged(stream, "S.x", b"meanwhile")
        brokers.wait_ready(others)
        assert brokers.wait_leader("S", among=others) != leader and brokers.meta_leader(others) in others
        assert brokers.streams(leader)["S"]["state"]["messages"] == 1
        network.heal(leader)
        brokers.wait_ready()
        wait_until(lambda: all(brokers.streams(i)["S"]["state"]["messages"] == 2 for i in range(3)),
                   "all have both messages")
        assert await texts(stream, "S") == [b"before", b"meanwhile"]
