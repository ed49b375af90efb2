"""One client and its server: asking, framing, timers, work that takes long, staying connected."""

import contextlib
import os
import signal
import socket
import struct
import tempfile
import time

from harness import (
    DEADLINE, Lines, connect, equal, example, free_port, nc, read_all, resident_bytes_max, sending,
)


def client_asks_and_prints():
    with example("hello", f"tcp://127.0.0.1:{(port := free_port())}", "Ahoy!") as server:
        server.wait_listening(port)
        equal(asked(f"tcp://127.0.0.1:{port}", "hi"), (0, b"Ahoy!\n", b""))
    with example("framed_echo", "tcp://127.0.0.1:0,tcp://127.0.0.1:0?framing=lines") as server:
        length, lines = server.address(), server.address().split("?")[0]
        equal(asked("--framing", "length", length, "over", "and over"), (0, b"over and over\n", b""))
        equal(asked("--framing", "length", length), (0, b"\n", b""))
        equal(asked("--framing=lines", "--timeout=5000", lines, "line"), (0, b"line\n", b""))
        big = "x" * 60000
        equal(asked("--framing", "length", length, big), (0, big.encode() + b"\n", b""))


def client_fails_over():
    with example("framed_echo", "tcp://127.0.0.1:0?framing=lines") as server:
        urls = f"tcp://127.0.0.1:{free_port()},unix:/nowhere/a.sock,{server.address().split('?')[0]}"
        equal(asked("--framing", "lines", urls, "anybody?"), (0, b"anybody?\n", b""))


def client_tells_why_there_is_no_answer():
    code, out, err = asked(f"tcp://127.0.0.1:{free_port()}", "hi")
    equal((code, out, err.startswith(b"client: ")), (1, b"", True))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        code, out, err = asked("--timeout", "200", f"tcp://127.0.0.1:{silent.getsockname()[1]}", "hi")
        equal((code, out, err.startswith(b"client: ")), (1, b"", True))
        assert time.monotonic() - began >= 0.2, "gave up too early"


def client_refuses_a_wrong_command_line():
    url = "tcp://127.0.0.1:1"
    for arguments in (
        (), ("--what", url), (url, "x" * 70000),
        ("--framing", "websocket", url), ("--framing", "", url),
        *(("--timeout", wrong, url) for wrong in ("soon", "", "-1", "0", "1s", "4294967296")),
    ):
        code, out, err = asked(*arguments)
        equal((code, out), (2, b""))
        assert b"usage: client " in err, err


def asked(*arguments):
    with example("client", *arguments) as program:
        return program.end()


def framed_echo_keeps_messages_whole():
    messages = [os.urandom(size) for size in (0, 1, 2, 255, 256, 65535, 65536, 1 << 20, 0, 0, 5)]
    stream = b"".join(struct.pack(">I", len(message)) + message for message in messages)
    with example("framed_echo", "tcp://127.0.0.1:0") as program:
        port = program.port()
        for piece_bytes in (1 << 16, 4093):
            with connect(port) as client, sending(client, stream, piece_bytes):
                assert read_all(client) == stream, f"other messages came back in pieces of {piece_bytes}"
        with connect(port) as client:  # byte by byte, each in a packet of its own
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            small = struct.pack(">I", 5) + b"hello" + struct.pack(">I", 0)
            for byte in small:
                client.sendall(bytes([byte]))
            client.shutdown(socket.SHUT_WR)
            equal(read_all(client), small)
        equal(program.end(signal.SIGINT), (0, b"", b""))


def framed_echo_takes_framing_from_the_url():
    urls = "tcp://127.0.0.1:0?framing=length&length_bytes=2&length_order=little,tcp://127.0.0.1:0?framing=lines"
    with example("framed_echo", urls) as program:
        ports = [int(program.address().split("?")[0].rsplit(":", 1)[1]) for _ in range(2)]
        for port, data, expected in (
            (ports[0], b"\x03\x00abc\x00\x00", b"\x03\x00abc\x00\x00"),
            (ports[1], b"abc\r\n\ndef\n", b"abc\n\ndef\n"),
        ):
            with connect(port) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                equal(read_all(client), expected)


def framed_echo_closes_on_a_lie_about_the_length():
    with example("framed_echo", "tcp://127.0.0.1:0") as program:
        port, before = program.port(), resident_bytes_max(program.process)
        with connect(port) as liar, connect(port) as honest:
            liar.sendall(struct.pack(">I", 0xFFFFFFFF) + b"that was not true")
            with contextlib.suppress(ConnectionResetError):
                equal(read_all(liar), b"")
            honest.sendall(struct.pack(">I", 2) + b"hi")
            honest.shutdown(socket.SHUT_WR)
            equal(read_all(honest), struct.pack(">I", 2) + b"hi")
        grown = resident_bytes_max(program.process) - before
        assert grown < 8 << 20, f"{grown} bytes for a message that nobody has sent"


