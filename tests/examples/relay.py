"""The proxy, between real clients and servers whose every move the tests make."""

import contextlib
import hashlib
import os
import signal
import socket
import struct
import tempfile
import threading

from harness import (
    CLIENTS, DEADLINE, connect, curl, equal, example, free_port, nc, read_all, resident_bytes_max, run, sending,
    wait_until,
)

BLOCK = os.urandom(1 << 20)


@contextlib.contextmanager
def relay(*ports):
    """A proxy in front of ports; gives the running program and its own port."""
    with example("proxy", "tcp://127.0.0.1:0", ",".join(f"tcp://127.0.0.1:{port}" for port in ports)) as program:
        yield program, program.port()
        equal(program.end(signal.SIGINT), (0, b"", b""))


@contextlib.contextmanager
def target():
    """A server that has not accepted yet, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        yield listener, listener.getsockname()[1]


def accept(listener):
    conn = listener.accept()[0]
    conn.settimeout(DEADLINE)
    return conn


@contextlib.contextmanager
def pair():
    """A proxy, and the client's and the target's end of one connection through it."""
    with target() as (listener, target_port), relay(target_port) as (program, port):
        with connect(port) as client, accept(listener) as server:
            yield program, client, server


def flood(conn, data):
    """Sends until the other side takes no more; tells how much that was."""
    sent = 0
    conn.settimeout(1)  # no progress for so long: held back
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += conn.send(data[sent : sent + (1 << 16)])
    conn.settimeout(DEADLINE)
    assert sent < len(data), f"took all of {sent} bytes"
    return sent


def reset(conn):
    """Closes as for a program that is killed: with a reset instead of the end."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


@contextlib.contextmanager
def reset_expected():
    try:
        yield
    except ConnectionResetError:
        return
    raise AssertionError("no reset")


def proxy_relays_for_every_client():
    """The client ends its side and waits: the target sees the end, and the way back is still open."""
    clients = [client for client in CLIENTS if client is not curl]  # curl never ends its side

    def count(listener):
        for _ in clients:
            with accept(listener) as conn:
                data = read_all(conn)
                conn.sendall(b"%d bytes: %s" % (len(data), data))

    with target() as (listener, target_port), relay(target_port) as (_, port):
        thread = threading.Thread(target=count, args=(listener,))
        thread.start()
        for client in clients:
            equal(client(port, b"over and over"), b"13 bytes: over and over")
        thread.join()


def proxy_stands_in_front_of_hello():
    with example("hello", f"tcp://127.0.0.1:{(target_port := free_port())}", "Ahoy!") as server:
        server.wait_listening(target_port)
        with relay(target_port) as (_, port):
            for client in CLIENTS:
                equal(client(port), b"Ahoy!")


def proxy_relays_between_unix_sockets():
    with tempfile.TemporaryDirectory() as folder:
        front, back = os.path.join(folder, "front"), os.path.join(folder, "back")
        with example("echo", f"unix:{back}") as server, example("proxy", f"unix:{front}", f"unix:{back}") as program:
            equal((server.address(), program.address()), (f"unix:{back}", f"unix:{front}"))
            equal(run("nc", "-N", "-U", front, data=b"through two files"), b"through two files")
            equal(program.end(signal.SIGTERM), (0, b"", b""))


def proxy_passes_on_the_end_of_the_target():
    with pair() as (_, client, server):
        server.sendall(b"nothing more to say")
        server.shutdown(socket.SHUT_WR)
        equal(read_all(client), b"nothing more to say")
        client.sendall(b"but I have")  # that way is still open
        client.shutdown(socket.SHUT_WR)
        equal(read_all(server), b"but I have")


def proxy_queues_until_the_target_answers():
    """Somebody else fills the target's queue, so that it does not answer; what the client says is kept for it."""
    def is_asking():
        with open("/proc/net/tcp", encoding="ascii") as table:
            return f":{target_port:04X} 02 " in table.read()  # 02: SYN_SENT

    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.settimeout(DEADLINE)
        target_port = listener.getsockname()[1]
        first.connect(("127.0.0.1", target_port))
        with relay(target_port) as (_, port), connect(port) as client:
            client.sendall(b"early")
            client.shutdown(socket.SHUT_WR)
            wait_until(is_asking)
            accept(listener).close()
            with accept(listener) as conn:
                equal(read_all(conn), b"early")


