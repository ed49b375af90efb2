"""Many at once: a chat, datagrams, a feed, a collector of reports."""

import contextlib
import os
import select
import signal
import socket
import tempfile

from harness import DEADLINE, Lines, Program, connect, equal, example, resident_bytes_max


def chat_tells_everyone():
    """Three people with three programs: Python, nc and socat."""
    with example("chat", "tcp://127.0.0.1:0") as program:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(Lines(port := program.port()))
            equal(first.line(), b"Welcome.")
            first.say(b"anybody here?\n")
            equal(first.line(), f"{first.name}: anybody here?".encode())
            second = stack.enter_context(Program("nc", "127.0.0.1", str(port)))
            third = stack.enter_context(Program("socat", "-", f"TCP:127.0.0.1:{port}"))
            people, names = (first, second, third), [first.name]
            # The two connect at the same time: what the others call them is in what the first hears.
            arrivals = {first.line().decode() for _ in range(2)}
            assert all(arrival.endswith(": (comes in)") for arrival in arrivals), arrivals
            equal([second.line(), third.line()], [b"Welcome."] * 2)
            second.say(b"I am second\r\n")
            names.append(heard(first, ": I am second"))
            third.say(b"I am third\n")
            names.append(heard(first, ": I am third"))
            equal({f"{name}: (comes in)" for name in names[1:]}, arrivals)
            equal(len(set(names)), 3)
            catch_up(second, names[2], "I am third")
            catch_up(third, names[2], "I am third")
            for speaker, name in zip(people, names):
                speaker.say(b"one\ntwo\n\nthree \xf0\x9f\x9a\xa2\n")
                for person in people:
                    for words in ("one", "two", "", "three \U0001f6a2"):
                        equal(person.line().decode(), f"{name}: {words}")
            third.process.stdin.close()
            for person in (first, second):
                equal(person.line().decode(), f"{names[2]}: (leaves)")
        equal(program.end(signal.SIGTERM), (-signal.SIGTERM, b"", b""))


def heard(person, words):
    """The name of whoever says `words` next."""
    line = person.line().decode()
    assert line.endswith(words), f"{line!r} instead of {words!r}"
    return line.removesuffix(words)


def catch_up(person, name, words):
    """Reads until someone says `words`: who comes later does not hear everything."""
    while person.line().decode() != f"{name}: {words}":
        pass


def chat_cuts_long_lines():
    with example("chat", "tcp://127.0.0.1:0") as program, Lines(program.port()) as person:
        equal(person.line(), b"Welcome.")
        person.say(b"x" * 100000 + b"\n")
        line = person.line()
        equal(line, f"{person.name}: ".encode() + b"x" * (1023 - len(person.name) - 2))


def udp_echo_answers_every_client():
    with example("udp_echo", "udp://127.0.0.1:0") as program:
        port = program.port()
        with Program("nc", "-u", "127.0.0.1", str(port)) as nc:
            nc.say(b"over nc\n")
            equal(nc.line(), b"over nc")
        with Program("socat", "-", f"UDP:127.0.0.1:{port}") as socat:
            socat.say(b"over socat\n")
            equal(socat.line(), b"over socat")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(100)]
            for number, client in enumerate(clients):
                client.settimeout(DEADLINE)
                client.connect(("127.0.0.1", port))
                client.send(b"%d" % number)
                equal(client.recv(65536), b"%d" % number)
            for size in (1, 1400, 9000, 60000):
                data = os.urandom(size)
                clients[0].send(data)
                equal(clients[0].recv(65536), data)
            names = ["udp://127.0.0.1:%d" % client.getsockname()[1] for client in clients]
        code, out, err = program.end(signal.SIGINT)
        equal((code, err), (0, b""))
        for name in names:
            equal(out.decode().count(f"{name} says something\n"), 1)
            equal(out.decode().count(f"{name} is let go\n"), 1)