def framed_echo_holds_back_who_does_not_read():
    message = os.urandom(60000)
    frame = struct.pack(">I", len(message)) + message
    with example("framed_echo", "tcp://127.0.0.1:0") as program, connect(program.port()) as client:
        before, sent, sent_max = resident_bytes_max(program.process), 0, 256 << 20
        client.settimeout(1)  # no progress for so long: held back
        with contextlib.suppress(TimeoutError):
            while sent < sent_max:
                sent += client.send(frame[sent % len(frame) :])
        assert sent < sent_max, f"took {sent} bytes"
        grown = resident_bytes_max(program.process) - before
        assert grown < 8 << 20, f"grew by {grown} bytes"
        client.settimeout(DEADLINE)
        count = -(-sent // len(frame))
        with sending(client, frame[sent - count * len(frame) :] if sent % len(frame) else b""):
            answer = read_all(client)
        equal(len(answer), count * len(frame))
        assert answer == frame * count, "other bytes came back"
        equal(program.end(signal.SIGINT), (0, b"", b""))


def timers_ask_and_hang_up():
    silence_ms = 300
    with example("timers", "tcp://127.0.0.1:0", str(silence_ms)) as program:
        port, began = program.port(), time.monotonic()
        with Lines(port) as client:
            equal(client.line(), b"still there?")
            assert time.monotonic() - began >= silence_ms / 1000, "asked too early"
            began = time.monotonic()
            client.say(b"yes\n")
            equal(client.line(), b"yes")
            equal(client.line(), b"still there?")  # not "bye": the answer has cancelled the timer
            equal(client.line(), b"bye")
            assert time.monotonic() - began >= 2 * silence_ms / 1000, "hung up too early"
            equal(client.reader.read(), b"")
        equal(program.end(signal.SIGINT)[::2], (0, b""))


def timers_count_once_a_second():
    began = time.monotonic()
    with example("timers", "tcp://127.0.0.1:0", "100000") as program:
        port, seen = program.port(), []

        def until(line):
            while not seen or seen[-1] != line:
                seen.append(program.line())

        with Lines(port), Lines(port):
            until(b"2 connected")
            seen.append(program.line())
            equal(seen[-1], b"2 connected")
        until(b"0 connected")
        assert time.monotonic() - began >= len(seen) - 1, f"{len(seen)} times: more than once a second"
        equal(program.end(signal.SIGINT)[::2], (0, b""))


def settings_are_kept():
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "settings.db")
        with example("settings", file) as program:
            equal(program.line(), b"(that is all there was)")
            program.say(b"color=blue\nsize=7\n")
            equal([program.line(), program.line()], [b"color=blue", b"size=7"])
            program.say(b"color=red\nsize=\n")
            equal([program.line(), program.line()], [b"color=red", b"size is gone"])
            equal(program.end(), (0, b"", b""))
        with example("settings", file) as program:
            equal([program.line(), program.line()], [b"color=red", b"(that is all there was)"])
            program.say(b"color\nsize\n")
            assert program.line().startswith(b"color=red (revision ")
            code, out, err = program.end()
            equal((code, out, err.startswith(b"size: ")), (0, b"", True))


def talk_comes_back():
    port = free_port()
    # Connections to 127.0.0.2 come from 127.0.0.1: a try at a closed port cannot meet itself.
    with example("talk", f"tcp://127.0.0.2:{port}") as program:
        equal(program.process.stderr.readline(), b"talk: The peer refused the connection: nobody listens there.\n")
        program.say(b"early\n")  # queued until somebody answers
        for words in (b"first", b"second"):
            with socket.create_server(("127.0.0.2", port)) as listener:
                listener.settimeout(DEADLINE)
                peer = listener.accept()[0]
            with peer, peer.makefile("rb") as reader:
                if words == b"first":
                    equal(reader.readline(), b"early\n")
                else:
                    program.say(b"hello again\n")
                    equal(reader.readline(), b"hello again\n")
                peer.sendall(words + b"\r\n")
                equal(program.line(), words)
                if words == b"second":
                    program.say(b"goodbye\n")
                    program.process.stdin.close()
                    equal(reader.read(), b"goodbye\n")
        equal(program.process.wait(), 0)
        err = program.process.stderr.read().decode()
        equal(err.count(f"talk: connected to tcp://127.0.0.2:{port}\n"), 2)


def offload_answers_each_in_order():
    """Numbers that take some 10 ms beside those that take none, from clients that ask at once."""
    numbers = (999997874844049, 15, 2**61, 0, 1, 7, 999999999989)
    factors = b"31622743\n3\n2\n0\n1\n7\n999999999989\n"
    question = b"".join(b"%d\r\n" % number for number in numbers)
    with example("offload", "tcp://127.0.0.1:0") as program:
        port = program.port()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(8)]
            for client in clients:
                stack.enter_context(sending(client, question))
            for client in clients:
                equal(read_all(client), factors)
        equal(nc(port, question), factors)


def offload_survives_who_does_not_wait():
    with example("offload", "tcp://127.0.0.1:0") as program:
        port = program.port()
        for _ in range(50):
            with connect(port) as client:
                client.sendall(b"1000003\n1000003\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        equal(nc(port, b"1000003\n"), b"1000003\n")


TESTS = (
    client_asks_and_prints,
    client_fails_over,
    client_tells_why_there_is_no_answer,
    client_refuses_a_wrong_command_line,
    framed_echo_keeps_messages_whole,
    framed_echo_takes_framing_from_the_url,
    framed_echo_closes_on_a_lie_about_the_length,
    framed_echo_holds_back_who_does_not_read,
    timers_ask_and_hang_up,
    timers_count_once_a_second,
    settings_are_kept,
    talk_comes_back,
    offload_answers_each_in_order,
    offload_survives_who_does_not_wait,
)