def proxy_stays_small_between_fast_and_slow():
    """64 MiB each way at once, and nobody reads until both senders are held back."""
    data = BLOCK * 64

    def digest(conn, digests):
        sha = hashlib.sha256()
        for piece in iter(lambda: conn.recv(1 << 16), b""):
            sha.update(piece)
        digests.append(sha.digest())

    with pair() as (program, *ends):
        before, digests = resident_bytes_max(program.process), []
        sent = [flood(end, data) for end in ends]
        with contextlib.ExitStack() as stack:
            readers = [threading.Thread(target=digest, args=(end, digests)) for end in ends]
            for reader in readers:
                reader.start()
                stack.callback(reader.join)
            for end, end_sent in zip(ends, sent):
                stack.enter_context(sending(end, data[end_sent:]))
        equal(digests, [hashlib.sha256(data).digest()] * 2)
        grown = resident_bytes_max(program.process) - before
        assert grown < 8 << 20, f"grew by {grown} bytes"


def proxy_delivers_what_a_client_has_sent_that_is_gone():
    with pair() as (_, client, server):
        sent = flood(client, BLOCK * 64)
        client.close()
        equal(hashlib.sha256(read_all(server)).digest(), hashlib.sha256((BLOCK * 64)[:sent]).digest())


def proxy_delivers_what_a_target_has_sent_that_is_gone():
    with pair() as (_, client, server):
        sent = flood(server, BLOCK * 64)
        server.close()
        equal(hashlib.sha256(read_all(client)).digest(), hashlib.sha256((BLOCK * 64)[:sent]).digest())


def proxy_passes_on_a_reset():
    for breaking, waiting in ((1, 2), (2, 1)):
        with pair() as ends:
            for end in ends[1:]:  # both are open for certain
                end.sendall(b"!")
            for end in ends[1:]:
                equal(end.recv(1), b"!")
            reset(ends[breaking])
            with reset_expected():
                ends[waiting].recv(65536)


def proxy_fails_over():
    with target() as (listener, target_port), relay(free_port(), target_port) as (_, port), connect(port) as client:
        with accept(listener) as server:
            server.sendall(b"I stand in")
        equal(read_all(client), b"I stand in")


def proxy_breaks_off_when_nobody_answers():
    with relay(free_port()) as (_, port):
        for _ in range(3):
            with reset_expected(), connect(port) as client:  # it may come before connect has returned
                client.recv(65536)


def proxy_keeps_nothing():
    """After 300 connections, 100 at a time, it has as few descriptors as before."""
    def descriptors():
        return len(os.listdir(f"/proc/{program.process.pid}/fd"))

    with example("echo", "tcp://127.0.0.1:0") as server, relay(server.port()) as (program, port):
        equal(nc(port, b"warm up"), b"warm up")
        before = descriptors()
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connect(port)) for _ in range(100)]
                for number, client in enumerate(clients):
                    client.sendall(b"%d" % number)
                for number, client in enumerate(clients):
                    equal(client.recv(65536), b"%d" % number)
        wait_until(lambda: descriptors() <= before)


def proxy_stops_with_connections_open():
    with target() as (listener, port), example("proxy", "tcp://127.0.0.1:0", f"tcp://127.0.0.1:{port}") as program:
        with connect(program.port()) as client, accept(listener) as server:
            client.sendall(b"last words")
            equal(server.recv(65536), b"last words")
            equal(program.end(signal.SIGINT), (0, b"", b""))
            equal((read_all(client), read_all(server)), (b"", b""))


def proxy_explains_itself():
    with example("proxy", "tcp://127.0.0.1:0") as program:
        equal(program.end(), (2, b"", b"usage: proxy LISTEN_URL TARGET_URL[,TARGET_URL...]\n"))


TESTS = (
    proxy_relays_for_every_client,
    proxy_stands_in_front_of_hello,
    proxy_relays_between_unix_sockets,
    proxy_passes_on_the_end_of_the_target,
    proxy_queues_until_the_target_answers,
    proxy_stays_small_between_fast_and_slow,
    proxy_delivers_what_a_client_has_sent_that_is_gone,
    proxy_delivers_what_a_target_has_sent_that_is_gone,
    proxy_passes_on_a_reset,
    proxy_fails_over,
    proxy_breaks_off_when_nobody_answers,
    proxy_keeps_nothing,
    proxy_stops_with_connections_open,
    proxy_explains_itself,
)