def udp_echo_listens_on_a_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        path, mine = os.path.join(folder, "echo"), os.path.join(folder, "mine")
        with example("udp_echo", f"unixgram:{path},udp://127.0.0.1:0") as program:
            equal(program.address(), f"unixgram:{path}")
            with Program("socat", "-", f"UNIX-SENDTO:{path},bind={mine}") as socat:
                socat.say(b"over a file\n")
                equal(socat.line(), b"over a file")
            equal(program.line(), b"unixgram: says something")
            equal(program.end(signal.SIGINT)[0], 0)
        assert not os.path.exists(path), "left its socket behind"


def feed_reaches_everyone_in_order():
    with example("feed", "tcp://127.0.0.1:0") as program:
        port, number = program.port(), 0
        with (
            Lines(port) as first,
            Program("nc", "-d", "127.0.0.1", str(port)) as second,
            Program("socat", "-u", f"TCP:127.0.0.1:{port}", "-") as third,
        ):
            streams = {first.reader: first, second.process.stdout: second, third.process.stdout: third}
            waiting = set(streams)
            while waiting:  # until the last one has joined
                program.say(b"%d\n" % number)
                number += 1
                waiting.difference_update(select.select(list(waiting), [], [], 0.01)[0])
            for number in range(number, number + 1000):
                program.say(b"%d\n" % number)
            program.process.stdin.close()
            for stream in streams:
                heard_numbers = [int(line) for line in stream]  # until the end
                equal(heard_numbers, list(range(heard_numbers[0], number + 1)))
        equal(program.process.wait(), 0)


def feed_lets_go_who_does_not_read():
    with example("feed", "tcp://127.0.0.1:0") as program:
        port, block, sent = program.port(), b"x" * 10000 + b"\n", 0
        before = resident_bytes_max(program.process)
        with Lines(port) as eager, connect(port) as lazy:
            waiting = {eager.socket, lazy}
            while waiting:
                program.say(b"first\n")
                waiting.difference_update(select.select(list(waiting), [], [], 0.01)[0])
            program.say(b"second\n")
            while eager.line() != b"second":
                pass
            gone = select.poll()
            gone.register(lazy, select.POLLRDHUP)
            while not gone.poll(0):  # the eager one has each block before the next is fed
                program.say(block)
                equal(eager.line(), block[:-1])
                sent += len(block)
                assert sent < 1 << 30, "never let go"
            program.say(b"still here\n")
            equal(eager.line(), b"still here")
        grown = resident_bytes_max(program.process) - before
        assert grown < 16 << 20, f"grew by {grown} bytes"


def collect_writes_and_shows_reports():
    with example("collect", "udp://127.0.0.1:0,tcp://127.0.0.1:0?framing=lines") as program:
        reports, watchers = (int(program.address().split("?")[0].rsplit(":", 1)[1]) for _ in range(2))
        with Lines(watchers) as watcher, Program("nc", "-u", "127.0.0.1", str(reports)) as reporter:
            watcher.say(b"let us see\n")  # its own line comes back: it has joined
            equal(watcher.line(), b"let us see")
            reporter.say(b"something happened\n")
            equal(watcher.line(), b"something happened")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as burst:
                burst.connect(("127.0.0.1", reports))
                for number in range(500):
                    burst.send(b"report %d" % number)
                    equal(watcher.line(), b"report %d" % number)
        code, out, err = program.end(signal.SIGINT)
        equal((code, err), (0, b""))
        expected = ["let us see", "something happened", *(f"report {number}" for number in range(500))]
        equal(out.decode().splitlines(), expected)


TESTS = (
    chat_tells_everyone,
    chat_cuts_long_lines,
    udp_echo_answers_every_client,
    udp_echo_listens_on_a_unix_socket,
    feed_reaches_everyone_in_order,
    feed_lets_go_who_does_not_read,
    collect_writes_and_shows_reports,
)
