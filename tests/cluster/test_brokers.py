"""The brokers of brokers.py, as a foreign client finds them: nats-py."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import nats
from nats.errors import Error

from authority import Authority
from brokers import Brokers, version_of
from ports import Reserved
from processes import alive
from waiting import STEP_S, becomes, scaled, wait_until

DEADLINE_S = 120


@contextlib.asynccontextmanager
async def client_of(brokers, only=None, login=None, **options):
    """A client that may use all servers, or only one of them, and looks for another within a second."""
    urls = brokers.urls(login)

    async def quiet(_):
        """Broken connections are what the tests are about."""

    client = await nats.connect(
        urls if only is None else urls[only], error_cb=quiet, connect_timeout=1, reconnect_time_wait=0.1,
        max_reconnect_attempts=-1, ping_interval=1, max_outstanding_pings=1, **options)
    try:
        yield client
    finally:
        # Not drained: it would wait for servers that are gone.
        await client.close()


async def refused(brokers, reason, **options):
    """Whether the servers, or the client itself, refuse to go on, for this reason."""
    try:
        async with client_of(brokers, allow_reconnect=False, **options):
            return False
    except (Error, ssl.SSLError) as error:
        return reason in str(error)


async def succeeds(attempt, what):
    """What the attempt returns, once it does: around an election it may be refused, or be answered by nobody although
    there is a leader."""
    errors = []

    async def once():
        try:
            return await attempt()
        except (Error, asyncio.TimeoutError) as error:
            errors.append(error)
            return None

    return await becomes(once, lambda: f"{what}: {errors[-1]!r}")


async def make_stream(client, name, replicas):
    """A stream of the subjects NAME.…, in files. It may be there already."""
    stream = client.jetstream(timeout=2)
    await succeeds(lambda: stream.add_stream(name=name, subjects=[f"{name}.>"], num_replicas=replicas, storage="file"),
                   f"stream {name}")
    return stream


async def acknowledged(stream, subject, text):
    """Publishes until it is acknowledged, and the text is there once."""
    await succeeds(lambda: stream.publish(subject, text, headers={"Nats-Msg-Id": text.decode()}), f"publish {text}")


async def texts(stream, name):
    """All messages of a stream."""

    async def read():
        state = (await stream.stream_info(name)).state
        return [(await stream.get_msg(name, seq)).data for seq in range(state.first_seq, state.last_seq + 1)]

    return await succeeds(read, f"the messages of {name}")


async def hears(publisher, subscriber):
    """One says something and the other one gets it."""
    heard = await subscriber.subscribe("news")
    await subscriber.flush()

    async def through():
        # The other server may not know of the subscription yet.
        await publisher.publish("news", b"ahoy")
        try:
            return await heard.next_msg(0.1)
        except asyncio.TimeoutError:
            return None

    assert (await becomes(through, "the news arrive")).data == b"ahoy"


async def test_one_delivers():
    with Brokers() as brokers:
        assert brokers.url("chat") == f"nats://127.0.0.1:{brokers.ports[0]['client']}/chat"
        async with client_of(brokers) as publisher, client_of(brokers) as subscriber:
            await hears(publisher, subscriber)
            await make_stream(publisher, "S", 1)
            assert brokers.leader_of("S") == 0 and brokers.leader_of("T") is None


async def test_three_deliver_to_each_other():
    with Brokers(3) as brokers:
        assert brokers.url("chat").count(",") == 2 and brokers.meta_leader() is not None
        for i in range(3):
            async with client_of(brokers, i) as publisher, client_of(brokers, (i + 1) % 3) as subscriber:
                await hears(publisher, subscriber)


async def test_without_jetstream():
    with Brokers(3, jetstream=False) as brokers:
        async with client_of(brokers, 0) as publisher, client_of(brokers, 2) as subscriber:
            await hears(publisher, subscriber)
            try:
                await publisher.jetstream(timeout=1).account_info()
                raise AssertionError("there is JetStream")
            except Error:
                pass


async def test_leader_killed():
    with Brokers(3) as brokers:
        async with client_of(brokers) as client:
            stream = await make_stream(client, "S", 3)
            before = [b"before %d" % i for i in range(100)]
            for text in before:
                await acknowledged(stream, "S.x", text)
            leader = brokers.wait_leader("S")
            begin = time.monotonic()
            brokers.kill(leader)
            assert brokers.up() == [i for i in range(3) if i != leader]
            await acknowledged(stream, "S.x", b"after")
            print(f"note: acknowledged again after {time.monotonic() - begin:.1f} s")
            assert brokers.wait_leader("S") != leader
            assert await texts(stream, "S") == [*before, b"after"]
            brokers.restart(leader)
            brokers.wait_ready()
            wait_until(lambda: brokers.streams(leader).get("S", {}).get("state", {}).get("messages") == 101,
                       "the restarted server has caught up")


async def test_meta_leader_terminated():
    with Brokers(3) as brokers:
        leader = brokers.meta_leader()
        brokers.terminate(leader)
        brokers.wait_ready()
        assert brokers.meta_leader() not in (None, leader)
        brokers.restart(leader)
        brokers.wait_ready()
        assert len(brokers.up()) == 3


async def test_one_frozen_and_thawed():
    with Brokers() as brokers:
        async with client_of(brokers) as client:
            await client.flush()
            brokers.freeze(0)
            assert brokers.up() == [] and brokers.servers[0].running
            try:
                await client.flush(timeout=0.5)
                raise AssertionError("a frozen server answered")
            except Error:
                pass
            brokers.thaw(0)
            brokers.wait_ready()
        async with client_of(brokers) as client:
            await client.flush()


async def test_leader_frozen_and_thawed():
    with Brokers(3) as brokers:
        async with client_of(brokers) as client:
            stream = await make_stream(client, "S", 3)
            await acknowledged(stream, "S.x", b"before")
            leader = brokers.wait_leader("S")
            begin = time.monotonic()
            brokers.freeze(leader)
            await acknowledged(stream, "S.x", b"meanwhile")
            print(f"note: acknowledged again after {time.monotonic() - begin:.1f} s")
            assert brokers.wait_leader("S") != leader
            brokers.thaw(leader)
            brokers.wait_ready()
            await acknowledged(stream, "S.x", b"after")
            assert await texts(stream, "S") == [b"before", b"meanwhile", b"after"]


async def test_restart_keeps_data():
    for count in (1, 3):
        with Brokers(count) as brokers:
            urls = brokers.urls()
            async with client_of(brokers) as client:
                await acknowledged(await make_stream(client, "S", count), "S.x", b"kept")
            for i in range(count):
                (brokers.kill if i % 2 else brokers.terminate)(i)
            assert brokers.up() == []
            for i in range(count):
                brokers.restart(i)
            brokers.wait_ready()
            brokers.wait_leader("S")
            assert brokers.urls() == urls
            async with client_of(brokers) as client:
                assert await texts(client.jetstream(timeout=2), "S") == [b"kept"]


async def test_tls():
    with Authority() as ours, Authority() as another, Brokers(3, tls=ours) as brokers:
        assert brokers.url("chat").startswith("tls://127.0.0.1:")
        async with client_of(brokers, 0, tls=ours.context()) as one, client_of(brokers, 1, tls=ours.context()) as two:
            await hears(one, two)
        assert await refused(brokers, "certificate verify failed", tls=another.context())


async def test_user_and_password():
    with Brokers(user="mate", password="rum and water") as brokers:
        async with client_of(brokers, login="", user="mate", password="rum and water") as client:
            await client.flush()
        assert await refused(brokers, "Authorization", login="", user="mate", password="water")
        assert await refused(brokers, "Authorization", login="")
    with Brokers(user="mate", password="rum/") as brokers:
        assert brokers.url("chat").startswith("nats://mate:rum%2F@127.0.0.1:")
    with Brokers(user="mate", password="rum") as brokers:
        async with client_of(brokers) as client:
            await client.flush()


async def test_token():
    with Brokers(token="parley") as brokers:
        assert brokers.url("chat").startswith("nats://parley@127.0.0.1:")
        async with client_of(brokers) as client:
            await client.flush()
        assert await refused(brokers, "Authorization", login="")


async def test_max_payload():
    with Brokers(max_payload=1000) as brokers:
        async with client_of(brokers) as client:
            assert client.max_payload == 1000


async def test_system_account():
    with Brokers(3, system_account=True) as brokers:
        async with client_of(brokers, 0, login="sys:sys@") as system, client_of(brokers) as client:
            gone = await system.subscribe("$SYS.ACCOUNT.APP.DISCONNECT")
            await system.flush()
            await make_stream(client, "S", 3)
            async with client_of(brokers, 0) as leaving:
                await leaving.flush()
            assert b"client_disconnect" in (await gone.next_msg(scaled(STEP_S))).data
    with Brokers(system_account=True, user="mate", password="rum") as brokers:
        async with client_of(brokers) as client:
            await make_stream(client, "S", 1)
        assert await refused(brokers, "Authorization", login="")


async def test_both_versions_start():
    assert version_of("debian") < (2, 10) and version_of("current") >= (2, 10)
    for version in ("debian", "current"):
        for count in (1, 3):
            with Brokers(count, version=version) as brokers:
                async with client_of(brokers) as client:
                    assert client.connected_server_version.major == 2
                    assert client.connected_server_version.minor == version_of(version)[1]
                    await acknowledged(await make_stream(client, "S", count), "S.x", b"kept")


def test_bad_configuration_is_said():
    try:
        with Brokers(extra="no_such_option: 1"):
            raise AssertionError("it has started")
    except AssertionError as error:
        assert "server n1 ended with 1" in str(error), error


def test_reserved_port():
    port = Reserved()
    for _ in range(2):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port.number)) != 0
        with socket.create_server(("127.0.0.1", port.number)) as server:
            with socket.create_connection(("127.0.0.1", port.number)):
                server.accept()[0].close()
    port.close()


def test_nothing_is_left_after_an_error():
    try:
        with Brokers(3) as brokers:
            servers, folder = list(brokers.servers), brokers.folder
            brokers.freeze(1)
            raise KeyError
    except KeyError:
        pass
    assert not os.path.exists(folder) and not any(server.running for server in servers)


_KILLED = """
import signal
from brokers import Brokers
from nodes import Node
brokers = Brokers(3)
brokers.start()
brokers.freeze(2)
print(*[server.pid for server in brokers.servers], Node("cat").pid, brokers.folder, flush=True)
signal.pause()
"""


def test_nothing_survives_a_killed_test():
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    with subprocess.Popen([sys.executable, "-B", "-c", _KILLED], stdout=subprocess.PIPE, env=environment) as test:
        *pids, folder = test.stdout.readline().decode().split()
        assert len(pids) == 4 and all(os.path.exists(f"/proc/{pid}") for pid in pids)
        test.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), "they are killed as well")
    # The runner removes it with its own; here nobody does.
    subprocess.run(["rm", "-r", folder], check=True)
