"""The greeting servers, the echo server, the program with its own loop, the mixed one, and what README shows."""

import contextlib
import os
import re
import signal
import socket
import struct
import tempfile

from harness import (
    CLIENTS, DEADLINE, MIXED, Program, connect, equal, example, free_port, nc, port_8888, python, read_all, run, socat,
)

GREETING = b"Hello from server"


def hello_greets_every_client_on_port_8888():
    with port_8888() as port, example("hello") as program:
        program.wait_listening(port)
        for client in CLIENTS:
            equal(client(port), GREETING)
        equal(program.end(signal.SIGINT), (0, b"", b""))


def hello_takes_url_and_greeting():
    with tempfile.TemporaryDirectory() as folder:
        path, port = os.path.join(folder, "hello.sock"), free_port()
        with example("hello", f"unix:{path},tcp://127.0.0.1:{port}", "Ahoy!") as program:
            program.wait_listening(port)
            equal(nc(port), b"Ahoy!")
            equal(run("nc", "-N", "-U", path), b"Ahoy!")
            equal(program.end(signal.SIGTERM), (0, b"", b""))


def hello_says_why_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with example("hello", url) as program:
            equal(program.end(), (1, b"", f"hello: bind {url}: Address already in use\n".encode()))


def original_behaves_as_the_tutorial():
    with port_8888() as port, example("original") as program:
        program.wait_listening(port)
        equal(nc(port, b"hi"), GREETING)
        equal(program.end(), (0, b"hi\nHello message sent\n", b""))


def original_fails_on_a_taken_port():
    with port_8888() as port, socket.create_server(("0.0.0.0", port)):
        with example("original") as program:
            expected = b"greet: bind tcp://0.0.0.0:8888: Address already in use\n"
            equal(program.end(), (1, b"", expected))


def original_keeps_1024_bytes():
    port, data = free_port(), bytes(range(32, 48)) * 64
    with example("original", f"tcp://127.0.0.1:{port}") as program:
        program.wait_listening(port)
        equal(python(port, data), GREETING)
        equal(program.end(), (0, data + b"\nHello message sent\n", b""))


def original_greets_who_says_nothing():
    port = free_port()
    with example("original", f"tcp://127.0.0.1:{port}") as program:
        program.wait_listening(port)
        equal(python(port, b""), GREETING)
        equal(program.end(), (0, b"\nHello message sent\n", b""))


def echo_answers_every_client():
    with example("echo", "tcp://127.0.0.1:0") as program:
        port = program.port()
        for client in (nc, socat, python):
            equal(client(port, b"over and over\n"), b"over and over\n")
        # curl never ends its side, and the server keeps the line open: read what comes, then hang up.
        command = ("curl", "--silent", "--no-buffer", f"telnet://127.0.0.1:{port}")
        with Program(*command) as client:
            client.say(b"over and over\n")
            equal(client.process.stdout.readline(), b"over and over\n")
        equal(program.end(signal.SIGINT), (0, b"", b""))


def echo_listens_on_a_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "echo.sock")
        with example("echo", f"unix:{path}") as program:
            equal(program.address(), f"unix:{path}")
            equal(run("nc", "-N", "-U", path, data=b"hi"), b"hi")
            equal(program.end(signal.SIGINT), (0, b"", b""))


def echo_holds_back_who_does_not_read():
    """Writes until the server takes no more, then reads: all of it comes back, in order."""
    block = os.urandom(65536)
    with example("echo", "tcp://127.0.0.1:0") as program, connect(program.port()) as client:
        sent, sent_max = 0, 256 << 20
        client.settimeout(1)  # no progress for so long: held back
        with contextlib.suppress(TimeoutError):
            while sent < sent_max:
                sent += client.send(block[sent % len(block) :])
        assert sent < sent_max, f"took {sent} bytes"
        client.settimeout(DEADLINE)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
        equal(len(answer), sent)
        assert answer == (block * (sent // len(block) + 1))[:sent], "other bytes came back"
        equal(program.end(signal.SIGINT), (0, b"", b""))


def greet_fd_greets_one_after_the_other():
    with example("greet_fd", "0") as program:
        port = program.port()
        for client in CLIENTS:
            equal(client(port, client.__name__.encode()), GREETING)
        said = b"nc\nsocat\ncurl\npython\n"
        equal(program.end(signal.SIGTERM), (-signal.SIGTERM, said, b""))


def greet_fd_survives_a_reset():
    with example("greet_fd", "0") as program:
        port = program.port()
        client = connect(port)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # sends a reset instead of the end
        line = program.process.stderr.readline()
        assert line.startswith(b"greet: ") and line.endswith(b"Connection reset by peer\n"), line
        equal(nc(port), GREETING)
        equal(program.end(signal.SIGTERM), (-signal.SIGTERM, b"hi\n", b""))


def own_loop_serves_keyboard_and_clients():
    with example("own_loop", "tcp://127.0.0.1:0") as program:
        port = program.port()
        with connect(port) as first, connect(port) as second:
            for client, line in ((first, b"first\n"), (second, b"second\n")):
                client.sendall(line)
                equal(program.process.stdout.readline(), line)
            program.say(b"to all\n")
            for client in (first, second):
                equal(client.makefile("rb").readline(), b"to all\n")
            equal(program.end(), (0, b"", b""))
            equal((read_all(first), read_all(second)), (b"", b""))


def own_loop_ends_with_its_input():
    with example("own_loop", "tcp://127.0.0.1:0") as program:
        program.address()
        equal(program.end(), (0, b"", b""))


def mixed_shared():
    mixed("server", needs_ahoy=True)


def mixed_static():
    mixed("server-static", needs_ahoy=False)


def mixed(name, needs_ahoy):
    path = os.path.join(MIXED, name)
    needed = run("readelf", "--dynamic", path)
    equal(b"[libahoy.so.0]" in needed, needs_ahoy)
    with Program(path, "tcp://127.0.0.1:0") as program:
        port = program.port()
        for client in (nc, python):
            equal(client(port, "straße\n".encode()), b"STRASSE\n")
        equal(program.end(signal.SIGTERM), (-signal.SIGTERM, b"", b""))


def readme_programs_compile():
    for name in ("README.md", "README.zh-TW.md"):
        with open(name, encoding="utf-8") as text:
            blocks = re.findall(r"```c\n(.*?)```", text.read(), re.DOTALL)
        programs = [block for block in blocks if "int main" in block]
        assert len(programs) >= 2, f"{name} shows {len(programs)} programs"
        for program in programs:
            strict = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only")
            run(os.environ.get("CC", "cc"), *strict, "-Iinclude", "-xc", "-", data=program.encode())


TESTS = (
    hello_greets_every_client_on_port_8888,
    hello_takes_url_and_greeting,
    hello_says_why_it_cannot_listen,
    original_behaves_as_the_tutorial,
    original_fails_on_a_taken_port,
    original_keeps_1024_bytes,
    original_greets_who_says_nothing,
    echo_answers_every_client,
    echo_listens_on_a_unix_socket,
    echo_holds_back_who_does_not_read,
    greet_fd_greets_one_after_the_other,
    greet_fd_survives_a_reset,
    own_loop_serves_keyboard_and_clients,
    own_loop_ends_with_its_input,
    mixed_shared,
    mixed_static,
    readme_programs_compile,
)
